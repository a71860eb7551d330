/* Sums of large arrays; the formulas are in sums.py.

   channel_sum: one block per channel; its threads walk side by side over the channel's numbers in
   all images, and add up their sums at the end. square_sum: one block per part of the numbers;
   few sums are then left to add. add_parts: one thread for each sum over the parts that
   conv2d_weight.cu leaves, (parts, K, RS, C) → (K, D, RS), where C is D padded. One or two FLOPs
   per number; every array passes through memory once. */
#include "divisor.cuh"
#include "reduce.cuh"

extern "C" __global__ void channel_sum(const Real* x, Real* y, int N, int C, int L) {
  const Divisor length(L);
  Real sum = 0;
  each(threadIdx.x, N * L, blockDim.x, [&](int i) {
    return x[((long long)(i / length) * C + blockIdx.x) * L + i % length];
  }, [&](int, Real here) { sum += here; });
  sum = block_sum(sum);
  if (threadIdx.x == 0) y[blockIdx.x] = sum;
}

extern "C" __global__ void square_sum(const Real* x, Real* parts, long long n, int part) {
  const long long first = (long long)blockIdx.x * part;
  Real sum = 0;
  each(threadIdx.x, min((long long)part, n - first), blockDim.x,
       [&](int i) { return x[first + i]; }, [&](int, Real here) { sum += here * here; });
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

extern "C" __global__ void add_parts(const Real* sums, Real* gw, int parts, int K, int D, int RS,
                                     int C) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, size = K * RS * C;
  const int k = i / (RS * C), tap = i / C % RS, d = i % C;
  if (i >= size || d >= D) return;
  Real sum = 0;
#pragma unroll 4
  for (int part = 0; part < parts; part++) sum += sums[(long long)part * size + i];
  gw[(k * D + d) * RS + tap] = sum;
}
