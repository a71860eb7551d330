/* Random numbers from a counter; the formulas are in philox.py. Each thread computes the four
   numbers of one counter value, in about 10·8 integer operations, and writes them. The seed and the
   first counter value are read from device memory, so that a recorded launch draws new numbers
   whenever they have changed. */
#include "real.cuh"

__device__ inline void philox(unsigned (&c)[4], unsigned long long seed, unsigned long long count) {
  unsigned k0 = seed, k1 = seed >> 32;
  c[0] = count, c[1] = count >> 32, c[2] = 0, c[3] = 0;
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const unsigned high0 = __umulhi(0xD2511F53u, c[0]), low0 = 0xD2511F53u * c[0];
    const unsigned high1 = __umulhi(0xCD9E8D57u, c[2]), low1 = 0xCD9E8D57u * c[2];
    c[0] = high1 ^ c[1] ^ k0, c[1] = low1, c[2] = high0 ^ c[3] ^ k1, c[3] = low0;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
}

__device__ inline long long index_of_thread() {
  return blockIdx.x * (long long)blockDim.x + threadIdx.x;
}

extern "C" __global__ void random_bits(const unsigned long long* state, unsigned* y, long long n) {
  const long long i = index_of_thread();
  unsigned c[4];
  philox(c, state[0], state[1] + i);
  for (int j = 0; j < 4; j++)
    if (4 * i + j < n) y[4 * i + j] = c[j];
}

extern "C" __global__ void random_uniform(const unsigned long long* state, Real* y, long long n) {
  const long long i = index_of_thread();
  unsigned c[4];
  philox(c, state[0], state[1] + i);
  for (int j = 0; j < 4; j++)
    if (4 * i + j < n) y[4 * i + j] = (c[j] >> 8) * Real(1.0 / (1 << 24));
}

extern "C" __global__ void random_normal(const unsigned long long* state, Real* y, long long n) {
  const long long i = index_of_thread();
  unsigned c[4];
  philox(c, state[0], state[1] + i);
  for (int j = 0; j < 4; j += 2) {
    const Real u = ((c[j] >> 8) + Real(0.5)) * Real(1.0 / (1 << 24));
    const Real angle = (c[j + 1] >> 8) * Real(2.0 / (1 << 24));  // in units of π
    const Real radius = sqrt(-2 * log(u));
    if (4 * i + j < n) y[4 * i + j] = radius * cospi(angle);
    if (4 * i + j + 1 < n) y[4 * i + j + 1] = radius * sinpi(angle);
  }
}
