/* Transposed convolution; the index formula is in conv_transpose2d.py. Seen from the output:

       y[n,d,h,w] = b[d] + Σ_{k,r,s} w[k,d,r,s] · x[n, k, p, q]

       p = (h + ph − r·dh) / sh,  q = (w + pw − s·dw) / sw

   over the r, s for which both divisions are exact. Outputs with the same h mod sh and w mod sw
   share these r, s: r = r0 + i·step with step = sh / gcd(sh, dh), and the u-th of these outputs
   reads x at u + first − i·back, as in a convolution. The operation is therefore sh·sw convolutions
   of stride 1, each with its part of the filter, and never multiplies by a zero between the pixels
   of x: 2·N·K·P·Q·D·R·S FLOPs. One launch computes them all. The filters arrive packed (pack.cu) as
   (groups, D, R, S, K / groups). */
#include "columns.cuh"

/* One dimension of one of these convolutions: outputs a, a + s, … and the taps that reach them. */
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

struct ConvTranspose2d : Problem<Image> {
  Columns columns;
  Phase h, v;  // of rows, of columns
  int filter, S, image, H, W, sh, sw;

  __device__ int a_row(int d) const { return d * filter; }
  __device__ int a_l(int l) const {
    const int i = l / columns.C / columns.S, j = l / columns.C % columns.S;
    return ((h.r0 + i * h.step) * S + v.r0 + j * v.step) * columns.C + l % columns.C;
  }
  __device__ Image::Offset b_row(int j) const { return columns.pixel(j); }
  __device__ Image::Offset b_l(int l) const { return columns.tap(l); }
  __device__ int y_row(int d) const { return d * H * W; }
  __device__ int y_column(int j) const {
    const int row = j / columns.V % columns.U * sh, column = j % columns.V * sw;
    return j / columns.V / columns.U * image + row * W + column;
  }
};

extern "C" __global__ void __launch_bounds__(THREADS) conv_transpose2d(
    const Input* w, const Input* x, const Real* b, Real* y, int N, int D, int H, int W, int C,
    int R, int S, int P, int Q, int sh, int sw, int ph, int pw, int dh, int dw, int groups) {
  const TileIndex place(D, N * ((H + sh - 1) / sh) * ((W + sw - 1) / sw));
  const int g = place.which % groups, phase = place.which / groups;
  const int top = phase / sw, left = phase % sw;
  const Phase h(top, H, R, sh, ph, dh), v(left, W, S, sw, pw, dw);
  product<K_MAJOR>(ConvTranspose2d{
      {{w + g * D * R * S * C}, {x + g * P * Q * C, P, Q}, D, N * h.count * v.count, 0,
       h.taps * v.taps * C, y + (g * D * H + top) * W + left, sw == 1 && W % 2 == 0,
       b ? b + g * D : nullptr},
      {groups, P, Q, C, h.count, v.count, v.taps, 1, 1, -h.back, -v.back, h.first, v.first},
      h, v, R * S * C, S, groups * D * H * W, H, W, sh, sw}, place);
}
