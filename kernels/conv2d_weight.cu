/* The adjoint of conv2d with respect to its filters, gw = g · col: the index formula stands in
   conv2d_weight.py.

   A product of g (K / groups, N·P·Q) with the columns of columns.cuh, transposed: the sum runs
   over pixels, so their spots are the table of each step and the filter's taps are the rows. gw
   is small and the sum long, so it is cut into `parts` that other blocks work on; their sums
   are added afterwards, in order, without atomics: the same bytes from run to run. */
#include "columns.cuh"

struct Conv2dWeight {
  Picture a, b;
  int M, N, begin, end;
  Columns columns;
  Real* gw;
  int K, PQ;

  __device__ Spot a_row(int m) const { return {m * PQ, 0, 0}; }
  __device__ Spot a_l(int l) const { return {l / PQ * K * PQ + l % PQ, 0, 0}; }
  __device__ Spot b_row(int n) const { return columns.tap(n); }
  __device__ Spot b_l(int l) const { return columns.pixel(l); }
  __device__ void store(int m, int n, Real sum) const { gw[m * N + n] = sum; }
};

extern "C" __global__ void __launch_bounds__(THREADS) conv2d_weight(
    const Real* g, const Real* x, Real* gw, int parts, int N, int C, int H, int W, int K, int D,
    int R, int S, int P, int Q, int sh, int sw, int ph, int pw, int dh, int dw, int groups) {
  const int M = K / groups, taps = D * R * S, L = N * P * Q;
  const Place place(M, taps);
  const int group = place.which % groups;
  const long long part = place.which / groups;
  product(Conv2dWeight{{g + group * M * P * Q, 1, 1, true}, {x + group * D * H * W, H, W, true},
                       M, taps, int(part * L / parts), int((part + 1) * L / parts),
                       {C, H, W, P, Q, R, S, sh, sw, dh, dw, -ph, -pw},
                       gw + (part * K + group * M) * taps, K, P * Q}, place);
}
