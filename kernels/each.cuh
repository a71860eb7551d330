/* Loops over the elements of arrays: each thread handles PER_THREAD elements, a block's width
   apart. */
#pragma once
#include "real.cuh"

constexpr int PER_THREAD = 4;

__device__ inline long long first_element() {
  return (long long)PER_THREAD * blockDim.x * blockIdx.x + threadIdx.x;
}

/* f(i) for the thread's i < n. */
template <class F>
__device__ inline void each(long long n, F f) {
  for (int k = 0; k < PER_THREAD; k++) {
    const long long i = first_element() + k * blockDim.x;
    if (i < n) f(i);
  }
}

/* y[i] = f(i) for the thread's i < n. Everything is read before the first element is written, so
   that enough loads are in flight to hide the latency of memory. */
template <class F>
__device__ inline void each(Real* y, long long n, F f) {
  const long long first = first_element();
  Real held[PER_THREAD];
#pragma unroll
  for (int k = 0; k < PER_THREAD; k++) {
    const long long i = first + k * blockDim.x;
    held[k] = i < n ? Real(f(i)) : 0;
  }
#pragma unroll
  for (int k = 0; k < PER_THREAD; k++) {
    const long long i = first + k * blockDim.x;
    if (i < n) y[i] = held[k];
  }
}

/* f(i, number(i)) for i = first, first + step, … below n, in order. All of each UNROLL numbers are
   read before one is used, for the same reason. */
constexpr int UNROLL = 8;

template <class N, class F>
__device__ inline void each(int first, int n, int step, N number, F f) {
  for (int from = first; from < n; from += UNROLL * step) {
    decltype(number(from)) held[UNROLL];
#pragma unroll
    for (int k = 0; k < UNROLL; k++)
      if (from + k * step < n) held[k] = number(from + k * step);
#pragma unroll
    for (int k = 0; k < UNROLL; k++)
      if (from + k * step < n) f(from + k * step, held[k]);
  }
}
