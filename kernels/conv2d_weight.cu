/* The adjoint of conv2d with respect to its filters, gw = g · col: the index formula stands in
   conv2d_weight.py.

   A product of g (K / groups, N·P·Q) with the columns of columns.cuh, transposed: the sum runs
   over pixels, so their spots are the table of each step and the filter's taps are the rows; both
   operands are images whose channels lie together (pack.cu), across the sum. 2·N·K·P·Q·R·S·C
   FLOPs, where C is D in whole chunks.

   gw is small and the sum long, so it is cut into `parts` that other blocks work on; their sums,
   (parts, K, R, S, C), are added afterwards (sums.cu), in order, without atomics: the same bytes
   from run to run. */
#include "columns.cuh"

struct Conv2dWeight : Problem<Picture> {
  Columns columns;
  int channels;
  Divisor PQ;

  __device__ int a_row(int m) const { return m; }
  __device__ int a_l(int l) const {
    return (l / PQ * columns.groups * PQ + l % PQ) * channels;
  }
  __device__ Picture::Spot b_row(int n) const { return columns.tap(n); }
  __device__ Picture::Spot b_l(int l) const { return columns.pixel(l); }
  __device__ int y_row(int m) const { return m * N; }
  __device__ int y_column(int n) const { return n; }
};

extern "C" __global__ void __launch_bounds__(THREADS) conv2d_weight(
    const Input* g, const Input* x, Real* sums, int parts, int N, int C, int H, int W, int K,
    int channels, int R, int S, int P, int Q, int sh, int sw, int ph, int pw, int dh, int dw,
    int groups) {
  const int M = K / groups, taps = R * S * C, L = N * P * Q;
  const Place place(M, taps);
  const int group = place.which % groups;
  const long long part = place.which / groups;
  product<ACROSS>(Conv2dWeight{
      {{g + group * P * Q * channels}, {x + group * H * W * C, H, W}, M, taps,
       int(part * L / parts), int((part + 1) * L / parts), sums + (part * K + group * M) * taps,
       true},
      {groups, H, W, C, P, Q, S, sh, sw, dh, dw, -ph, -pw}, channels, P * Q}, place);
}
