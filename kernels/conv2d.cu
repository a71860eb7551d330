/* 2-D convolution, y = w · colᵀ + b; the index formula is in conv2d.py.

   A product of the filters (K / groups, R·S·C), which form a matrix once packed, and the columns
   (N·P·Q, R·S·C) of columns.cuh, where C is D padded to whole chunks: 2·N·K·P·Q·R·S·C FLOPs. The
   memory traffic is x and w, packed (pack.cu), and y; x is fetched R·S times for every TILE_M
   filters, almost always from the cache. */
#include "columns.cuh"

struct Conv2d : Problem<Image> {
  Columns columns;
  int K;
  Divisor PQ;

  __device__ int a_row(int m) const { return m * end; }
  __device__ int a_l(int l) const { return l; }
  __device__ Image::Offset b_row(int j) const { return columns.pixel(j); }
  __device__ Image::Offset b_l(int l) const { return columns.tap(l); }
  __device__ int y_row(int m) const { return m * PQ; }
  __device__ int y_column(int j) const { return j / PQ * K * PQ + j % PQ; }
};

extern "C" __global__ void __launch_bounds__(THREADS) conv2d(
    const Input* w, const Input* x, const Real* b, Real* y, int N, int C, int H, int W, int K,
    int R, int S, int P, int Q, int sh, int sw, int ph, int pw, int dh, int dw, int groups) {
  const int M = K / groups, L = R * S * C, PQ = P * Q;
  const TileIndex place(M, N * PQ);
  const int g = place.which;
  product<K_MAJOR>(Conv2d{
      {{w + g * M * L}, {x + g * H * W * C, H, W}, M, N * PQ, 0, L, y + g * M * PQ,
       PQ % 2 == 0, b ? b + g * M : nullptr},
      {groups, H, W, C, P, Q, S, sh, sw, dh, dw, -ph, -pw}, K, PQ}, place);
}
