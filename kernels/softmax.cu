/* Softmax and its logarithm along the middle axis; the formulas are in softmax.py.

   x is (A, C, B). Where B = 1, the C numbers of a row are contiguous, and a warp takes a row;
   otherwise neighbouring rows are contiguous, and a thread takes a row. Three passes, of which two
   read from the cache, with about 6 FLOPs and an exponential per element; x and y pass through
   memory once. The adjoints take two passes over g and y. */
#include "reduce.cuh"

template <bool LOG>
__device__ void softmax_of(const Real* x, Real* y, long long rows, int C, int B) {
  const Row r(C, B);
  if (r.row >= rows) return;  // all lanes of a warp that shares a row, or none
  auto number = [&](int c) { return x[r.begin + (long long)c * B]; };
  Real top, sum;
  r.max_and_sum_exp(C, number, top, sum);
  sum = LOG ? log(sum) : 1 / sum;
  each(r.first, C, r.step, number, [&](int c, Real here) {
    y[r.begin + (long long)c * B] = LOG ? here - top - sum : exp(here - top) * sum;
  });
}

template <bool LOG>
__device__ void softmax_adjoint(const Real* g, const Real* y, Real* gx, long long rows, int C,
                                int B) {
  const Row r(C, B);
  if (r.row >= rows) return;
  Real sum = 0;
  auto place = [&](int c) { return r.begin + (long long)c * B; };
  auto slope = [&](int c) { return g[place(c)]; };
  each(r.first, C, r.step, slope,
       [&](int c, Real here) { sum += LOG ? here : here * y[place(c)]; });
  if (r.by_warp) sum = warp_sum(sum);
  each(r.first, C, r.step, slope, [&](int c, Real here) {
    gx[place(c)] = LOG ? here - exp(y[place(c)]) * sum : y[place(c)] * (here - sum);
  });
}

extern "C" __global__ void softmax(const Real* x, Real* y, long long rows, int C, int B) {
  softmax_of<false>(x, y, rows, C, B);
}
extern "C" __global__ void log_softmax(const Real* x, Real* y, long long rows, int C, int B) {
  softmax_of<true>(x, y, rows, C, B);
}
extern "C" __global__ void softmax_backward(const Real* g, const Real* y, Real* gx, long long rows,
                                            int C, int B) {
  softmax_adjoint<false>(g, y, gx, rows, C, B);
}
extern "C" __global__ void log_softmax_backward(const Real* g, const Real* y, Real* gx,
                                                long long rows, int C, int B) {
  softmax_adjoint<true>(g, y, gx, rows, C, B);
}
