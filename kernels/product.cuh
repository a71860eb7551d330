/* The tile loop under matrix products and convolutions

       c[m, n] = Σ_{l<L} a[m, l] · b[n, l]        m < M, n < N

   where a and b need not be matrices: an element is where a row's and a column's contributions
   meet, the pixel at the sum of two Spots, or 0 if that lies outside the picture. So a
   convolution is a product whose column matrix is never formed, a strided matrix is a picture
   of one pixel per plane, and the edges of all of them are zeros that need no code.

   A block computes TILE × TILE of c, half as many rows and 32 columns in each of its TILE / 16
   warps, in steps of 128 bytes of l:
     - the spots of the step's l's are worked out once, by a few threads, into a table: all the
       divisions of the index formula happen there and once per row;
     - each thread fetches four chunks of 16 bytes of a and of b into registers, while the warps
       multiply the step before (mma.cuh): memory's latency hides behind arithmetic;
     - rounded to the Input type on the way, once, they go to the shared tile that is not being
       read, so one barrier a step is enough.
   A step reads 2·TILE·128 bytes for 2·TILE²·128/sizeof(Input) FLOPs: TILE/2 FLOPs a float at
   64, twice that at 128, which needs enough tiles to fill the device. */
#pragma once
#include "mma.cuh"

#ifndef TILE
#define TILE 64
#endif

constexpr int THREADS = 2 * TILE, STEP = 128 / sizeof(Input), PITCH = STEP + CHUNK<Input>;
constexpr int FETCH = 4, WARP_ROWS = TILE / 2, OUTSIDE = -(1 << 29);
static_assert(FETCH * THREADS == TILE * 128 / 16);

extern __shared__ char memory[];

struct alignas(16) Spot { int at, h, w; };

/* Planes of H × W numbers. */
struct Picture {
  const Real* data;
  int H, W;
  bool along;  // neighbours in l are neighbours in memory, rather than those in m or n

  __device__ Real operator()(Spot row, Spot l) const {
    const int h = row.h + l.h, w = row.w + l.w;
    return (unsigned)h < (unsigned)H && (unsigned)w < (unsigned)W ? data[row.at + l.at] : 0;
  }
};

struct Shared {
  Input a[2][TILE][PITCH], b[2][TILE][PITCH];
  Spot table[2][2][STEP];  // the spots of l: of even and odd steps, of a and b
};

/* One operand's part of the loop: fetch a step into registers, put it into shared memory. */
struct Fetcher {
  Picture picture;
  Spot rows[FETCH];
  Real held[FETCH][CHUNK<Input>];

  __device__ int id(int i) const { return threadIdx.x + i * THREADS; }
  __device__ int row(int i) const { return picture.along ? id(i) / 8 : id(i) % TILE; }
  __device__ int l(int i) const {
    return (picture.along ? id(i) % 8 : id(i) / TILE) * CHUNK<Input>;
  }
  __device__ void fetch(const Spot* table) {
#pragma unroll
    for (int i = 0; i < FETCH; i++)
#pragma unroll
      for (int j = 0; j < CHUNK<Input>; j++) held[i][j] = picture(rows[i], table[l(i) + j]);
  }
  __device__ void put(Input (*tile)[PITCH]) const {
#pragma unroll
    for (int i = 0; i < FETCH; i++) {
      Chunk<Input> chunk;
#pragma unroll
      for (int j = 0; j < CHUNK<Input>; j++) round_to(chunk.v[j], held[i][j]);
      *(Chunk<Input>*)&tile[row(i)][l(i)] = chunk;
    }
  }
};

/* Which of several products of M × N this block works on, and its tile's first row and column. */
struct Place {
  int which, m0, n0;
  __device__ Place(int M, int N) {
    const int high = (M + TILE - 1) / TILE, wide = (N + TILE - 1) / TILE;
    which = blockIdx.x / (high * wide);
    m0 = blockIdx.x % high * TILE;  // blocks that run together share columns of c
    n0 = blockIdx.x / high % wide * TILE;
  }
};

/* `p` gives a, b (Pictures), M, N, the range of l from p.begin to p.end, the spots a_row(m),
   a_l(l), b_row(n), b_l(l), and takes store(m, n, sum). */
template <class Problem>
__device__ void product(const Problem& p, Place place) {
  Shared& s = *(Shared*)memory;
  const Spot outside = {0, OUTSIDE, OUTSIDE};
  const int warp = threadIdx.x / 32, row = warp % 2 * WARP_ROWS, column = warp / 2 * 32;

  Fetcher a{p.a}, b{p.b};
#pragma unroll
  for (int i = 0; i < FETCH; i++) {
    const int m = place.m0 + a.row(i), n = place.n0 + b.row(i);
    a.rows[i] = m < p.M ? p.a_row(m) : outside;
    b.rows[i] = n < p.N ? p.b_row(n) : outside;
  }
  auto plan = [&](int step) {
    for (int i = threadIdx.x; i < 2 * STEP; i += THREADS) {
      const int l = p.begin + step * STEP + i % STEP;
      s.table[step % 2][i / STEP][i % STEP] =
          l >= p.end ? outside : i < STEP ? p.a_l(l) : p.b_l(l);
    }
  };
  auto fetch = [&](int step) {
    a.fetch(s.table[step % 2][0]);
    b.fetch(s.table[step % 2][1]);
  };

  constexpr int I = WARP_ROWS / 16, J = 4;
  Real c[I][J][4] = {};
  const int steps = (p.end - p.begin + STEP - 1) / STEP;
  plan(0);
  __syncthreads();
  fetch(0);
#pragma unroll 1
  for (int step = 0; step < steps; step++) {
    a.put(s.a[step % 2]);
    b.put(s.b[step % 2]);
    plan(step + 1);
    __syncthreads();
    fetch(step + 1);
    multiply(c, Along<Input>{s.a[step % 2][row], PITCH}, Along<Input>{s.b[step % 2][column], PITCH},
             STEP);
  }
#pragma unroll
  for (int i = 0; i < I; i++)
#pragma unroll
    for (int j = 0; j < J; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int m = place.m0 + row + row_of(i, e), n = place.n0 + column + column_of(j, e);
        if (m < p.M && n < p.N) p.store(m, n, c[i][j][e]);
      }
}
