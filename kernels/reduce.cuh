/* Sums and maxima over the threads of a warp or block, identical in every run and every thread. */
#pragma once
#include "each.cuh"

template <class F>
__device__ inline Real warp_reduce(Real x, F f) {
#pragma unroll
  for (int bits = 16; bits; bits /= 2) x = f(x, __shfl_xor_sync(~0u, x, bits));
  return x;
}

__device__ inline Real warp_sum(Real x) {
  return warp_reduce(x, [](Real a, Real b) { return a + b; });
}

__device__ inline Real warp_max(Real x) {
  return warp_reduce(x, [](Real a, Real b) { return a != a || a > b ? a : b; });  // NaN wins
}

/* The sum over a block of at most 32 warps, all of them full. */
__device__ inline Real block_sum(Real x) {
  __shared__ Real part[32];
  x = warp_sum(x);
  __syncthreads();  // the sum before this one has been read
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
  __syncthreads();
  return warp_sum(threadIdx.x % 32 < blockDim.x / 32 ? part[threadIdx.x % 32] : 0);
}

/* A row of an array (A, C, B), that is, the C numbers with the same a and b, and this thread's part
   of it. Where B = 1 a row is contiguous, and a warp takes it; otherwise a thread takes a row. */
struct Row {
  bool by_warp;           // whether a warp shares the row
  long long row, begin;   // its index, and where its first number is
  int first, step;        // the numbers that this thread handles

  __device__ Row(int C, int B) {
    const long long thread = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    by_warp = B == 1;
    row = by_warp ? thread / 32 : thread;
    begin = row / B * C * B + row % B;
    first = by_warp ? threadIdx.x % 32 : 0;
    step = by_warp ? 32 : 1;
  }
  /* The maximum of a row's numbers, and Σ exp(number − maximum), for every thread of the row. */
  template <class N> __device__ void max_and_sum_exp(int C, N number, Real& top, Real& sum) const {
    top = -INFINITY, sum = 0;
    each(first, C, step, number,
         [&](int, Real here) { top = here != here || here > top ? here : top; });
    if (by_warp) top = warp_max(top);
    each(first, C, step, number, [&](int, Real here) { sum += exp(here - top); });
    if (by_warp) sum = warp_sum(sum);
  }
};
