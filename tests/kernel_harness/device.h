// As much of CUDA as the kernels use, on the host: grids run block by block, the threads of a block as fibres that
// __syncthreads() switches between. Shared memory is poisoned with NaN before every block, so that a read of what no
// thread wrote shows; a barrier that some threads leave out is an error, and so is an access to a protected page.
#pragma once

// Few headers, so that one of some hundred variants compiles in a tenth of a second.
#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

#define __device__
#define __global__
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("shared_memory")))

// the compiler's own functions under the names that CUDA overloads
static inline float exp(float x) { return __builtin_expf(x); }
static inline double exp(double x) { return __builtin_exp(x); }
static inline float expm1(float x) { return __builtin_expm1f(x); }
static inline double expm1(double x) { return __builtin_expm1(x); }
static inline float log1p(float x) { return __builtin_log1pf(x); }
static inline double log1p(double x) { return __builtin_log1p(x); }
static inline float tanh(float x) { return __builtin_tanhf(x); }
static inline double tanh(double x) { return __builtin_tanh(x); }
static inline float fabs(float x) { return __builtin_fabsf(x); }
static inline double fabs(double x) { return __builtin_fabs(x); }

struct Dim3 {
    unsigned x = 1, y = 1, z = 1;
};
static Dim3 gridDim, blockDim, blockIdx, threadIdx;

static inline float __uint_as_float(unsigned bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}

// IEEE 754 binary16, by arithmetic on the value: exact, and independent of the bit tricks of other implementations.
static inline float half_to_float(unsigned short bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double magnitude = exponent == 31  ? (fraction ? __builtin_nan("") : __builtin_inf())
                             : exponent == 0 ? __builtin_ldexp(fraction, -24)
                                             : __builtin_ldexp(1024 + fraction, exponent - 25);
    return static_cast<float>(bits & 0x8000 ? -magnitude : magnitude);
}

static inline unsigned short float_to_half(float value) {
    const unsigned short sign = __builtin_signbit(value) ? 0x8000 : 0;
    if (value != value) return 0x7fff;
    const double magnitude = fabs(static_cast<double>(value));
    if (magnitude >= 65520) return sign | 0x7c00;  // what would round up to 2^16
    int exponent;
    __builtin_frexp(magnitude, &exponent);
    if (exponent < -13) exponent = -13;  // subnormal numbers share the smallest exponent
    double steps = __builtin_nearbyint(__builtin_ldexp(magnitude, 11 - exponent));  // ties to even
    if (magnitude != 0 && steps == 2048) steps = 1024, exponent++;
    if (steps < 1024) return sign | static_cast<unsigned short>(steps);
    return sign | static_cast<unsigned short>((exponent + 14) << 10 | (static_cast<int>(steps) - 1024));
}

// the linker defines them where there is shared memory
extern "C" char __start_shared_memory[] __attribute__((weak)), __stop_shared_memory[] __attribute__((weak));
static ucontext_t scheduler;

static inline void poison_shared_memory() {
    __builtin_memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
}

struct Fibre {
    ucontext_t context;
    alignas(16) char stack[1 << 16];
    bool done;
};
static Fibre fibres[BLOCK];
static void (*thread_body)();
static unsigned current;

static inline void __syncthreads() { swapcontext(&fibres[current].context, &scheduler); }

static void fibre_main() {
    thread_body();
    fibres[current].done = true;
}

// False where some threads ended while others waited at a barrier.
static bool run_block() {
    const unsigned threads = blockDim.x;
    poison_shared_memory();
    for (unsigned i = 0; i < threads; i++) {
        Fibre& fibre = fibres[i];
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = fibre.stack;
        fibre.context.uc_stack.ss_size = sizeof fibre.stack;
        fibre.context.uc_link = &scheduler;
        fibre.done = false;
        makecontext(&fibre.context, fibre_main, 0);
    }
    for (;;) {  // from one barrier to the next
        unsigned done = 0;
        for (unsigned i = 0; i < threads; i++) {
            // one after the other up to the barrier: what needs a barrier and has none reads poison
            current = threadIdx.x = i;
            swapcontext(&scheduler, &fibres[i].context);
            done += fibres[i].done;
        }
        if (done == threads) return true;
        if (done) return false;
    }
}

static void** arguments;

template <class T>
struct Bare {
    typedef T type;
};
template <class T>
struct Bare<const T> {
    typedef T type;
};

template <int... i>
struct Sequence {};
template <int n, int... i>
struct Count : Count<n - 1, n - 1, i...> {};
template <int... i>
struct Count<0, i...> {
    typedef Sequence<i...> type;
};

template <class... A, int... i>
static inline void call(void (*kernel)(A...), Sequence<i...>) {
    kernel(*static_cast<typename Bare<A>::type*>(arguments[i])...);
}

template <class... A>
static inline void call(void (*kernel)(A...)) {
    call(kernel, typename Count<sizeof...(A)>::type());
}

static sigjmp_buf escape;

static void on_fault(int) { siglongjmp(escape, 1); }

enum Outcome { IN_ORDER, BARRIER_LEFT_OUT, ACCESS_OUTSIDE };

static Outcome run_blocks(unsigned grid, unsigned block) {
    struct sigaction action = {}, segmentation, bus;
    action.sa_handler = on_fault;
    sigaction(SIGSEGV, &action, &segmentation);
    sigaction(SIGBUS, &action, &bus);
    volatile Outcome outcome = IN_ORDER;
    gridDim.x = grid, blockDim.x = block;
    if (sigsetjmp(escape, 1)) {
        outcome = ACCESS_OUTSIDE;
    } else {
        for (blockIdx.x = 0; blockIdx.x < grid && outcome == IN_ORDER; blockIdx.x++)
            if (!run_block()) outcome = BARRIER_LEFT_OUT;
    }
    sigaction(SIGSEGV, &segmentation, nullptr);
    sigaction(SIGBUS, &bus, nullptr);
    return outcome;
}

#define HARNESS(kernel)                                                     \
    extern "C" int run_grid(unsigned grid, unsigned block, void** values) { \
        arguments = values;                                                 \
        thread_body = [] { call(kernel); };                                 \
        return run_blocks(grid, block);                                     \
    }
