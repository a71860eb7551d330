/* Loops over the elements of arrays: a thread has EACH of them, a block's width apart. */
#pragma once
#include "real.cuh"

constexpr int EACH = 4;

__device__ inline long long first_element() {
  return (long long)EACH * blockDim.x * blockIdx.x + threadIdx.x;
}

/* f(i) for i < n. */
template <class F>
__device__ inline void each(long long n, F f) {
  for (int k = 0; k < EACH; k++) {
    const long long i = first_element() + k * blockDim.x;
    if (i < n) f(i);
  }
}

/* y[i] = f(i) for i < n: everything is read before the first is written, because memory answers
   late, and until then there must be enough asked. */
template <class F>
__device__ inline void each(Real* y, long long n, F f) {
  const long long first = first_element();
  Real held[EACH];
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    const long long i = first + k * blockDim.x;
    held[k] = i < n ? Real(f(i)) : 0;
  }
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    const long long i = first + k * blockDim.x;
    if (i < n) y[i] = held[k];
  }
}

/* f(i, number(i)) for the i < n from `first` on, `step` apart, in order; of each EIGHT all are read
   before one is used, for the same reason. */
constexpr int EIGHT = 8;

template <class N, class F>
__device__ inline void each(int first, int n, int step, N number, F f) {
  for (int from = first; from < n; from += EIGHT * step) {
    decltype(number(from)) held[EIGHT];
#pragma unroll
    for (int k = 0; k < EIGHT; k++)
      if (from + k * step < n) held[k] = number(from + k * step);
#pragma unroll
    for (int k = 0; k < EIGHT; k++)
      if (from + k * step < n) f(from + k * step, held[k]);
  }
}
