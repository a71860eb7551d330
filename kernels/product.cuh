/* The tiled main loop of matrix products and convolutions

       c[m, n] = Σ_{l<L} a[m, l] · b[n, l]        m < M, n < N

   where a and b need not be stored as matrices. The position of an element is the sum of two
   offsets, one for its row and one for l; if it is outside the image, the element is 0. So a
   convolution is a product whose column matrix is never materialised (an implicit GEMM), and all
   ragged edges are zeros that need no code of their own. pack.cu has rounded the operands to the
   Input type and laid them out in contiguous chunks of 16 bytes: both K_MAJOR (along l) or both
   MN_MAJOR (along m and n). What is said here of an element holds for a chunk.

   A thread block computes a tile of TILE_M × TILE_N of c, in steps along l:
     - the offsets of l are computed for many steps at once, one per thread, and kept in a table:
       all divisions of the index formula happen there, or once per row;
     - cp.async copies a step's chunks to one of STAGES pipeline stages in shared memory, bypassing
       registers. Later steps are in flight while one is multiplied, so that arithmetic hides the
       latency of memory;
     - a step is multiplied by warps (mma.cuh) or, with WGMMA, by warpgroups (wgmma.cuh).

   By warps: each has SIDE × SIDE of the tile, and a step is 64 bytes of l, multiplied in pieces of
   32. The operands of a piece are loaded into registers while the previous piece is multiplied. A
   step has one barrier, and the operands of the next step's first piece are loaded right after it,
   so it lies between products that already have their operands. At 128 × 256 in bf16, with one
   block of 8 warps per multiprocessor, a step is 512 instructions m16n8k16, or 820 cycles of an
   H200's tensor cores; it takes 1,240. In that time shared memory moves 704 lines of 128 bytes, the
   L2 cache delivers 24 KB, and a scheduler issues 410 instructions, but its two warps stall: for 6
   cycles after each product before their next instruction, and for each other at the barrier.

   By warpgroups: each of two has 64 × 256 of the tile, and a step is 128 bytes of l, 1,024 cycles
   of the tensor cores at full rate. These read the operands from shared memory themselves, and
   meanwhile the threads start the copies of the step after next, 330 instructions per warp. Then
   they wait for the products of the previous step, whose stage is free once all warps have passed
   the next barrier. In this loop an H200 reaches 684 TFLOP/s on a convolution of 128 channels;
   the L2 cache delivers 33 bytes per cycle and multiprocessor, about its limit. The epilogue writes
   128 KB of c in 8-byte stores and takes a fifth of the whole time, at the speed of memory, because
   every multiprocessor writes at that moment. */
#pragma once
#include "async.cuh"
#include "wgmma.cuh"

#ifndef TILE_N
#define TILE_N 64
#endif

#ifdef WGMMA
constexpr int TILE_M = 128, THREADS = 256, I = 1, J = TILE_N / 8;
constexpr int STEP = 128 / sizeof(Input), STAGES = 4, AHEAD = 2, PAD = 0;
static_assert(TILE_N == 256 && tensor<Input>);
__device__ inline int warp_row() { return threadIdx.x / 32 * 16; }
__device__ inline int warp_column() { return 0; }
#else
constexpr int TILE_M = TILE_N < 128 ? TILE_N : 128, SIDE = TILE_M / 2;
constexpr int THREADS = 64 * (TILE_N / SIDE);
constexpr int I = SIDE / 16, J = SIDE / 8;
constexpr int STEP = 64 / sizeof(Input), STAGES = 3, AHEAD = STAGES, PAD = 8;
static_assert(TILE_N == 64 || sizeof(Real) == 4, "the sums would not fit into registers");
__device__ inline int warp_row() { return threadIdx.x / 32 % 2 * SIDE; }
__device__ inline int warp_column() { return threadIdx.x / 32 / 2 * SIDE; }
#endif

extern __shared__ __align__(1024) char memory[];

/* Where chunks come from: the offsets of a row and of an l add up to the position of a chunk. */
struct Matrix {
  typedef int Offset;
  const Input* data;

  static __device__ Offset outside() { return -(1 << 30); }
  __device__ void copy(Input* to, Offset row, Offset l) const {
    copy_async(to, data + (row + l), (row | l) >= 0);
  }
};
struct Image {  // planes of H × W pixels
  struct alignas(16) Offset { int at, h, w; };
  const Input* data;
  int H, W;

  static __device__ Offset outside() { return {0, -(1 << 29), -(1 << 29)}; }
  __device__ void copy(Input* to, Offset row, Offset l) const {
    const int h = row.h + l.h, w = row.w + l.w;
    copy_async(to, data + (row.at + l.at), (unsigned)h < (unsigned)H && (unsigned)w < (unsigned)W);
  }
};

/* The main loop's state for SIZE rows of one operand. Its tiles lie in shared memory as its chunks
   lie in global memory, K_MAJOR or MN_MAJOR. */
template <Layout LAYOUT, int SIZE, class Source> struct Operand {
  typedef typename Source::Offset Offset;
  static constexpr int EACH = LAYOUT == K_MAJOR ? CHUNK<Input> : 1;  // l's per offset
  static constexpr int OFFSETS = STEP / EACH;                   // offsets per step
  static constexpr int PLANNED = THREADS / 2 / OFFSETS;         // steps planned at once
  static constexpr int CHUNKS = (LAYOUT == K_MAJOR ? STEP : SIZE) / CHUNK<Input>;  // per row
  static constexpr int COPIES = SIZE * STEP / CHUNK<Input> / THREADS, PITCH = SIZE + PAD;
  struct Shared {
    alignas(PAD ? 16 : 1024) Input tiles[STAGES][PITCH * STEP];
    Offset offsets[THREADS];  // of l, a ring buffer
  };

  Shared& s;
  Source source;
  Offset rows[COPIES], ls[COPIES];  // of this thread's copies

  __device__ int row(int i) const { return threadIdx.x / CHUNKS + i * (THREADS / CHUNKS); }
  __device__ int column() const { return threadIdx.x % CHUNKS * CHUNK<Input>; }
  template <class F> __device__ void start(F offset) {
#pragma unroll
    for (int i = 0; i < COPIES; i++) rows[i] = offset(LAYOUT == K_MAJOR ? row(i) : column());
  }
  __device__ void load_offsets(int step) {
    const Offset* offsets = s.offsets + step * OFFSETS % THREADS;
#pragma unroll
    for (int i = 0; i < COPIES; i++) ls[i] = offsets[LAYOUT == K_MAJOR ? column() / EACH : row(i)];
  }
  __device__ void copy(int step, int i) const {
    source.copy(tile(step)(row(i), column()), rows[i], ls[i]);
  }
  __device__ auto tile(int step) const {
    Input* at = s.tiles[step % STAGES];
#ifdef WGMMA
    return Swizzled128<Input>{at, STEP};
#else
    if constexpr (LAYOUT == K_MAJOR) return Swizzled<Input>{at};
    else return Padded<Input>{at, PITCH};
#endif
  }
};

/* Which of several products of M × N this block works on, and its tile's first row and column. */
struct TileIndex {
  int which, m0, n0;
  __device__ TileIndex(int M, int N) {
    const int high = (M + TILE_M - 1) / TILE_M, wide = (N + TILE_N - 1) / TILE_N;
    which = blockIdx.x / (high * wide);
    m0 = blockIdx.x % high * TILE_M;  // blocks that run together share columns of c
    n0 = blockIdx.x / high % wide * TILE_N;
  }
};

/* A product to compute. A kernel's struct adds its offsets a_row(m), a_l(l), b_row(n), b_l(l). The
   result, c[m, n] + bias[m], is written to y[y_row(m) + y_column(n)]; if `paired`, an even column
   and the next one share 8 or 16 aligned bytes. */
template <class Source> struct Problem {
  Matrix a;
  Source b;
  int M, N, begin, end;  // l runs from begin to end
  Real* y;
  bool paired;
  const Real* bias = nullptr;
};

/* c[i][j] += the products of all steps, with AHEAD steps in flight. plan(step) fills the table of
   offsets, load_offsets(step) loads this thread's from it, copy(step, i) starts its i-th copy. */
#ifdef WGMMA
template <Layout LAYOUT, class A, class B, class Plan, class Load, class Copy>
__device__ void add_steps(Real (&c)[I][J][4], A& a, B& b, int steps, Plan plan, Load load_offsets,
                          Copy copy) {
  for (int step = 0; step < steps; step++) {
    if ((step + AHEAD) % A::PLANNED == 0) plan(step + AHEAD);
    wait_copies<AHEAD - 1>();
    fence_shared();
    __syncthreads();  // the step has arrived, and step - 2 has been multiplied
    fence_products(c[0]);
#pragma unroll
    for (int k = 0; k < 4; k++)
      multiply<LAYOUT, Input>(c[0], descriptor<LAYOUT>(a.tile(step), warp_row() / 64 * 64, k),
                              descriptor<LAYOUT>(b.tile(step), 0, k));
    commit_products();
    load_offsets(step + AHEAD);
#pragma unroll
    for (int i = 0; i < A::COPIES + B::COPIES; i++) copy(step + AHEAD, i);
    commit_copies();
    wait_products<1>(c[0]);
  }
  wait_products<0>(c[0]);
}
#else
__device__ inline auto operand(Swizzled<Input> rows, int first) {
  return KMajor<Input, Swizzled<Input>>{rows, first};
}
__device__ inline auto operand(Padded<Input> rows, int first) {
  return MNMajor<Input, Padded<Input>>{rows, first};
}

template <Layout LAYOUT, class A, class B, class Plan, class Load, class Copy>
__device__ void add_steps(Real (&c)[I][J][4], A& a, B& b, int steps, Plan plan, Load load_offsets,
                          Copy copy) {
  const int row = warp_row(), column = warp_column();
  FragmentA<Input, I> a_frag, next;
  FragmentB<Input, J> b_frag;
  constexpr int DEPTH = FragmentB<Input, J>::DEPTH;
  static_assert(A::COPIES + B::COPIES <= J);

  wait_copies<AHEAD - 1>();
  __syncthreads();
  a_frag.load(operand(a.tile(0), row), 0);
#pragma unroll
  for (int j = 0; j < J; j++) b_frag.load(operand(b.tile(0), column), j, 0);
#pragma unroll 1
  for (int step = 0; step < steps; step++) {
    if ((step + AHEAD) % A::PLANNED == 0) plan(step + AHEAD);
#pragma unroll 1
    for (int k = DEPTH; k < STEP; k += DEPTH) {
      next.load(operand(a.tile(step), row), k);
      multiply(c, a_frag, b_frag, [&](int j) { b_frag.load(operand(b.tile(step), column), j, k); });
      a_frag = next;
    }
    wait_copies<AHEAD - 2>();
    __syncthreads();  // the next step has arrived, and this one has been read
    next.load(operand(a.tile(step + 1), row), 0);
    load_offsets(step + AHEAD);
    multiply(c, a_frag, b_frag, [&](int j) {
      b_frag.load(operand(b.tile(step + 1), column), j, 0);
      if (j < A::COPIES + B::COPIES) copy(step + AHEAD, j);
    });
    a_frag = next;
    commit_copies();
  }
}
#endif

template <Layout LAYOUT, class P>
__device__ void product(const P& p, TileIndex place) {
  if (place.n0 >= p.N) return;
  typedef decltype(p.b) Source;
  typedef Operand<LAYOUT, TILE_M, Matrix> A;
  typedef Operand<LAYOUT, TILE_N, Source> B;
  struct Shared { typename A::Shared a; typename B::Shared b; };
  Shared& s = *(Shared*)memory;

  A a{s.a, p.a};
  B b{s.b, p.b};
  a.start([&](int m) { return place.m0 + m < p.M ? p.a_row(place.m0 + m) : Matrix::outside(); });
  b.start([&](int n) { return place.n0 + n < p.N ? p.b_row(place.n0 + n) : Source::outside(); });

  auto plan = [&](int step) {  // half of the threads for a, half for b
    const int slot = step * A::OFFSETS + threadIdx.x % (THREADS / 2), l = p.begin + slot * A::EACH;
    if (threadIdx.x < THREADS / 2)
      s.a.offsets[slot % THREADS] = l < p.end ? p.a_l(l) : Matrix::outside();
    else
      s.b.offsets[slot % THREADS] = l < p.end ? p.b_l(l) : Source::outside();
  };
  auto load_offsets = [&](int step) { a.load_offsets(step), b.load_offsets(step); };
  auto copy = [&](int step, int i) {
    if (i < A::COPIES) a.copy(step, i);
    else b.copy(step, i - A::COPIES);
  };
  for (int step = 0; step < AHEAD; step += A::PLANNED) plan(step);
  __syncthreads();
#pragma unroll 1
  for (int step = 0; step < AHEAD; step++) {
    load_offsets(step);
#pragma unroll
    for (int i = 0; i < A::COPIES + B::COPIES; i++) copy(step, i);
    commit_copies();
  }
  Real c[I][J][4] = {};
  add_steps<LAYOUT>(c, a, b, (p.end - p.begin + STEP - 1) / STEP, plan, load_offsets, copy);
  wait_copies<0>();

  Real* rows[2 * I];
#pragma unroll
  for (int i = 0; i < 2 * I; i++) {
    const int m = place.m0 + warp_row() + row_of(i / 2, i % 2 * 2);
    rows[i] = m < p.M ? p.y + p.y_row(m) : nullptr;
    const Real bias = m < p.M && p.bias ? p.bias[m] : 0;
#pragma unroll
    for (int j = 0; j < J; j++)
#pragma unroll
      for (int e = i % 2 * 2; e < i % 2 * 2 + 2; e++) c[i / 2][j][e] += bias;
  }
  struct alignas(2 * sizeof(Real)) Pair { Real first, second; };
#pragma unroll
  for (int j = 0; j < J; j++) {
    const int n = place.n0 + warp_column() + column_of(j, 0);
    if (n >= p.N) continue;
    const int at = p.y_column(n), next = p.paired ? at + 1 : p.y_column(n + 1);
#pragma unroll
    for (int i = 0; i < 2 * I; i++) {
      if (!rows[i]) continue;
      const Pair sums = {c[i / 2][j][i % 2 * 2], c[i / 2][j][i % 2 * 2 + 1]};
      if (p.paired) {
        *(Pair*)&rows[i][at] = sums;
      } else {
        rows[i][at] = sums.first;
        if (n + 1 < p.N) rows[i][next] = sums.second;
      }
    }
  }
}
