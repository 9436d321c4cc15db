// Bias, activation, gain and clamp, their gradient, and the gradient of that, one pass each.
//
//     u = x + b,  a = act(u),  y = clamp(gain a)                                   ORDER 0
//     dx = dy gain act'(u) k           k = 1 where the clamp let pass, else 0      ORDER 1
//     d/d(dy) = ddx gain act'(u) k                                                 ORDER 2, both in one pass
//     d/dx    = ddx dy gain act''(u) k, or d/dy = ddx dy (d act' / d a) k
//
// act' is a function of a = y / gain, so that y is all that has to be kept (SAVED_X 0) and the second gradient is one
// to y; for swish, and where gain or slope make y ambiguous, x is kept instead (SAVED_X 1) and it is one to x.
// Tensors are dense and have one order in memory, any: the channel of element i is i / step % size.
//
// Account, float32, per element: ORDER 0 moves 8 bytes (read x, write y), ORDER 1 12 (dy and y, dx), ORDER 2 20 (ddx,
// dy, y, two results): the minimum each; halved in half precision. The bias stays in L1. Arithmetic: 1 to 3 FLOP per
// byte and two integer divisions per 16 bytes; exp and tanh some 20 more per element, far below the 20 FLOP per byte
// (H100) at which it would count; float64 transcendental functions are bound by arithmetic on consumer cards.
// Expected: 90-93 % of the copy bandwidth for tensors well beyond L2, the launch (some 5 us) below a megabyte. Not
// measured here: no GPU was at hand; tests/test_cuda_gpu.py measures it.
// Launch: 256 threads of 16 bytes (PACK elements) per load and store where all addresses are multiples of 16, at most
// some waves of blocks, each striding over the tensor; the tail is done by single elements.

#include "numbers.cuh"

#define THREADS 256
#define USES_BIAS (ORDER == 0 || SAVED_X)

enum Activation { LINEAR, RELU, LRELU, TANH, SIGMOID, ELU, SELU, SOFTPLUS, SWISH };

// Klambauer et al. 2017, appendix: the fixed point of zero mean and unit variance
#define SELU_SCALE Number(1.0507009873554804934193349852946)
#define SELU_ALPHA Number(1.6732632423543772848170429916717)

// Comparisons are written so that NaN goes where it goes in the reference: through.
__device__ inline Number activate(Number u, Number alpha) {
    switch (ACT) {
        case RELU: return u <= 0 ? Number(0) : u;
        case LRELU: return u > 0 ? u : u * alpha;
        case TANH: return tanh(u);
        case SIGMOID: return 1 / (1 + exp(-u));
        case ELU: return u > 0 ? u : expm1(u);
        case SELU: return SELU_SCALE * (u > 0 ? u : SELU_ALPHA * expm1(u));
        case SOFTPLUS: return (u > 0 ? u : Number(0)) + log1p(exp(-fabs(u)));
        case SWISH: return u / (1 + exp(-u));
        default: return u;
    }
}

// act'(u); a = act(u). But for swish only the sign of u counts, and a has the same.
__device__ inline Number slope(Number u, Number a, Number alpha) {
    switch (ACT) {
        case RELU: return u <= 0 ? Number(0) : Number(1);
        case LRELU: return u > 0 ? Number(1) : alpha;
        case TANH: return 1 - a * a;
        case SIGMOID: return a * (1 - a);
        case ELU: return u <= 0 ? a + 1 : Number(1);
        case SELU: return u <= 0 ? a + SELU_SCALE * SELU_ALPHA : SELU_SCALE;
        case SOFTPLUS: return -expm1(-a);
        case SWISH: {
            const Number s = 1 / (1 + exp(-u));
            return s * (1 + u * (1 - s));
        }
        default: return 1;
    }
}

// The derivative of gain act' by what is kept: gain act''(u) by x, d act' / d a by y. act'' = (d act' / d a) act'.
__device__ inline Number bend(Number u, Number a, Number alpha, Number gain) {
    Number by_result = 0;  // of the piecewise linear ones
    switch (ACT) {
        case TANH: by_result = -2 * a; break;
        case SIGMOID: by_result = 1 - 2 * a; break;
        case ELU:
        case SELU: by_result = u <= 0 ? Number(1) : Number(0); break;
        case SOFTPLUS: by_result = exp(-a); break;
        case SWISH: {
            const Number s = 1 / (1 + exp(-u));
            return gain * s * (1 - s) * (2 + u * (1 - 2 * s));
        }
        default: break;
    }
    return SAVED_X ? by_result * slope(u, a, alpha) * gain : by_result;
}

struct Settings {
    Number alpha, gain, inverse_gain, clamp;  // clamp: none where negative
};

#if ORDER > 0
// What the gradients need of one element: u, a, and whether the clamp let it pass.
struct Point {
    Number u, a;
    bool kept;
};

__device__ inline Point point_of(Number saved, Number bias, const Settings& s) {
#if SAVED_X
    const Number u = saved + bias, a = activate(u, s.alpha), y = a * s.gain;
    return Point{u, a, s.clamp < 0 || (y >= -s.clamp && y <= s.clamp)};
#else
    const Number a = saved * s.inverse_gain;
    return Point{a, a, s.clamp < 0 || fabs(saved) < widen(narrow(s.clamp))};  // y was rounded, so was its limit
#endif
}
#endif

#if ORDER == 0
#define OUTPUTS Stored *__restrict__ y
#define INPUTS const Stored *__restrict__ x
#define POINTERS y, x
#elif ORDER == 1
#define OUTPUTS Stored *__restrict__ dx
#define INPUTS const Stored *__restrict__ dy, const Stored *__restrict__ saved
#define POINTERS dx, dy, saved
#else
#define OUTPUTS Stored *__restrict__ grad_dy, Stored *__restrict__ grad_saved
#define INPUTS const Stored *__restrict__ ddx, const Stored *__restrict__ dy, const Stored *__restrict__ saved
#define POINTERS grad_dy, grad_saved, ddx, dy, saved
#endif

// n consecutive elements from `first`, loaded and stored as one.
template <class Piece, int n>
__device__ inline void work_on(Index first, OUTPUTS, INPUTS, const Number* __restrict__ b, Index step, Index size,
                               const Settings& s) {
    Number bias[n];
#pragma unroll
    for (int k = 0; k < n; k++) bias[k] = 0;
#if USES_BIAS
    if (b) {
        Index within = first % step, channel = first / step % size;
#pragma unroll
        for (int k = 0; k < n; k++) {
            bias[k] = b[channel];
            if (++within == step) {
                within = 0;
                if (++channel == size) channel = 0;
            }
        }
    }
#endif
#define LOAD(pointer) *reinterpret_cast<const Piece*>(pointer + first)
#define STORE(pointer) *reinterpret_cast<Piece*>(pointer + first)
#if ORDER == 0
    Piece piece = LOAD(x);
#pragma unroll
    for (int k = 0; k < n; k++) {
        Number value = activate(widen(piece.value[k]) + bias[k], s.alpha) * s.gain;
        if (s.clamp >= 0) value = value > s.clamp ? s.clamp : value < -s.clamp ? -s.clamp : value;
        piece.value[k] = narrow(value);
    }
    STORE(y) = piece;
#else
    Piece piece = LOAD(dy);
    const Piece known = LOAD(saved);
#if ORDER == 2
    const Piece outer = LOAD(ddx);
    Piece other;
#endif
#pragma unroll
    for (int k = 0; k < n; k++) {
        const Point p = point_of(widen(known.value[k]), bias[k], s);
        const Number factor = s.gain * slope(p.u, p.a, s.alpha), grad = widen(piece.value[k]);
#if ORDER == 1
        piece.value[k] = narrow(p.kept ? grad * factor : Number(0));
#else
        const Number twice = widen(outer.value[k]);
        piece.value[k] = narrow(p.kept ? twice * factor : Number(0));
        other.value[k] = narrow(p.kept ? twice * grad * bend(p.u, p.a, s.alpha, s.gain) : Number(0));
#endif
    }
#if ORDER == 1
    STORE(dx) = piece;
#else
    STORE(grad_dy) = piece;
    STORE(grad_saved) = other;
#endif
#endif
}

extern "C" __global__ void __launch_bounds__(THREADS)
    bias_act(OUTPUTS, INPUTS, const Number* __restrict__ b, Index count, Index step, Index size, Number alpha,
             Number gain, Number inverse_gain, Number clamp) {
    const Settings s{alpha, gain, inverse_gain, clamp};
    const Index thread = static_cast<Index>(blockIdx.x) * THREADS + threadIdx.x;
    const Index threads = static_cast<Index>(gridDim.x) * THREADS;
    for (Index i = thread; i < count / PACK; i += threads) work_on<Pack, PACK>(i * PACK, POINTERS, b, step, size, s);
    const Index tail = count / PACK * PACK + thread;
    if (PACK > 1 && tail < count) work_on<Single, 1>(tail, POINTERS, b, step, size, s);
}
