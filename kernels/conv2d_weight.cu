/* The adjoint of conv2d with respect to its filters, gw = g · col; the index formula is in
   conv2d_weight.py.

   A product of g (K / groups, N·P·Q) and the transposed columns of columns.cuh. The sum runs over
   pixels, so here the table of each step holds the offsets of pixels, and the filter's taps are the
   rows. Both operands are images whose channels are contiguous (pack.cu), which is across the sum.
   2·N·K·P·Q·R·S·C FLOPs, where C is D padded to whole chunks.

   gw is small and the sum is long, so the sum is split into `parts`, each computed by different
   blocks. The partial sums, (parts, K, R, S, C), are added afterwards (sums.cu) in a fixed order,
   without atomics, so the result is the same from run to run, byte for byte. */
#include "columns.cuh"

struct Conv2dWeight : Problem<Image> {
  Columns columns;
  int channels;
  Divisor PQ;

  __device__ int a_row(int m) const { return m; }
  __device__ int a_l(int l) const {
    return (l / PQ * columns.groups * PQ + l % PQ) * channels;
  }
  __device__ Image::Offset b_row(int n) const { return columns.tap(n); }
  __device__ Image::Offset b_l(int l) const { return columns.pixel(l); }
  __device__ int y_row(int m) const { return m * N; }
  __device__ int y_column(int n) const { return n; }
};

extern "C" __global__ void __launch_bounds__(THREADS) conv2d_weight(
    const Input* g, const Input* x, Real* sums, int parts, int N, int C, int H, int W, int K,
    int channels, int R, int S, int P, int Q, int sh, int sw, int ph, int pw, int dh, int dw,
    int groups) {
  const int M = K / groups, taps = R * S * C, L = N * P * Q;
  const TileIndex place(M, taps);
  const int group = place.which % groups;
  const long long part = place.which / groups;
  product<MN_MAJOR>(Conv2dWeight{
      {{g + group * P * Q * channels}, {x + group * H * W * C, H, W}, M, taps,
       int(part * L / parts), int((part + 1) * L / parts), sums + (part * K + group * M) * taps,
       true},
      {groups, H, W, C, P, Q, S, sh, sw, dh, dw, -ph, -pw}, channels, P * Q}, place);
}
