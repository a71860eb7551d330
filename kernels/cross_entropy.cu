/* Cross-entropy with integer targets, and its gradient; the formulas are in cross_entropy.py.

   x is (A, C, B). Where B = 1, the C numbers of a row are contiguous, and a warp takes a row;
   otherwise neighbouring rows are contiguous, and a thread takes a row. About 8 FLOPs and two
   exponentials per element; x is read from memory once and from the cache once more, and gx is
   written once. A target that is not a class gives a loss of NaN, because in a recorded step the
   host does not look at the targets before the kernel runs. */
#include "reduce.cuh"

extern "C" __global__ void cross_entropy(const Real* x, const long long* t, Real* y, Real* tops,
                                         Real* totals, long long rows, int C, int B) {
  const Row r(C, B);
  if (r.row >= rows) return;  // all lanes of a warp that shares a row, or none
  auto number = [&](int c) { return x[r.begin + (long long)c * B]; };
  Real top, total;
  r.max_and_sum_exp(C, number, top, total);
  if (r.first) return;
  tops[r.row] = top, totals[r.row] = total;
  const bool inside = 0 <= t[r.row] && t[r.row] < C;
  y[r.row] = inside ? log(total) + (top - x[r.begin + t[r.row] * B]) : Real(NAN);
}

extern "C" __global__ void cross_entropy_backward(const Real* x, const long long* t,
                                                  const Real* tops, const Real* totals,
                                                  const Real* g, Real* gx, long long rows, int C,
                                                  int B) {
  const Row r(C, B);
  if (r.row >= rows) return;
  const Real slope = g[r.row], scale = slope / totals[r.row], top = tops[r.row];
  const long long target = t[r.row];
  each(r.first, C, r.step, [&](int c) { return x[r.begin + (long long)c * B]; },
       [&](int c, Real score) {
         gx[r.begin + (long long)c * B] = scale * exp(score - top) - (c == target ? slope : 0);
       });
}
