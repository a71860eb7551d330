/* Transposed convolution: the index formula stands in conv_transpose2d.py. Read from the
   output:

       y[n,d,h,w] = b[d] + Σ_{k,r,s} w[k,d,r,s] · x[n, k, p, q]

       p = (h + ph − r·dh) / sh,  q = (w + pw − s·dw) / sw

   over the r, s for which both divisions leave nothing. Outputs with the same h mod sh, w mod
   sw share them: r = r0 + i·step, step = sh / gcd(sh, dh), and the u-th of these outputs reads
   x at u + first − i·back, as a convolution does. So it is sh·sw convolutions of stride 1, each
   with its part of the filter, and no product with a zero is made: 2·N·K·P·Q·D·R·S FLOPs. One
   launch does them all. */
#include "columns.cuh"

/* One dimension of one of those convolutions: outputs a, a + s, … and the taps that reach them. */
struct Phase {
  int count, taps, r0, step, first, back;

  __device__ Phase(int a, int size, int R, int s, int p, int d) {
    int gcd = s;
    for (int rest = d; rest;) {
      const int next = gcd % rest;
      gcd = rest;
      rest = next;
    }
    step = s / gcd;
    back = d / gcd;
    r0 = 0;
    while (r0 < step && (a + p - r0 * d) % s) r0++;
    taps = r0 < min(step, R) ? (R - r0 + step - 1) / step : 0;
    first = (a + p - r0 * d) / s;
    count = (size - a + s - 1) / s;
  }
};

struct ConvTranspose2d {
  Picture a, b;
  int M, N, begin, end;
  Columns columns;
  Phase h, v;  // of rows, of columns
  const Real* bias;
  Real* y;
  int filter, R, S, C, H, W, sh, sw;

  __device__ Spot a_row(int d) const { return {d * R * S, 0, 0}; }
  __device__ Spot a_l(int l) const {
    const int i = l / v.taps % h.taps, j = l % v.taps;
    return {l / (h.taps * v.taps) * filter + (h.r0 + i * h.step) * S + v.r0 + j * v.step, 0, 0};
  }
  __device__ Spot b_row(int j) const { return columns.pixel(j); }
  __device__ Spot b_l(int l) const { return columns.tap(l); }
  __device__ void store(int d, int j, Real sum) const {
    const int n = j / (h.count * v.count);
    const int row = j / v.count % h.count * sh, column = j % v.count * sw;
    y[((n * C + d) * H + row) * W + column] = bias ? sum + bias[d] : sum;
  }
};

extern "C" __global__ void __launch_bounds__(THREADS) conv_transpose2d(
    const Real* x, const Real* w, const Real* b, Real* y, int N, int C, int H, int W, int K, int D,
    int R, int S, int P, int Q, int sh, int sw, int ph, int pw, int dh, int dw, int groups) {
  const int M = K / groups;
  const Place place(D, N * ((H + sh - 1) / sh) * ((W + sw - 1) / sw));
  const int g = place.which % groups, phase = place.which / groups;
  const int top = phase / sw, left = phase % sw;
  const Phase h(top, H, R, sh, ph, dh), v(left, W, S, sw, pw, dw);
  product(ConvTranspose2d{
      {w + g * M * D * R * S, 1, 1, true}, {x + g * M * P * Q, P, Q, false},
      D, N * h.count * v.count, 0, M * h.taps * v.taps,
      {K, P, Q, h.count, v.count, h.taps, v.taps, 1, 1, -h.back, -v.back, h.first, v.first},
      h, v, b ? b + g * D : nullptr, y + (g * D * H + top) * W + left, D * R * S, R, S, C, H, W,
      sh, sw}, place);
}
