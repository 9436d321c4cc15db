// What follows the convolution of a synthesis layer, in one pass (StyleGAN2, section 2.2 and Appendix B):
//
//     y = clamp(gain lrelu(d[b, c] x + strength n[b or 0, pixel] + bias[c]))
//
// d demodulates; any of d, n, bias may be missing (null). x is dense, NCHW or channels last (CHANNELS_LAST).
//
// Account, float32, per element: 8 bytes (read x, write y), the minimum; the noise map adds 4 / C, being read from L2
// for all channels but one in NCHW and from L1 in channels last; d and bias stay in L1. Done by separate operations the
// same costs 8 bytes for each of demodulation, noise, bias, activation, clamp: 40. Arithmetic: 7 FLOP, less than one
// per byte, and two integer divisions per 16 bytes.
// Expected: 90-93 % of the copy bandwidth in float32, 85-90 % in half precision, where L1 serves twice as many bytes of
// noise (or of d and bias) as DRAM does of x. Not measured here: no GPU was at hand; tests/test_cuda_gpu.py does.
// Launch: 256 threads of 16 bytes (PACK elements) per load and store, where all addresses are multiples of 16 and no
// pack straddles two planes (NCHW) or two pixels (channels last): then everything but one index is common to the pack.
// Single elements otherwise. At most some waves of blocks, each striding over the tensor.

#include "numbers.cuh"

#define THREADS 256

// The numbers that belong to a pack: consecutive ones, 16 bytes at a time, or one for all.
struct Numbers {
    Number value[PACK];
};

__device__ inline Numbers consecutive(const Number* __restrict__ first) {
    constexpr int n = PACK == 1 ? 1 : 16 / sizeof(Number);
    struct alignas(n * sizeof(Number)) Piece {
        Number value[n];
    };
    Numbers all;
#pragma unroll
    for (int k = 0; k < PACK; k += n) {
        const Piece piece = *reinterpret_cast<const Piece*>(first + k);
#pragma unroll
        for (int j = 0; j < n; j++) all.value[k + j] = piece.value[j];
    }
    return all;
}

__device__ inline Numbers common(Number value) {
    Numbers all;
#pragma unroll
    for (int k = 0; k < PACK; k++) all.value[k] = value;
    return all;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    synthesis_epilogue(Stored* __restrict__ y, const Stored* __restrict__ x, const Number* __restrict__ demodulation,
                       const Number* __restrict__ noise, const Number* __restrict__ noise_strength,
                       const Number* __restrict__ bias, Index count, Index channels, Index pixels, Index noise_step,
                       Number alpha, Number gain, Number clamp) {
    // noise_step: 0 where one map serves the batch; clamp: none where negative
    const Number strength = noise ? *noise_strength : Number(0);
    const Index threads = static_cast<Index>(gridDim.x) * THREADS;
    for (Index i = static_cast<Index>(blockIdx.x) * THREADS + threadIdx.x; i < count / PACK; i += threads) {
        const Index first = i * PACK;
#if CHANNELS_LAST
        const Index c = first % channels, p = first / channels % pixels, b = first / channels / pixels;
#define ALONG_CHANNELS(pointer) consecutive(pointer)
#define ALONG_PIXELS(pointer) common(*(pointer))
#else
        const Index p = first % pixels, c = first / pixels % channels, b = first / pixels / channels;
#define ALONG_CHANNELS(pointer) common(*(pointer))
#define ALONG_PIXELS(pointer) consecutive(pointer)
#endif
        Pack pack = *reinterpret_cast<const Pack*>(x + first);
        const Numbers scale = demodulation ? ALONG_CHANNELS(demodulation + b * channels + c) : common(1);
        const Numbers shift = bias ? ALONG_CHANNELS(bias + c) : common(0);
        const Numbers grain = noise ? ALONG_PIXELS(noise + b * noise_step + p) : common(0);
#pragma unroll
        for (int k = 0; k < PACK; k++) {
            const Number u = widen(pack.value[k]) * scale.value[k] + strength * grain.value[k] + shift.value[k];
            Number value = (u > 0 ? u : u * alpha) * gain;
            if (clamp >= 0) value = value > clamp ? clamp : value < -clamp ? -clamp : value;
            pack.value[k] = narrow(value);
        }
        *reinterpret_cast<Pack*>(y + first) = pack;
    }
}
