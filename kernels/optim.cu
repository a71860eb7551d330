/* The in-place updates of the optimisers; the equations are in optim.py.

   About 10 FLOPs per element; adam moves 7 numbers (reads p, g, m, v, writes p, m, v), which takes
   all of its time. Neighbouring threads access neighbouring numbers, so every access of a warp is
   fully coalesced.

   scalars = (factor, lr, t) is read from device memory, so that a recorded launch uses the values
   of its step. One thread per block computes what depends on t, in double: in float, 1 − βᵗ would
   lose most of its digits. */
#include "each.cuh"

extern "C" __global__ void adam(const Real* g, Real* m, Real* v, Real* p, long long n,
                                const double* scalars, double beta1, double beta2, double eps,
                                double weight_decay, bool decoupled) {
  __shared__ Real step, scale;
  if (threadIdx.x == 0) {
    step = scalars[1] / (1 - pow(beta1, scalars[2]));
    scale = 1 / sqrt(1 - pow(beta2, scalars[2]));
  }
  __syncthreads();
  const Real factor = scalars[0], decay = decoupled ? 0 : weight_decay;
  const Real keep = decoupled ? 1 - scalars[1] * weight_decay : 1;
  if (factor != factor) return;
  each(n, [=](long long i) {
    const Real gi = factor * g[i] + decay * p[i];
    const Real mi = Real(beta1) * m[i] + Real(1 - beta1) * gi;
    const Real vi = Real(beta2) * v[i] + Real(1 - beta2) * gi * gi;
    m[i] = mi;
    v[i] = vi;
    p[i] = keep * p[i] - step * mi / (sqrt(vi) * scale + Real(eps));
  });
}

extern "C" __global__ void sgd(const Real* g, Real* buf, Real* p, long long n,
                               const double* scalars, double momentum, double dampening,
                               double weight_decay, bool nesterov) {
  const Real factor = scalars[0], lr = scalars[1];
  const bool first = scalars[2] == 1;  // when buf does not hold anything yet
  if (factor != factor) return;
  each(n, [=](long long i) {
    Real gi = factor * g[i] + Real(weight_decay) * p[i];
    if (momentum != 0) {
      buf[i] = first ? gi : Real(momentum) * buf[i] + Real(1 - dampening) * gi;
      gi = nesterov ? gi + Real(momentum) * buf[i] : buf[i];
    }
    p[i] -= lr * gi;
  });
}

extern "C" __global__ void rmsprop(const Real* g, Real* v, Real* buf, Real* p, long long n,
                                   const double* scalars, double alpha, double eps,
                                   double weight_decay, double momentum) {
  const Real factor = scalars[0], lr = scalars[1];
  if (factor != factor) return;
  each(n, [=](long long i) {
    const Real gi = factor * g[i] + Real(weight_decay) * p[i];
    v[i] = Real(alpha) * v[i] + Real(1 - alpha) * gi * gi;
    Real u = gi / (sqrt(v[i]) + Real(eps));
    if (momentum != 0) {
      u += Real(momentum) * buf[i];
      buf[i] = u;
    }
    p[i] -= lr * u;
  });
}

extern "C" __global__ void ema(const Real* p, Real* a, long long n, const double* decay) {
  const Real rate = 1 - *decay;
  each(n, [=](long long i) { a[i] += rate * (p[i] - a[i]); });
}
