/* Cross-entropy with integer targets, and its gradient: the formulas stand in cross_entropy.py.

   x is (A, C, B). Where B = 1 the C numbers of a row lie together, and a warp takes a row; else
   neighbouring rows lie together, and a thread takes one. About 8 FLOPs and two exponentials an
   element; x comes from memory once, and from the cache once more, and gx is written once. The loss
   of a target that is no class is NaN: in a step that is recorded nobody looks at it before. */
#include "reduce.cuh"

extern "C" __global__ void cross_entropy(const Real* x, const long long* t, Real* y, Real* tops,
                                         Real* totals, long long rows, int C, int B) {
  const Row r(C, B);
  if (r.row >= rows) return;  // of a warp that shares a row all or none
  auto number = [&](int c) { return x[r.begin + (long long)c * B]; };
  Real top, total;
  r.add_powers(C, number, top, total);
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
