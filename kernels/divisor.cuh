/* Divisors that are used many times, for numbers 0 ≤ n < 2^31 (Granlund and Montgomery, 1994):

       n / d = ⌊n·m / 2^(32+shift)⌋    with m = 2^32 + multiple just above 2^(32+shift) / d

   so that two instructions replace the twenty of a division. A divisor of 0 counts as 1. */
#pragma once

struct Divisor {
  int d;
  unsigned multiple, shift;

  __device__ Divisor(int by) : d(max(by, 1)), shift(32 - __clz(d - 1)) {
    multiple = (((1ull << shift) - d) << 32) / d + 1;
  }
  __device__ operator int() const { return d; }
};
__device__ inline int operator/(int n, const Divisor& by) {
  return (__umulhi(n, by.multiple) + n) >> by.shift;
}
__device__ inline int operator%(int n, const Divisor& by) { return n - n / by * by.d; }
