/* 2-D convolution, y = w · colᵀ + b: the index formula stands in conv2d.py.

   A product of the filters (K / groups, D·R·S), which are a matrix as they lie, with the
   columns (N·P·Q, D·R·S) of columns.cuh: 2·N·K·P·Q·D·R·S FLOPs. Through memory go x, w and y; x
   is fetched R·S times for every TILE filters, almost always from the cache. Lanes fetch
   neighbouring pixels of a row of x, and neighbouring numbers of a filter. */
#include "columns.cuh"

struct Conv2d {
  Picture a, b;
  int M, N, begin, end;
  Columns columns;
  const Real* bias;
  Real* y;
  int K, PQ;

  __device__ Spot a_row(int m) const { return {m * end, 0, 0}; }
  __device__ Spot a_l(int l) const { return {l, 0, 0}; }
  __device__ Spot b_row(int j) const { return columns.pixel(j); }
  __device__ Spot b_l(int l) const { return columns.tap(l); }
  __device__ void store(int m, int j, Real sum) const {
    y[(j / PQ * K + m) * PQ + j % PQ] = bias ? sum + bias[m] : sum;
  }
};

extern "C" __global__ void __launch_bounds__(THREADS) conv2d(
    const Real* x, const Real* w, const Real* b, Real* y, int N, int C, int H, int W, int K, int D,
    int R, int S, int P, int Q, int sh, int sw, int ph, int pw, int dh, int dw, int groups) {
  const int M = K / groups, L = D * R * S;
  const Place place(M, N * P * Q);
  const int g = place.which;
  product(Conv2d{{w + g * M * L, 1, 1, true}, {x + g * D * H * W, H, W, false}, M, N * P * Q, 0, L,
                 {C, H, W, P, Q, R, S, sh, sw, dh, dw, -ph, -pw}, b ? b + g * M : nullptr,
                 y + g * M * P * Q, K, P * Q}, place);
}
