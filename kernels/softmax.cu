/* Softmax and its logarithm along the middle axis: the formulas stand in softmax.py.

   x is (A, C, B). Where B = 1 the C numbers of a row lie together, and a warp takes a row; else
   neighbouring rows lie together, and a thread takes one. Three passes, of which two come from
   the cache, about 6 FLOPs and an exponential an element; x and y once through memory. */
#include "reduce.cuh"

template <bool LOG>
__device__ void softmax_of(const Real* x, Real* y, long long rows, int C, int B) {
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
#pragma unroll 8
  for (int c = r.first; c < C; c += r.step) {
    const long long i = r.begin + (long long)c * B;
    y[i] = LOG ? x[i] - top - log(sum) : exp(x[i] - top) / sum;
  }
}

extern "C" __global__ void softmax(const Real* x, Real* y, long long rows, int C, int B) {
  softmax_of<false>(x, y, rows, C, B);
}
extern "C" __global__ void log_softmax(const Real* x, Real* y, long long rows, int C, int B) {
  softmax_of<true>(x, y, rows, C, B);
}
