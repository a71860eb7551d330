/* Softmax and its logarithm along the middle axis: the formulas stand in softmax.py.

   x is (A, C, B). Where B = 1 the C numbers of a row lie together, and a warp takes a row; else
   neighbouring rows lie together, and a thread takes one. Three passes, of which two come from
   the cache, about 6 FLOPs and an exponential an element; x and y once through memory. */
#include "reduce.cuh"

template <bool LOG>
__device__ void softmax_of(const Real* x, Real* y, long long rows, int C, int B) {
  const bool whole = B == 1;  // a warp to a row
  const long long thread = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  const long long row = whole ? thread / 32 : thread;
  if (row >= rows) return;  // of a warp that shares a row all or none
  const long long begin = row / B * C * B + row % B;
  const int first = whole ? threadIdx.x % 32 : 0, step = whole ? 32 : 1;

  Real top = -INFINITY, sum = 0;
  for (int c = first; c < C; c += step) {
    const Real here = x[begin + (long long)c * B];
    top = here != here || here > top ? here : top;
  }
  if (whole) top = warp_max(top);
  for (int c = first; c < C; c += step) sum += exp(x[begin + (long long)c * B] - top);
  if (whole) sum = warp_sum(sum);
  for (int c = first; c < C; c += step) {
    const long long i = begin + (long long)c * B;
    y[i] = LOG ? x[i] - top - log(sum) : exp(x[i] - top) / sum;
  }
}

extern "C" __global__ void softmax(const Real* x, Real* y, long long rows, int C, int B) {
  softmax_of<false>(x, y, rows, C, B);
}
extern "C" __global__ void log_softmax(const Real* x, Real* y, long long rows, int C, int B) {
  softmax_of<true>(x, y, rows, C, B);
}
