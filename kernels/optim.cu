/* The updates of the optimisers, in place: the equations stand in optim.py.

   One thread an element, a grid of them: about 10 FLOPs an element; adam moves 7 numbers (reads
   p, g, m, v, writes p, m, v), which is all of its time. Neighbouring threads touch
   neighbouring numbers, so every transaction of a warp is whole. Numbers come in the dtype of
   the arrays, worked out on the host as optim.py's `cpu` versions do. */
#include "real.cuh"

extern "C" __global__ void adam(const Real* g, Real* m, Real* v, Real* p, long long n,
                                Real factor, Real decay, Real shrink, Real beta1, Real rest1,
                                Real beta2, Real rest2, Real step, Real scale, Real eps) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i >= n) return;
  const Real gi = factor * g[i] + decay * p[i];
  m[i] = beta1 * m[i] + rest1 * gi;
  v[i] = beta2 * v[i] + rest2 * gi * gi;
  p[i] = shrink * p[i] - step * m[i] / (sqrt(v[i]) * scale + eps);
}

extern "C" __global__ void sgd(const Real* g, Real* buf, Real* p, long long n, Real factor,
                               Real lr, Real decay, Real keep, Real take, Real from_g,
                               Real from_buf, bool momentum) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i >= n) return;
  Real gi = factor * g[i] + decay * p[i];
  if (momentum) {
    buf[i] = (keep == 0 ? 0 : keep * buf[i]) + take * gi;  // the first time buf holds anything
    gi = from_g * gi + from_buf * buf[i];
  }
  p[i] -= lr * gi;
}

extern "C" __global__ void rmsprop(const Real* g, Real* v, Real* buf, Real* p, long long n,
                                   Real factor, Real lr, Real alpha, Real rest, Real eps,
                                   Real decay, Real keep, bool momentum) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i >= n) return;
  const Real gi = factor * g[i] + decay * p[i];
  v[i] = alpha * v[i] + rest * gi * gi;
  Real u = gi / (sqrt(v[i]) + eps);
  if (momentum) {
    u += keep * buf[i];
    buf[i] = u;
  }
  p[i] -= lr * u;
}

extern "C" __global__ void ema(const Real* p, Real* a, long long n, Real rest) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) a[i] += rest * (p[i] - a[i]);
}
