/* Scaled dot-product attention and its adjoint; the formulas are in attention.py.

   2·B·T·S·(D + E) FLOPs forward. Backward takes 3.5 times that, because it recomputes the scores
   twice: every sum then has a single owner and needs no atomics. The T × S scores never reach
   global memory: a thread block owns ROWS queries (or keys, for the gradients of keys and values),
   16·I for each of its warps, and walks over the keys (or queries) in tiles of COLUMNS.

   A kernel of its own first rounds the operands, once, into rows of HEAD numbers: the larger of D
   and E, rounded up, with zeros beyond. Loading a tile is then a plain copy, which runs while the
   previous tile is multiplied. q is multiplied by scale · log2 e on the way, so that all that
   follows are powers of 2.

   Forward (FlashAttention-2, arXiv:2307.08691), in each step:
     the scores of the warp's rows and the tile's keys are computed in registers, minus the `shift`
     of their row: the accumulators start at −shift, so the subtraction costs nothing;
     if a score exceeds `slack` (the row has no maximum yet, or its power would exceed 2^8), the
     row's maximum so far becomes its shift, and what the row has accumulated is scaled down. Any
     shift gives the same result: it only keeps the powers in range, so most steps leave it alone;
     p = 2^score becomes the left operand of p · v in the registers that hold it (attention.cuh).

   In bf16 with heads of 64, a warp's step (32 queries, 64 keys) takes 500 instructions: 128 on the
   tensor cores, 64 powers, 64 maxima, 64 additions, 32 roundings, 32 loads of right operands, … In
   the warp's quarter of a multiprocessor they keep the tensor core busy for 128 · 8 cycles (A100;
   fewer on later ones) and, in parallel, the special function unit, which computes powers, for
   64 · 8. Each load serves 4 products. With 16 rows per warp it would serve 2, and shared memory,
   at 4 cycles per load for all four quarters, would be as busy as their tensor cores.

   With WGMMA, a thread block is one warpgroup with 64 rows. It waits for each of its products, so
   four blocks share a multiprocessor (three of attention_keys, which needs more registers): some
   multiply while others compute powers. On an H200, for 64 heads of T = 4096, this cut the forward
   pass from 0.94 ms to 0.77, and backward, with three blocks of both kernels, from 2.77 to 2.2. */
#include "attention.cuh"

/* Pack a chunk of a row of `width` numbers, times `factor`, into a row of HEAD numbers. */
__device__ inline void pack(Input* to, const Real* from, int row, int column, int width,
                            Real factor) {
  Chunk<Input> chunk;
  from += (long long)row * width;
#pragma unroll
  for (int i = column; i < column + CHUNK<Input>; i++)
    round_to(chunk.v[i - column], i < width ? from[i] * factor : 0);
  *(Chunk<Input>*)(to + (long long)row * HEAD + column) = chunk;
}

extern "C" __global__ void attention_pack(const Real* q, const Real* k, const Real* v, Input* to_q,
                                          Input* to_k, Input* to_v, int queries, int keys, int D,
                                          int E, Real scale) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  const int row = i / CHUNKS, column = i % CHUNKS * CHUNK<Input>;
  if (row < queries) pack(to_q, q, row, column, D, scale * LOG2E);
  if (row < keys) pack(to_k, k, row, column, D, 1), pack(to_v, v, row, column, E, 1);
}

/* Pack g in the same way, and compute the initial values (Init in attention.cuh), padded to a
   multiple of 64 per sequence so that their tiles are whole and begin at multiples of 16 bytes. A
   query that is only padding, or that attended to no key, gets p = 0. */
extern "C" __global__ void attention_init(const Real* g, const Real* o, const Real* lse,
                                          Input* to_g, Init* inits, int count, int T, int E) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  const int index = i / CHUNKS, column = i % CHUNKS * CHUNK<Input>, whole = (T + 63) / 64 * 64;
  const int t = index % whole, row = index / whole * T + t;
  const bool inside = index < count && t < T;
  Real delta = 0;
  if (inside) {
    pack(to_g, g, row, column, E, 1);
    for (int e = column; e < min(column + CHUNK<Input>, E); e++)
      delta += g[(long long)row * E + e] * o[(long long)row * E + e];
  }
#pragma unroll
  for (int bits = 1; bits < CHUNKS; bits *= 2) delta += __shfl_xor_sync(~0u, delta, bits);
  if (index < count && column == 0) {
    const bool attended = inside && lse[row] != -INFINITY;
    inits[index] = {attended ? -lse[row] * LOG2E : -INFINITY, attended ? -delta : 0};
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) attention(
    const Input* q, const Input* k, const Input* v, const Real* mask, Real* o, Real* lse, int T,
    int S, int D, int E, long long mask_step, bool causal, Real scale) {
  constexpr Real SLACK = 8;
  Shared<1>& shared = *(Shared<1>*)memory;
  const int tiles = (T + ROWS - 1) / ROWS;
  const int t0 = (tiles - 1 - blockIdx.x % tiles) * ROWS;  // causal: most work first
  const int own = threadIdx.x / 32 * 16 * I, first = t0 + own;  // the warp's first row
  const long long n = blockIdx.x / tiles;
  const Mask masked = {mask ? mask + n * mask_step : nullptr, T, S, causal};
  const int end = causal ? min(S, t0 + ROWS) : S;
  auto fetch_tile = [&](int s0) {
    auto& tile = shared.other[s0 / COLUMNS % 2];
    fetch(tile[0], k + n * S * HEAD, s0, S);
    fetch(tile[1], v + n * S * HEAD, s0, S);
  };
  fetch(shared.own[0], q + n * T * HEAD, t0, T);
  fetch_tile(0);
  arrive();

  const auto rows = load_fragment<1>(shared.own[0]);
  Sums out = {};
  Real shift[I][2] = {}, total[I][2] = {}, slack[I][2];
  each([&](int i, int half) { slack[i][half] = -INFINITY; });
  for (int s0 = 0; s0 < end; s0 += COLUMNS, arrive()) {
    if (s0 + COLUMNS < end) fetch_tile(s0 + COLUMNS);
    const int product_row = t0 + first_row();
    if (product_row >= T || (causal && s0 >= product_row + PRODUCT_ROWS)) continue;  // no work here
    auto& tile = shared.other[s0 / COLUMNS % 2];
    Real s[I][COLUMNS / 8][4], most[I][2];
    each(s, [&](Real& x, int i, int j, int e) { x = -shift[i][e / 2]; });
    add_product<K_MAJOR>(s, rows, tile[0], 0, HEAD);
    finish(s);
    masked.apply<false>(s, first, s0);

    each([&](int i, int half) { most[i][half] = -INFINITY; });
    each(s, [&](Real x, int i, int j, int e) { most[i][e / 2] = max(most[i][e / 2], x); });
    bool above = false;
    each([&](int i, int half) { above |= most[i][half] > slack[i][half]; });
    if (__any_sync(~0u, above)) {
      Real rise[I][2], rescale[I][2];
      each([&](int i, int half) {
        const Real top = row_reduce(most[i][half], false), none = -INFINITY;
        const bool nothing_yet = slack[i][half] == none;
        rise[i][half] = nothing_yet && top > none ? top : max(top, Real(0));
        rescale[i][half] = nothing_yet ? 1 : power(-rise[i][half]);
        shift[i][half] += rise[i][half];
        total[i][half] *= rescale[i][half];
        if (top > none) slack[i][half] = SLACK;
      });
      each(s, [&](Real& x, int i, int j, int e) { x -= rise[i][e / 2]; });
      each(out, [&](Real& x, int i, int j, int e) { x *= rescale[i][e / 2]; });
    }
    each(s, [&](Real& x, int i, int j, int e) { total[i][e / 2] += x = power(x); });
    add_product<MN_MAJOR>(out, operand(s, shared.part(0)), tile[1], 0, COLUMNS);
    finish(out);
  }
  each([&](int i, int half) {
    Real& sum = total[i][half];
    sum = row_reduce(sum, true);
    const int t = first + row_of(i, 2 * half);
    if (t < T && lane() % 4 == 0)
      lse[n * T + t] = sum == 0 ? -INFINITY : shift[i][half] * LN2 + log(sum);
    sum = sum == 0 ? 1 : 1 / sum;
  });
  each(out, [&](Real& x, int i, int j, int e) { x *= total[i][e / 2]; });
  store(o + n * T * E, out, first, T, E);
}

/* For queries  gq[t] = scale · Σ_s ds[t,s]·k[s];
   for keys     gk[s] = scale · Σ_t ds[t,s]·q[t],  gv[s] = Σ_t p[t,s]·g[t]
   with p = 2^(score − lse · log2 e), ds = p·(g·v − δ). Each kernel owns rows of two matrices and
   walks over tiles of two others: (q, g) and (k, v), or the reverse. With mma.sync it takes strips
   of 16 columns of a tile at a time, to leave registers for the accumulators and its own rows.
   WGMMA reads its own rows from shared memory, and takes the whole tile. */
template <bool OF_QUERIES>
__device__ void backward(const Init* inits, const Input* q, const Input* k, const Input* v,
                         const Input* g, const Real* mask, Real* first, Real* second, int T, int S,
                         int D, int E, long long mask_step, bool causal, Real scale) {
  constexpr int STRIP = tensor<Input> && PRODUCT_ROWS < 64 ? 16 : COLUMNS;
  Shared<2>& shared = *(Shared<2>*)memory;
  const int rows = OF_QUERIES ? T : S, columns = OF_QUERIES ? S : T;
  const int tiles = (rows + ROWS - 1) / ROWS, index = blockIdx.x % tiles;
  const int r0 = (OF_QUERIES ? tiles - 1 - index : index) * ROWS;  // causal: most work first
  const int own = threadIdx.x / 32 * 16 * I;
  const long long n = blockIdx.x / tiles;
  const Mask masked = {mask ? mask + n * mask_step : nullptr, T, S, causal};
  q += n * T * HEAD, g += n * T * HEAD, k += n * S * HEAD, v += n * S * HEAD;
  inits += n * ((T + 63) / 64 * 64);

  const int begin = causal && !OF_QUERIES ? r0 / COLUMNS * COLUMNS : 0;
  const int end = causal && OF_QUERIES ? min(columns, r0 + ROWS) : columns;
  auto fetch_tile = [&](int c0) {
    const int stage = c0 / COLUMNS % 2;
    fetch(shared.other[stage][0], OF_QUERIES ? k : q, c0, columns);
    fetch(shared.other[stage][1], OF_QUERIES ? v : g, c0, columns);
    if (const int i = threadIdx.x * 16; !OF_QUERIES && i < sizeof shared.init[0])
      copy_async((char*)shared.init[stage] + i, (const char*)(inits + c0) + i, true);
  };
  fetch(shared.own[0], OF_QUERIES ? q : k, r0, rows);
  fetch(shared.own[1], OF_QUERIES ? g : v, r0, rows);
  if (begin < end) fetch_tile(begin);
  arrive();

  const auto one = load_fragment<2>(shared.own[0]), two = load_fragment<2>(shared.own[1]);
  Sums a = {}, b = {};
  for (int c0 = begin; c0 < end; c0 += COLUMNS, arrive()) {
    if (c0 + COLUMNS < end) fetch_tile(c0 + COLUMNS);
    const int stage = c0 / COLUMNS % 2, row = r0 + own, product_row = r0 + first_row();
    const bool hidden = causal && (OF_QUERIES ? c0 >= product_row + PRODUCT_ROWS
                                              : product_row >= c0 + COLUMNS);
    if (product_row >= rows || hidden) continue;  // nothing for this warp
#pragma unroll 1
    for (int strip = 0; strip < COLUMNS; strip += STRIP) {
      auto &of_one = shared.other[stage][0], &of_two = shared.other[stage][1];
      Real p[I][STRIP / 8][4], ds[I][STRIP / 8][4];
      each(p, [&](Real& x, int i, int j, int e) {
        const Init& init = OF_QUERIES ? inits[min(row + row_of(i, e), T - 1)]
                                      : shared.init[stage][strip + column_of(j, e)];
        x = init.score, ds[i][j][e] = init.slope;
      });
      prepare(p), prepare(ds);
      add_product<K_MAJOR>(p, one, of_one, strip, HEAD);
      add_product<K_MAJOR>(ds, two, of_two, strip, HEAD);
      finish(p), finish(ds);
      const int column = c0 + strip;
      masked.apply<!OF_QUERIES>(p, OF_QUERIES ? row : column, OF_QUERIES ? column : row);
      each(ds, [&](Real& x, int i, int j, int e) { x *= p[i][j][e] = power(p[i][j][e]); });
      add_product<MN_MAJOR>(a, operand(ds, shared.part(0)), of_one, strip, STRIP);
      if constexpr (!OF_QUERIES) {
        add_product<MN_MAJOR>(b, operand(p, shared.part(1)), of_two, strip, STRIP);
        finish(b);
      }
      finish(a);
    }
  }
  each(a, [&](Real& x, int i, int j, int e) { x *= OF_QUERIES ? scale : LN2; });  // q has log2 e
  store(first + n * rows * D, a, r0 + own, rows, D);
  if constexpr (!OF_QUERIES) store(second + n * rows * E, b, r0 + own, rows, E);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) attention_queries(
    const Init* inits, const Input* q, const Input* k, const Input* v, const Input* g,
    const Real* mask, Real* gq, int T, int S, int D, int E, long long mask_step, bool causal,
    Real scale) {
  backward<true>(inits, q, k, v, g, mask, gq, nullptr, T, S, D, E, mask_step, causal, scale);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_OF_KEYS) attention_keys(
    const Init* inits, const Input* q, const Input* k, const Input* v, const Input* g,
    const Real* mask, Real* gk, Real* gv, int T, int S, int D, int E, long long mask_step,
    bool causal, Real scale) {
  backward<false>(inits, q, k, v, g, mask, gk, gv, T, S, D, E, mask_step, causal, scale);
}
