/* Cross-entropy with integer targets, and its gradient: the formulas stand in cross_entropy.py.

   x is (A, C, B). Where B = 1 the C numbers of a row lie together, and a warp takes a row; else
   neighbouring rows lie together, and a thread takes one. About 8 FLOPs and two exponentials an
   element; x comes from memory once, and from the cache once more, and gx is written once. */
#include "reduce.cuh"

extern "C" __global__ void cross_entropy(const Real* x, const long long* t, Real* y, Real* lse,
                                         long long rows, int C, int B) {
  const Row r(C, B);
  if (r.row >= rows) return;  // of a warp that shares a row all or none
  Real top = -INFINITY, sum = 0;
#pragma unroll 8
  for (int c = r.first; c < C; c += r.step) {
    const Real here = x[r.begin + (long long)c * B];
    top = here != here || here > top ? here : top;
  }
  if (r.whole) top = warp_max(top);
#pragma unroll 8
  for (int c = r.first; c < C; c += r.step) sum += exp(x[r.begin + (long long)c * B] - top);
  if (r.whole) sum = warp_sum(sum);
  if (r.first) return;
  lse[r.row] = top + log(sum);
  y[r.row] = lse[r.row] - x[r.begin + t[r.row] * B];
}

extern "C" __global__ void cross_entropy_backward(const Real* x, const long long* t,
                                                  const Real* lse, const Real* g, Real* gx,
                                                  long long rows, int C, int B) {
  const Row r(C, B);
  if (r.row >= rows) return;
#pragma unroll 8
  for (int c = r.first; c < C; c += r.step) {
    const long long i = r.begin + (long long)c * B;
    gx[i] = g[r.row] * (exp(x[i] - lse[r.row]) - (c == t[r.row] ? 1 : 0));
  }
}
