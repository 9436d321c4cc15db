// upfirdn2d, correlation form: insert zeros, pad or crop, filter, decimate, in one pass.
//
//     y[b, c, p, q] = sum_{j, i} f[j, i] z[b, c, p Dy + j - y0, q Dx + i - x0]
//     z[v, u] = x[v / Uy, u / Ux] where both divide and lie inside the image, else 0
//
// The inserted zeros are never made nor multiplied: an output of phase p = (row mod U) meets only the taps
// j = (-p mod U) + k U, and those read consecutive pixels.
//
// Two kernels, chosen by the launcher. Compiled with TILE_*, a block makes a TILE_C x TILE_H x TILE_W piece of the
// output from a piece of the input in shared memory, everything but the sizes and strides known at compile time; each
// axis has up or down (or both) equal to 1. Compiled without, one thread makes one output, whatever the factors.
//
// Account of the tiled kernel, float32 and per output element, s = (Uy Ux) / (Dy Dx) outputs per input:
//   minimum     4 / s bytes read + 4 written: 8 for a filter, 5 for up 2, 20 for down 2.
//   moved       the input is read (1 + halo) times, the neighbours' halo nearly always out of L2. Halo in NCHW (tiles
//               of 32 x 64, 32 x 32 for down 2): 4 taps 15 % at up 1, 20 % up 2, 6 % down 2; 12 taps 63 % up 2, 34 %
//               down 2. Channels last (32 channels of 8 x 8, 16 x 16 for up 2, 4 x 8 for down 2): 89 %, 56 %, 41 %.
//               At up 2 the input is a fifth of the bytes, so that even 60 % of it is 12 % of them.
//               DRAM thus sees the minimum plus a few per cent; L2 sees the halo.
//   arithmetic  4 x 4 taps that are not separable: 16 multiply-adds per output, 4 at up 2, each with a read of shared
//               memory: about the same time as the copy in float32, half as fast in half precision.
//               Separable, multiply-adds per output: 4 taps 8 (3 at up 2, 12 at down 2), 12 taps 10 at up 2 and 40 at
//               down 2: 1 to 4 FLOP per byte, where an H100 does 20 in the time of one byte.
//   shared      4 taps at up 1: 4 reads and a write along x, 7 reads for 4 outputs along y, whose window stays in
//               registers, and a write of the tile: 8.4 accesses per output at 32 per clock and SM, i.e. 8.5e11
//               outputs/s on 132 SMs: twice what 3.35 TB/s carry in float32, and just what they carry in half
//               precision. 12 taps at down 2: 42 accesses for 20 bytes, just what they carry in float32.
//   expected    80-85 % of the copy bandwidth in float32, 65-75 % in half precision (shared memory and the 64-byte
//               requests of a warp then count; loads are not vectors, for the halo leaves no row aligned), 50-60 %
//               for the 12 taps of the augmentation. Not measured here: no GPU was at hand; tests/test_cuda_gpu.py
//               measures it.
// Launch: 256 threads, one block per tile in one flat grid; at most 44 KB of shared memory, mostly 7 to 27 KB, so that
// an H100 keeps 5 to 8 blocks on an SM (8 being all its threads).
//
// Account of the general kernel: every input element is read ceil(T / U)^2 times through L1, the taps as often; about
// 20 % of the bandwidth for 4 x 4 taps. It is there for whatever nobody runs in a loop.

#include "numbers.cuh"

#define THREADS 256
// blocks that must fit an SM, i.e. at most 64 registers a thread, 128 for float64: ptxas would rather spill a few bytes
#define MIN_BLOCKS (DTYPE == 1 ? 2 : 4)

#ifdef TILE_W

static_assert((UP_X == 1 || DOWN_X == 1) && (UP_Y == 1 || DOWN_Y == 1), "phases are compile-time only so");
static_assert(TILE_H % UP_Y == 0 && TILE_W % UP_X == 0, "a tile holds whole groups of phases");

constexpr int IN_H = ((TILE_H - 1) * DOWN_Y + TAPS_Y - 1) / UP_Y + 1;
constexpr int IN_W = ((TILE_W - 1) * DOWN_X + TAPS_X - 1) / UP_X + 1;
constexpr int GROUPS_Y = TILE_H / UP_Y;  // a group: the outputs of all phases that share their pixels
constexpr int GROUPS_X = TILE_W / UP_X;
// groups of rows per thread of the vertical pass: their window of rows is read once, as long as all threads have work
constexpr int ITEMS = GROUPS_Y * TILE_W * TILE_C;
constexpr int RUN = GROUPS_Y % 4 == 0 && ITEMS >= 4 * THREADS ? 4 : GROUPS_Y % 2 == 0 && ITEMS >= 2 * THREADS ? 2 : 1;

struct Place {
    int c, row, column;
};

// The order of a piece of `height` x `width` in shared memory is that of the tensor: neighbouring threads take
// neighbouring addresses on both sides.
template <int height, int width>
__device__ inline Place place_of(int i) {
#if CHANNELS_LAST
    return Place{i % TILE_C, i / (TILE_C * width), i / TILE_C % width};
#else
    return Place{i / (height * width), i / width % height, i % width};
#endif
}

template <int height, int width>
__device__ inline int offset_of(int c, int row, int column) {
#if CHANNELS_LAST
    return (row * width + column) * TILE_C + c;
#else
    return (c * height + row) * width + column;
#endif
}

// First tap of a phase, and the pixel it reads beyond the group's first.
__device__ constexpr int first_tap(int phase, int up) { return phase ? up - phase : 0; }
__device__ constexpr int first_pixel(int phase) { return phase ? 1 : 0; }

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
    upfirdn2d(Stored* __restrict__ y, const Stored* __restrict__ x, const Number* __restrict__ taps,
              const Number* __restrict__ taps_y, int channels, int in_h, int in_w, int out_h, int out_w, int x0, int y0,
              Index x_b, Index x_c, Index x_h, Index x_w, Index y_b, Index y_c, Index y_h, Index y_w) {
    __shared__ Number tile[TILE_C * IN_H * IN_W];
#if SEPARABLE
    __shared__ Number rows[TILE_C * IN_H * TILE_W];
#endif

    // where: the first output may lie up to U - 1 before the image, so that phases are the same in every tile
    const int shift_y = (UP_Y - y0 % UP_Y) % UP_Y, shift_x = (UP_X - x0 % UP_X) % UP_X;
    const int tiles_x = (out_w + shift_x + TILE_W - 1) / TILE_W, tiles_y = (out_h + shift_y + TILE_H - 1) / TILE_H;
    const int parts = (channels + TILE_C - 1) / TILE_C;
    int block = blockIdx.x;
    const int column0 = block % tiles_x * TILE_W - shift_x;
    block /= tiles_x;
    const int row0 = block % tiles_y * TILE_H - shift_y;
    block /= tiles_y;
    const int c0 = block % parts * TILE_C, b = block / parts;
    const int in_row0 = (row0 * DOWN_Y - y0) / UP_Y, in_column0 = (column0 * DOWN_X - x0) / UP_X;  // divide exactly
    x += b * x_b + c0 * x_c;
    y += b * y_b + c0 * y_c;

    // the piece of the input, zeros around the image
#pragma unroll 4
    for (int i = threadIdx.x; i < TILE_C * IN_H * IN_W; i += THREADS) {
        const Place p = place_of<IN_H, IN_W>(i);
        const int row = in_row0 + p.row, column = in_column0 + p.column;
        const bool inside = c0 + p.c < channels && row >= 0 && row < in_h && column >= 0 && column < in_w;
        tile[i] = inside ? widen(x[p.c * x_c + row * x_h + column * x_w]) : Number(0);
    }
    __syncthreads();

#if SEPARABLE
    {  // along x
        Number f[TAPS_X];
#pragma unroll
        for (int i = 0; i < TAPS_X; i++) f[i] = taps[i];
        for (int i = threadIdx.x; i < TILE_C * IN_H * GROUPS_X; i += THREADS) {
            const Place p = place_of<IN_H, GROUPS_X>(i);
#pragma unroll
            for (int phase = 0; phase < UP_X; phase++) {
                Number sum = 0;
#pragma unroll
                for (int t = first_tap(phase, UP_X), k = first_pixel(phase); t < TAPS_X; t += UP_X, k++)
                    sum += f[t] * tile[offset_of<IN_H, IN_W>(p.c, p.row, p.column * DOWN_X + k)];
                rows[offset_of<IN_H, TILE_W>(p.c, p.row, p.column * UP_X + phase)] = sum;
            }
        }
    }
    __syncthreads();

    // along y
    Number f[TAPS_Y];
#pragma unroll
    for (int j = 0; j < TAPS_Y; j++) f[j] = taps_y[j];
    for (int i = threadIdx.x; i < ITEMS / RUN; i += THREADS) {
        const Place p = place_of<GROUPS_Y / RUN, TILE_W>(i);
        const int column = column0 + p.column;
        if (c0 + p.c >= channels || column < 0 || column >= out_w) continue;
        Number sums[RUN][UP_Y];
#pragma unroll
        for (int run = 0; run < RUN; run++)
#pragma unroll
            for (int phase = 0; phase < UP_Y; phase++) {
                sums[run][phase] = 0;
#pragma unroll
                for (int t = first_tap(phase, UP_Y), k = first_pixel(phase); t < TAPS_Y; t += UP_Y, k++)
                    sums[run][phase] +=
                        f[t] * rows[offset_of<IN_H, TILE_W>(p.c, (p.row * RUN + run) * DOWN_Y + k, p.column)];
            }
#pragma unroll
        for (int run = 0; run < RUN; run++)
#pragma unroll
            for (int phase = 0; phase < UP_Y; phase++) {
                const int row = row0 + (p.row * RUN + run) * UP_Y + phase;
                if (row >= 0 && row < out_h) y[p.c * y_c + row * y_h + column * y_w] = narrow(sums[run][phase]);
            }
    }
#else
    Number f[TAPS_Y * TAPS_X];
#pragma unroll
    for (int i = 0; i < TAPS_Y * TAPS_X; i++) f[i] = taps[i];
    for (int i = threadIdx.x; i < TILE_C * GROUPS_Y * GROUPS_X; i += THREADS) {
        const Place p = place_of<GROUPS_Y, GROUPS_X>(i);
        if (c0 + p.c >= channels) continue;
#pragma unroll
        for (int phase_y = 0; phase_y < UP_Y; phase_y++)
#pragma unroll
            for (int phase_x = 0; phase_x < UP_X; phase_x++) {
                Number sum = 0;
#pragma unroll
                for (int t = first_tap(phase_y, UP_Y), j = first_pixel(phase_y); t < TAPS_Y; t += UP_Y, j++)
#pragma unroll
                    for (int s = first_tap(phase_x, UP_X), k = first_pixel(phase_x); s < TAPS_X; s += UP_X, k++)
                        sum += f[t * TAPS_X + s] *
                               tile[offset_of<IN_H, IN_W>(p.c, p.row * DOWN_Y + j, p.column * DOWN_X + k)];
                const int row = row0 + p.row * UP_Y + phase_y, column = column0 + p.column * UP_X + phase_x;
                if (row >= 0 && row < out_h && column >= 0 && column < out_w)
                    y[p.c * y_c + row * y_h + column * y_w] = narrow(sum);
            }
    }
#endif
}

#else

// Smallest t >= 0 for which v + t is a multiple of `up`; v may be negative.
__device__ inline Index steps_to_multiple(Index v, int up) {
    const Index rest = v % up;
    return rest > 0 ? up - rest : -rest;
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
    upfirdn2d(Stored* __restrict__ y, const Stored* __restrict__ x, const Number* __restrict__ taps, int channels,
              int in_h, int in_w, int out_h, int out_w, int x0, int y0, Index x_b, Index x_c, Index x_h, Index x_w,
              Index y_b, Index y_c, Index y_h, Index y_w, Index count, int up_x, int up_y, int down_x, int down_y,
              int taps_x, int taps_y) {
    const Index step = static_cast<Index>(gridDim.x) * THREADS;
    for (Index i = static_cast<Index>(blockIdx.x) * THREADS + threadIdx.x; i < count; i += step) {
#if CHANNELS_LAST
        const Index c = i % channels, column = i / channels % out_w, row = i / channels / out_w % out_h,
                    b = i / channels / out_w / out_h;
#else
        const Index column = i % out_w, row = i / out_w % out_h, c = i / out_w / out_h % channels,
                    b = i / out_w / out_h / channels;
#endif
        const Index v = row * down_y - y0, u = column * down_x - x0;
        const Index t0 = steps_to_multiple(v, up_y), s0 = steps_to_multiple(u, up_x);
        Number sum = 0;
        Index in_row = (v + t0) / up_y;
        for (Index t = t0; t < taps_y; t += up_y, in_row++) {
            if (in_row < 0 || in_row >= in_h) continue;
            Index in_column = (u + s0) / up_x;
            for (Index s = s0; s < taps_x; s += up_x, in_column++)
                if (in_column >= 0 && in_column < in_w)
                    sum += taps[t * taps_x + s] * widen(x[b * x_b + c * x_c + in_row * x_h + in_column * x_w]);
        }
        y[b * y_b + c * y_c + row * y_h + column * y_w] = narrow(sum);
    }
}

#endif
