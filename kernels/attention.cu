/* Scaled dot-product attention and its adjoint; the formulas stand in attention.py.

   2·B·T·S·(D + E) FLOPs forward; backward makes the scores again, twice, so that every sum has
   one owner and needs no atomics: 3.5 times that. The scores, T × S, never reach memory: a
   block owns ROWS queries (for the gradients of keys and values: keys), 16 to each of its
   warps, keeps them in shared memory, and walks over the others COLUMNS at a time. It reads
   those once for every ROWS of its own, which is all that grows with T·S.

   Forward (FlashAttention, arXiv:2205.14135), in each step:
     scores of the warp's 16 rows and 32 keys, in registers, by the product of mma.cuh; a row's lie
     in four neighbouring lanes, so two shuffles give its maximum;
     the maximum so far may grow: what the row has gathered, and its sum, shrink by e^(old − new);
     p = e^(s − new), rounded like all factors, goes through shared memory, of which each warp has a
     part of its own, to become the left factor of p · v.

   HEAD is D or E, whichever is larger, rounded up: what is beyond is zeros. */
#include "mma.cuh"

#ifndef HEAD
#define HEAD 64
#endif

constexpr int WARPS = HEAD * sizeof(Input) > 256 ? 2 : 4;  // so that shared memory suffices
constexpr int ROWS = 16 * WARPS, COLUMNS = 32, THREADS = 32 * WARPS;
constexpr int WIDE = HEAD + CHUNK<Input>, NARROW = COLUMNS + CHUNK<Input>;
static_assert(HEAD * sizeof(Real) <= 512, "sums would not fit into registers");
extern __shared__ char memory[];

typedef Real Sums[1][HEAD / 8][4];
typedef Real Scores[1][COLUMNS / 8][4];

/* Rows `first`, `first` + 1, … of a matrix with `rows` rows of `width`, zeros beyond. */
template <int count>
__device__ void load(Input (&to)[count][WIDE], const Real* from, int first, int rows, int width) {
  constexpr int CHUNKS = HEAD / CHUNK<Input>;
#pragma unroll 1
  for (int i = threadIdx.x; i < count * CHUNKS; i += THREADS) {
    const int row = i / CHUNKS, column = i % CHUNKS * CHUNK<Input>;
    const Real* source = from + (long long)(first + row) * width;
    Chunk<Input> chunk;
#pragma unroll
    for (int j = 0; j < CHUNK<Input>; j++)
      round_to(chunk.v[j], first + row < rows && column + j < width ? source[column + j] : 0);
    *(Chunk<Input>*)&to[row][column] = chunk;
  }
}

/* A warp's 16 rows of scores as the left factor of a product. The barrier with which each step
   begins keeps the next step's from coming too early. */
__device__ inline Along<Input> factor(const Scores& s, Input (*part)[NARROW]) {
#pragma unroll
  for (int j = 0; j < COLUMNS / 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) round_to(part[row_of(0, e)][column_of(j, e)], s[0][j][e]);
  __syncwarp();
  return {part[0], NARROW};
}

__device__ inline void store(Real* to, const Sums& c, int first, int rows, int width) {
#pragma unroll
  for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int row = first + row_of(0, e), column = column_of(j, e);
      if (row < rows && column < width) to[(long long)row * width + column] = c[0][j][e];
    }
}

/* What is added to the score of query t and key s before softmax: −∞ where it may not look. */
struct Mask {
  const Real* added;  // (T, S) or null
  int T, S;
  bool causal;

  __device__ Real operator()(int t, int s) const {
    if (t >= T || s >= S || (causal && s > t)) return -INFINITY;
    return added ? added[(long long)t * S + s] : 0;
  }
};

__device__ inline Real over_row(Real x, bool sum) {  // the sum or maximum of a row's four lanes
#pragma unroll
  for (int bits = 1; bits < 4; bits *= 2) {
    const Real other = __shfl_xor_sync(~0u, x, bits);
    x = sum ? x + other : max(x, other);
  }
  return x;
}

struct Forward {
  Input q[ROWS][WIDE], k[COLUMNS][WIDE], v[COLUMNS][WIDE], p[ROWS][NARROW];
};

extern "C" __global__ void __launch_bounds__(THREADS, 1) attention(
    const Real* q, const Real* k, const Real* v, const Real* mask, Real* o, Real* lse, int T, int S,
    int D, int E, long long mask_step, bool causal, Real scale) {
  Forward& shared = *(Forward*)memory;
  const int tiles = (T + ROWS - 1) / ROWS, t0 = blockIdx.x % tiles * ROWS;
  const int own = threadIdx.x / 32 * 16;  // the warp's first row
  const long long n = blockIdx.x / tiles;
  const Mask visible = {mask ? mask + n * mask_step : nullptr, T, S, causal};

  load(shared.q, q + n * T * D, t0, T, D);
  Sums out = {};
  Real top[2] = {-INFINITY, -INFINITY}, total[2] = {};
  for (int s0 = 0; s0 < (causal ? min(S, t0 + ROWS) : S); s0 += COLUMNS) {
    __syncthreads();  // the keys before have been read
    load(shared.k, k + n * S * D, s0, S, D);
    load(shared.v, v + n * S * E, s0, S, E);
    __syncthreads();
    Scores s = {};
    multiply(s, Along<Input>{shared.q[own], WIDE}, Along<Input>{shared.k[0], WIDE}, HEAD);
    Real most[2] = {top[0], top[1]};
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        Real& x = s[0][j][e];
        x = x * scale + visible(t0 + own + row_of(0, e), s0 + column_of(j, e));
        most[e / 2] = max(most[e / 2], x);
      }
    Real shrink[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      most[half] = over_row(most[half], false);
      shrink[half] = top[half] == most[half] ? 1 : exp(top[half] - most[half]);
      top[half] = most[half];
      total[half] *= shrink[half];
    }
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        Real& x = s[0][j][e];
        x = exp(x - (top[e / 2] == -INFINITY ? 0 : top[e / 2]));
        total[e / 2] += x;
      }
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) out[0][j][e] *= shrink[e / 2];
    multiply(out, factor(s, shared.p + own), Across<Input>{shared.v[0], WIDE}, COLUMNS);
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    total[half] = over_row(total[half], true);
    const int t = t0 + own + row_of(0, 2 * half);
    if (t < T && lane() % 4 == 0)
      lse[n * T + t] = total[half] == 0 ? -INFINITY : top[half] + log(total[half]);
  }
#pragma unroll
  for (int j = 0; j < HEAD / 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) out[0][j][e] /= total[e / 2] == 0 ? 1 : total[e / 2];
  store(o + n * T * E, out, t0 + own, T, E);
}

struct Backward {
  Input own[2][ROWS][WIDE], other[2][COLUMNS][WIDE], factor[2][ROWS][NARROW];
};

/* For queries  gq[t] = Σ_s ds[t,s]·k[s];
   for keys     gk[s] = Σ_t ds[t,s]·q[t],  gv[s] = Σ_t p[t,s]·g[t]
   with p = e^(s − lse), ds = scale·p·(g·v − δ). Both own rows of two matrices and walk over two
   others: (q, g) and (k, v), or the reverse. */
template <bool OF_QUERIES>
__device__ void backward(const Real* g, const Real* lse, const Real* delta, const Real* q,
                         const Real* k, const Real* v, const Real* mask, Real* first, Real* second,
                         int T, int S, int D, int E, long long mask_step, bool causal, Real scale) {
  Backward& shared = *(Backward*)memory;
  const int rows = OF_QUERIES ? T : S, columns = OF_QUERIES ? S : T;
  const int tiles = (rows + ROWS - 1) / ROWS, r0 = blockIdx.x % tiles * ROWS;
  const int own = threadIdx.x / 32 * 16;
  const long long n = blockIdx.x / tiles;
  const Mask visible = {mask ? mask + n * mask_step : nullptr, T, S, causal};
  q += n * T * D, g += n * T * E, k += n * S * D, v += n * S * E, lse += n * T, delta += n * T;

  load(shared.own[0], OF_QUERIES ? q : k, r0, rows, D);
  load(shared.own[1], OF_QUERIES ? g : v, r0, rows, E);
  Sums a = {}, b = {};
  const int begin = causal && !OF_QUERIES ? r0 / COLUMNS * COLUMNS : 0;
  const int end = causal && OF_QUERIES ? min(columns, r0 + ROWS) : columns;
  for (int c0 = begin; c0 < end; c0 += COLUMNS) {
    __syncthreads();
    load(shared.other[0], OF_QUERIES ? k : q, c0, columns, D);
    load(shared.other[1], OF_QUERIES ? v : g, c0, columns, E);
    __syncthreads();
    Scores p = {}, ds = {};
    multiply(p, Along<Input>{shared.own[0][own], WIDE}, Along<Input>{shared.other[0][0], WIDE},
             HEAD);
    multiply(ds, Along<Input>{shared.own[1][own], WIDE}, Along<Input>{shared.other[1][0], WIDE},
             HEAD);
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int row = r0 + own + row_of(0, e), column = c0 + column_of(j, e);
        const int t = OF_QUERIES ? row : column, s = OF_QUERIES ? column : row;
        const Real x = p[0][j][e] * scale + visible(t, s), l = t < T ? lse[t] : -INFINITY;
        p[0][j][e] = l == -INFINITY ? 0 : exp(x - l);
        ds[0][j][e] = p[0][j][e] * (ds[0][j][e] - (t < T ? delta[t] : 0)) * scale;
      }
    multiply(a, factor(ds, shared.factor[0] + own), Across<Input>{shared.other[0][0], WIDE},
             COLUMNS);
    if constexpr (!OF_QUERIES)
      multiply(b, factor(p, shared.factor[1] + own), Across<Input>{shared.other[1][0], WIDE},
               COLUMNS);
  }
  store(first + n * rows * D, a, r0 + own, rows, D);
  if constexpr (!OF_QUERIES) store(second + n * rows * E, b, r0 + own, rows, E);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_queries(
    const Real* g, const Real* lse, const Real* delta, const Real* q, const Real* k, const Real* v,
    const Real* mask, Real* gq, int T, int S, int D, int E, long long mask_step, bool causal,
    Real scale) {
  backward<true>(g, lse, delta, q, k, v, mask, gq, nullptr, T, S, D, E, mask_step, causal, scale);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_keys(
    const Real* g, const Real* lse, const Real* delta, const Real* q, const Real* k, const Real* v,
    const Real* mask, Real* gk, Real* gv, int T, int S, int D, int E, long long mask_step,
    bool causal, Real scale) {
  backward<false>(g, lse, delta, q, k, v, mask, gk, gv, T, S, D, E, mask_step, causal, scale);
}
