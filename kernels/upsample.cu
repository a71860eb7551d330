/* Up-sampling and its adjoints; the formulas are in upsample.py. One thread per output: at most
   four reads, all but one from the cache, and 8 FLOPs. The adjoints gather, so they need no
   atomics: a pixel's thread walks over the few outputs near it and computes its weight in each. */
#include "real.cuh"

/* One row of the matrix A (m, n): its entries are 1 − t at lo and t at hi. */
struct Nearest {
  int lo, hi;
  Real t;
  __device__ Nearest(int p, int n, int m) {
    lo = hi = min((int)((float)p * ((float)n / (float)m)), n - 1);  // in float, as PyTorch does
    t = 0;
  }
};

struct Bilinear {
  int lo, hi;
  Real t;
  __device__ Bilinear(int p, int n, int m) {
    const long long whole = 2ll * m;  // the position is u / whole
    const long long u = min(max(0ll, (2ll * p + 1) * n - m), whole * (n - 1));
    lo = u / whole;
    hi = min(lo + 1, n - 1);
    t = (Real)(u % whole) / whole;
  }
};

template <class Row>
__device__ void apply(const Real* x, Real* y, long long count, int H, int W, int P, int Q) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i >= count) return;
  const Row a(i / Q % P, H, P), b(i % Q, W, Q);
  const Real *up = x + (i / Q / P * H + a.lo) * W, *down = x + (i / Q / P * H + a.hi) * W;
  if (a.t == 0 && b.t == 0) {  // a copy, even of numbers that are not finite
    y[i] = up[b.lo];
    return;
  }
  const Real left = (1 - a.t) * up[b.lo] + a.t * down[b.lo];
  const Real right = (1 - a.t) * up[b.hi] + a.t * down[b.hi];
  y[i] = (1 - b.t) * left + b.t * right;
}

template <class Row>
__device__ Real weight(int p, int h, int n, int m) {
  const Row a(p, n, m);
  return (a.lo == h ? 1 - a.t : 0) + (a.hi == h ? a.t : 0);
}

/* The outputs that may read input h: from first(h) up to, but not including, last(h). */
__device__ inline int first(int h, int n, int m) {
  return max(0ll, (h - 1ll) * m / n - 1);
}
__device__ inline int last(int h, int n, int m) {
  return min((long long)m, (h + 2ll) * m / n + 2);
}

template <class Row>
__device__ void transpose(const Real* g, Real* y, long long count, int H, int W, int P, int Q) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i >= count) return;
  const int h = i / W % H, w = i % W;
  const Real* plane = g + i / W / H * P * Q;
  Real sum = 0;
  for (int p = first(h, H, P); p < last(h, H, P); p++) {
    const Real a = weight<Row>(p, h, H, P);
    if (a == 0) continue;
    for (int q = first(w, W, Q); q < last(w, W, Q); q++) {
      const Real b = weight<Row>(q, w, W, Q);
      if (b != 0) sum += a * b * plane[p * Q + q];
    }
  }
  y[i] = sum;
}

#define SIZES long long count, int H, int W, int P, int Q
extern "C" __global__ void upsample_nearest(const Real* x, Real* y, SIZES) {
  apply<Nearest>(x, y, count, H, W, P, Q);
}
extern "C" __global__ void upsample_bilinear(const Real* x, Real* y, SIZES) {
  apply<Bilinear>(x, y, count, H, W, P, Q);
}
extern "C" __global__ void upsample_nearest_transpose(const Real* g, Real* y, SIZES) {
  transpose<Nearest>(g, y, count, H, W, P, Q);
}
extern "C" __global__ void upsample_bilinear_transpose(const Real* g, Real* y, SIZES) {
  transpose<Bilinear>(g, y, count, H, W, P, Q);
}
