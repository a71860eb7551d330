/* Cross-entropy with integer targets, and its gradient: the formulas stand in cross_entropy.py.

   x is (A, C, B). Where B = 1 the C numbers of a row lie together, and a warp takes a row; else
   neighbouring rows lie together, and a thread takes one. About 8 FLOPs and two exponentials an
   element; x comes from memory once, and from the cache once more, and gx is written once. The loss
   of a target that is no class is NaN: in a step that is recorded nobody looks at it before. */
#include "reduce.cuh"

extern "C" __global__ void cross_entropy(const Real* x, const long long* t, Real* y, Real* lse,
                                         long long rows, int C, int B) {
  const Row r(C, B);
  if (r.row >= rows) return;  // of a warp that shares a row all or none
  auto number = [&](int c) { return x[r.begin + (long long)c * B]; };
  Real top, sum;
  r.add_powers(C, number, top, sum);
  if (r.first) return;
  lse[r.row] = top + log(sum);
  const bool inside = 0 <= t[r.row] && t[r.row] < C;
  y[r.row] = inside ? lse[r.row] - x[r.begin + t[r.row] * B] : Real(NAN);
}

extern "C" __global__ void cross_entropy_backward(const Real* x, const long long* t,
                                                  const Real* lse, const Real* g, Real* gx,
                                                  long long rows, int C, int B) {
  const Row r(C, B);
  if (r.row >= rows) return;
  const Real slope = g[r.row], shift = lse[r.row];
  const long long target = t[r.row];
  each(r.first, C, r.step, [&](int c) { return x[r.begin + (long long)c * B]; },
       [&](int c, Real score) {
         gx[r.begin + (long long)c * B] = slope * (exp(score - shift) - (c == target ? 1 : 0));
       });
}
