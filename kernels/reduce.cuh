/* Sums and maxima over the threads of a warp or block, the same in every run and for every thread. */
#pragma once
#include "real.cuh"

template <class F>
__device__ inline Real over_warp(Real x, F f) {
#pragma unroll
  for (int bits = 16; bits; bits /= 2) x = f(x, __shfl_xor_sync(~0u, x, bits));
  return x;
}

__device__ inline Real warp_sum(Real x) {
  return over_warp(x, [](Real a, Real b) { return a + b; });
}

__device__ inline Real warp_max(Real x) {
  return over_warp(x, [](Real a, Real b) { return a != a || a > b ? a : b; });  // NaN wins
}

/* The sum over a block of at most 32 warps, all of them whole. */
__device__ inline Real block_sum(Real x) {
  __shared__ Real part[32];
  x = warp_sum(x);
  __syncthreads();  // the sum before has been read
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
  __syncthreads();
  return warp_sum(threadIdx.x % 32 < blockDim.x / 32 ? part[threadIdx.x % 32] : 0);
}
