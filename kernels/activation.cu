/* The activation functions of activation.py and their gradients. One read (two for a gradient) and
   one write per element, with a few dozen operations for an exponential and hardly any otherwise:
   the kernels are limited by memory bandwidth. */
#include "each.cuh"

extern "C" __global__ void sigmoid(const Real* x, Real* y, long long n, Real) {
  each(y, n, [=](long long i) { return 1 / (1 + exp(-x[i])); });
}
extern "C" __global__ void sigmoid_backward(const Real* g, const Real* y, Real* gx, long long n,
                                            Real) {
  each(gx, n, [=](long long i) { return g[i] * (y[i] * (1 - y[i])); });
}

extern "C" __global__ void tanh_backward(const Real* g, const Real* y, Real* gx, long long n,
                                         Real) {
  each(gx, n, [=](long long i) { return g[i] * (1 - y[i] * y[i]); });
}

extern "C" __global__ void softplus(const Real* x, Real* y, long long n, Real) {
  each(y, n, [=](long long i) { return max(x[i], Real(0)) + log1p(exp(-fabs(x[i]))); });
}

extern "C" __global__ void silu(const Real* x, Real* y, long long n, Real) {
  each(y, n, [=](long long i) { return x[i] / (1 + exp(-x[i])); });
}
extern "C" __global__ void silu_backward(const Real* g, const Real* x, Real* gx, long long n,
                                         Real) {
  each(gx, n, [=](long long i) {
    const Real s = 1 / (1 + exp(-x[i]));
    return g[i] * (s * (1 + x[i] * (1 - s)));
  });
}

constexpr Real ROOT_HALF = 0.70710678118654752, ROOT_TWO_PI = 2.5066282746310005;

extern "C" __global__ void gelu(const Real* x, Real* y, long long n, Real) {
  each(y, n, [=](long long i) { return Real(0.5) * x[i] * erfc(-ROOT_HALF * x[i]); });
}
extern "C" __global__ void gelu_backward(const Real* g, const Real* x, Real* gx, long long n,
                                         Real) {
  each(gx, n, [=](long long i) {
    const Real density = exp(Real(-0.5) * x[i] * x[i]) / ROOT_TWO_PI;
    return g[i] * (Real(0.5) * erfc(-ROOT_HALF * x[i]) + x[i] * density);
  });
}

extern "C" __global__ void elu(const Real* x, Real* y, long long n, Real a) {
  each(y, n, [=](long long i) { return x[i] > 0 ? x[i] : a * expm1(x[i]); });
}
extern "C" __global__ void elu_backward(const Real* g, const Real* y, Real* gx, long long n,
                                        Real a) {
  each(gx, n, [=](long long i) { return y[i] > 0 ? g[i] : g[i] * (y[i] + a); });
}

extern "C" __global__ void leaky_relu(const Real* x, Real* y, long long n, Real a) {
  each(y, n, [=](long long i) { return x[i] > 0 ? x[i] : a * x[i]; });
}
extern "C" __global__ void leaky_relu_backward(const Real* g, const Real* x, Real* gx, long long n,
                                               Real a) {
  each(gx, n, [=](long long i) { return x[i] > 0 ? g[i] : g[i] * a; });
}

extern "C" __global__ void relu(const Real* x, Real* y, long long n, Real) {
  each(y, n, [=](long long i) { return x[i] <= 0 ? 0 : x[i]; });
}
extern "C" __global__ void relu_backward(const Real* g, const Real* y, Real* gx, long long n,
                                         Real) {
  each(gx, n, [=](long long i) { return y[i] <= 0 ? 0 : g[i]; });
}
