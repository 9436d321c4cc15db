// Number types of the kernels: what is stored, and what it is computed in. No header is needed, neither CUDA's nor the
// host's, so that NVRTC runs without an include path. DTYPE: 0 float, 1 double, 2 half, 3 bfloat16.
// INDEX64: 1 where an offset may not fit into 31 bits.

#if INDEX64
typedef long long Index;
#else
typedef int Index;
#endif

#if DTYPE == 0 || DTYPE == 1

#if DTYPE == 0
typedef float Stored;
#else
typedef double Stored;
#endif
typedef Stored Number;
__device__ inline Number widen(Stored value) { return value; }
__device__ inline Stored narrow(Number value) { return value; }

#else

typedef float Number;
struct Stored {
    unsigned short bits;
};

#if DTYPE == 2
#ifdef __CUDACC_RTC__
__device__ inline float half_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
__device__ inline unsigned short float_to_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#endif
__device__ inline Number widen(Stored value) { return half_to_float(value.bits); }
__device__ inline Stored narrow(Number value) { return Stored{float_to_half(value)}; }
#else
// the instruction for bfloat16 came with sm_80; these few integer operations hide behind the memory everywhere
__device__ inline Number widen(Stored value) { return __uint_as_float(static_cast<unsigned>(value.bits) << 16); }
__device__ inline Stored narrow(Number value) {
    unsigned bits = __float_as_uint(value);
    if (value != value) return Stored{0x7fff};
    return Stored{static_cast<unsigned short>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};  // ties to even
}
#endif

#endif

// Elements that one load or store moves: 16 bytes where the launcher found the addresses aligned, else one element.
#ifdef PACK
struct alignas(PACK * sizeof(Stored)) Pack {
    Stored value[PACK];
};
struct Single {
    Stored value[1];
};
#endif
