/* What attention.cu does with a block's rows and tiles. `each` hides the loops over a lane's part
   of a tile, which are unrolled so that this part stays in registers.

   Rows of HEAD numbers of the Input type are contiguous in global memory. In shared memory 16 bytes
   of padding follow each, so that neither reading a chunk of 8 rows at once nor the lanes' copies
   cause bank conflicts. With WGMMA (bf16, heads of 64) there is a swizzle instead of padding, and
   the four warps of a warpgroup multiply together (wgmma.cuh). */
#pragma once
#include "async.cuh"
#include "wgmma.cuh"

#ifndef HEAD
#define HEAD 64
#endif

constexpr int BYTES = HEAD * sizeof(Input);  // per row
#ifdef WGMMA
constexpr int WARPS = 4, I = 1, PRODUCT_ROWS = 64;
constexpr int BLOCKS = 4, BLOCKS_OF_KEYS = 3;  // per multiprocessor, so that their work overlaps
static_assert(HEAD == 64 && sizeof(Input) == 2);
#else
constexpr int WARPS = BYTES > 256 ? 2 : 4, I = tensor<Input> && BYTES <= 128 ? 2 : 1;
constexpr int PRODUCT_ROWS = 16 * I, BLOCKS = 1, BLOCKS_OF_KEYS = 1;
#endif
constexpr int ROWS = 16 * I * WARPS, THREADS = 32 * WARPS;
constexpr int FIT = (tensor<Input> ? 8192 : 4096) / BYTES;  // rows of a tile
constexpr int COLUMNS = FIT < 16 ? 16 : FIT > 64 ? 64 : FIT;
constexpr int CHUNKS = HEAD / CHUNK<Input>, WIDE = HEAD + CHUNK<Input>;
constexpr int NARROW = COLUMNS + CHUNK<Input>;
constexpr Real LOG2E = 1.44269504088896340736, LN2 = 1 / LOG2E;
static_assert(HEAD * sizeof(Real) <= 512, "sums would not fit into registers");
extern __shared__ __align__(1024) char memory[];

typedef Real Sums[I][HEAD / 8][4];

/* Initial values of the accumulators in the backward pass, for the scores of a query and for their
   gradients: −lse · log2 e and −δ. */
struct Init { Real score, slope; };

/* COUNT rows in shared memory. */
template <int COUNT> struct Tile {
#ifdef WGMMA
  alignas(1024) Input rows[COUNT][HEAD];
  __device__ Swizzled128<Input> place() { return {rows[0], COUNT}; }
#else
  Input rows[COUNT][WIDE];
  __device__ Padded<Input> place() { return {rows[0], WIDE}; }
#endif
};

template <int OWN> struct Shared {
  Tile<ROWS> own[OWN];
  Tile<COLUMNS> other[2][2];  // double buffer: even and odd tiles of two matrices
  Init init[2][COLUMNS];

  /* The warp's part of the buffer that follows this struct without tensor cores (see operand). */
  __device__ Input* part(int number) {
    return (Input*)(this + 1) + (number * ROWS + threadIdx.x / 32 * 16) * NARROW;
  }
};

#ifdef __CUDACC__
__device__ inline float power(float x) {  // 2^x, to 2 units in the last place; 0 below 2^-126
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline double power(double x) { return exp2(x); }
#else
inline Real power(Real x) { return std::exp2(x); }
#endif

template <class F>
__device__ void each(F f) {  // f(i, half): rows row_of(i, 2 · half)
#pragma unroll
  for (int i = 0; i < I; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) f(i, half);
}

template <int J, class F>
__device__ void each(Real (&c)[I][J][4], F f) {  // f(x, i, j, e): at row_of(i, e), column_of(j, e)
#pragma unroll
  for (int i = 0; i < I; i++)
#pragma unroll
    for (int j = 0; j < J; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) f(c[i][j][e], i, j, e);
}

__device__ inline Real row_reduce(Real x, bool sum) {  // the sum or maximum over a row's four lanes
#pragma unroll
  for (int bits = 1; bits < 4; bits *= 2) {
    const Real other = __shfl_xor_sync(~0u, x, bits);
    x = sum ? x + other : max(x, other);
  }
  return x;
}

/* Start copying rows `first`, `first` + 1, … of a matrix with `rows` rows, zeros beyond them. */
template <int count>
__device__ void fetch(Tile<count>& to, const Input* from, int first, int rows) {
  constexpr int AT_ONCE = THREADS / CHUNKS;
  static_assert(count % AT_ONCE == 0);
  const int row = threadIdx.x / CHUNKS, column = threadIdx.x % CHUNKS * CHUNK<Input>;
  from += (long long)(first + row) * HEAD + column;
#pragma unroll
  for (int i = 0; i < count; i += AT_ONCE)
    copy_async(to.place()(row + i, column), from + i * HEAD, first + row + i < rows);
}

/* After this, what was fetched may be read, and what was read may be overwritten. */
__device__ inline void arrive() {
  commit_copies();
  wait_copies<0>();
#ifdef WGMMA
  fence_shared();
#endif
  __syncthreads();
}

/* A left operand for the tensor cores, in registers: 16 · I rows of a warp. */
template <int STEPS> struct Fragment { unsigned words[STEPS][I][4]; };
constexpr int DEPTH = 32 / sizeof(Input);  // k's per instruction

/* The first row of the product that this warp computes, alone or with the rest of its warpgroup. */
__device__ inline int first_row() {
  return threadIdx.x / 32 * 16 * I / PRODUCT_ROWS * PRODUCT_ROWS;
}

#ifdef WGMMA
template <int OWN> __device__ auto load_fragment(Tile<ROWS>& tile) { return tile.place(); }
#else
/* A warp's own rows as a left operand, held in registers if these suffice for OWN matrices. */
template <int OWN>
__device__ auto load_fragment(Tile<ROWS>& tile) {
  const Input (*rows)[WIDE] = tile.rows + first_row();
  if constexpr (tensor<Input> && OWN * I * BYTES <= 512) {
    Fragment<HEAD / DEPTH> to;
#pragma unroll
    for (int k = 0; k < HEAD; k += DEPTH)
#pragma unroll
      for (int i = 0; i < I; i++)
        ldmatrix(to.words[k / DEPTH][i], &rows[16 * i + lane() % 16][k + lane() / 16 * DEPTH / 2]);
    return to;
  } else {
    return KMajor<Input>{rows[0], WIDE};
  }
}
#endif

/* Scores as a left operand. Once rounded, they are in the registers where the tensor cores expect
   them, provided that in tf32 an instruction's 8 columns are taken in the order 0 2 4 6 1 3 5 7.
   Without tensor cores they go through shared memory; the barrier at the end of a step keeps the
   next step from overwriting them too early. */
template <int J>
__device__ auto operand(const Real (&s)[I][J][4], Input* part) {
  if constexpr (tensor<Input>) {
    Fragment<J * 8 / DEPTH> to;
#pragma unroll
    for (int step = 0; step < J * 8 / DEPTH; step++)
#pragma unroll
      for (int i = 0; i < I; i++)
#pragma unroll
        for (int w = 0; w < 4; w++)
          if constexpr (sizeof(Input) == 2) {
            const Real* two = s[i][2 * step + w / 2] + w % 2 * 2;
            to.words[step][i][w] = round_two(two[0], two[1]);
          } else {
            Input x;
            round_to(x, s[i][step][w % 2 * 2 + w / 2]);
            to.words[step][i][w] = (const unsigned&)x;
          }
    return to;
  } else {
#pragma unroll
    for (int j = 0; j < J; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) part[row_of(0, e) * NARROW + column_of(j, e)] = s[0][j][e];
    __syncwarp();
    return KMajor<Input>{part, NARROW};
  }
}

/* c[m][n] += Σ_{k<K} a(m, k) · b[n][k], or b[k][n] if b is MN_MAJOR; b starts at row `first`.
   With WGMMA the result is available once finish(c) has returned. If several products run at once,
   call prepare(c) for the accumulators of each before the first of them: otherwise the compiler
   waits for one product before it computes the initial values of the next. */
#ifdef WGMMA
__device__ inline void prepare(Sums& c) { fence_registers(c[0]); }
template <Layout LAYOUT>
__device__ void add_product(Sums& c, Swizzled128<Input> a, Tile<COLUMNS>& b, int first, int K) {
  fence_products(c[0]);
#pragma unroll
  for (int k = 0; k < K / DEPTH; k++)
    multiply<LAYOUT, Input>(c[0], descriptor<LAYOUT>(a, first_row(), k),
                            descriptor<LAYOUT>(b.place(), first, k));
  commit_products();
}
template <Layout LAYOUT, int STEPS>
__device__ void add_product(Sums& c, Fragment<STEPS> a, Tile<COLUMNS>& b, int first, int K) {
  fence_registers(a.words);
  fence_products(c[0]);
#pragma unroll
  for (int k = 0; k < STEPS; k++)
    multiply<LAYOUT, Input>(c[0], a.words[k][0],
                            descriptor<LAYOUT>(b.place(), 0, first / DEPTH + k));
  commit_products();
}
__device__ inline void finish(Sums& c) { wait_products<0>(c[0]); }
#else
template <Layout LAYOUT, int J, int STEPS>
__device__ void add_product(Real (&c)[I][J][4], const Fragment<STEPS>& a, const Tile<COLUMNS>& b,
                            int first, int K) {
  const Input (*rows)[WIDE] = b.rows + first;
  constexpr bool SHORT = sizeof(Input) == 2;
  const Input* at =
      LAYOUT == K_MAJOR ? &rows[lane() % 8 + lane() / 16 * 8][lane() / 8 % 2 * DEPTH / 2]
      : SHORT ? &rows[lane() % 16][lane() / 16 * 8] : &rows[lane() % 4 * 2][lane() / 4];
#pragma unroll
  for (int k = 0; k < K; k += DEPTH)
#pragma unroll
    for (int j = 0; j < J; j += 2) {
      unsigned b[4];
      if constexpr (LAYOUT == K_MAJOR)
        ldmatrix(b, at + 8 * j * WIDE + k);
      else if constexpr (SHORT)
        ldmatrix_transposed(b, at + k * WIDE + 8 * j);
      else {
#pragma unroll
        for (int w = 0; w < 4; w++)
          b[w] = *(const unsigned*)&at[(k + w % 2) * WIDE + 8 * (j + w / 2)];
      }
#pragma unroll
      for (int i = 0; i < I; i++) {
        mma<Input>(c[i][j], a.words[k / DEPTH][i], b);
        mma<Input>(c[i][j + 1], a.words[k / DEPTH][i], b + 2);
      }
    }
}

template <Layout LAYOUT, int J>
__device__ void add_product(Real (&c)[I][J][4], KMajor<Input> a, const Tile<COLUMNS>& b, int first,
                            int K) {
  if constexpr (LAYOUT == MN_MAJOR)
    multiply(c, a, MNMajor<Input>{b.rows[first], WIDE}, K);
  else
    multiply(c, a, KMajor<Input>{b.rows[first], WIDE}, K);
}
template <int J> __device__ void prepare(Real (&)[I][J][4]) {}
template <int J> __device__ void finish(Real (&)[I][J][4]) {}
#endif

__device__ inline void store(Real* to, Sums& c, int first, int rows, int width) {
  each(c, [&](Real x, int i, int j, int e) {
    const int row = first + row_of(i, e), column = column_of(j, e);
    if (row < rows && column < width) to[(long long)row * width + column] = x;
  });
}

/* Which keys a query may attend to, and what is added to their scores. */
struct Mask {
  const Real* added;  // (T, S) or null
  int T, S;
  bool causal;

  /* Apply the mask to a tile of scores: queries from t0 on in its rows and keys from s0 on in its
     columns or, if TRANSPOSED, the reverse. Most tiles need neither branch. */
  template <bool TRANSPOSED, int J>
  __device__ void apply(Real (&scores)[I][J][4], int t0, int s0) const {
    const int keys = TRANSPOSED ? 16 * I : 8 * J;
    auto row = [](int i, int j, int e) { return TRANSPOSED ? column_of(j, e) : row_of(i, e); };
    auto column = [](int i, int j, int e) { return TRANSPOSED ? row_of(i, e) : column_of(j, e); };
    if (added)
      each(scores, [&](Real& x, int i, int j, int e) {
        const int t = min(t0 + row(i, j, e), T - 1), s = min(s0 + column(i, j, e), S - 1);
        x += added[(long long)t * S + s] * LOG2E;
      });
    if (s0 + keys > S || (causal && s0 + keys - 1 > t0))
      each(scores, [&](Real& x, int i, int j, int e) {
        const int t = t0 + row(i, j, e), s = s0 + column(i, j, e);
        if (s >= (causal ? min(S, t + 1) : S)) x = -INFINITY;
      });
  }
};
