/* Pooling and its adjoints: the formulas stand in pool.py. One thread an output, so that every
   adjoint, too, gathers what leads to it and needs no atomics. R·S operations an output; x, y
   and index once through memory, overlapping windows from the cache. */
#include "real.cuh"

#define WINDOW int H, int W, int P, int Q, int R, int S, int sh, int sw, int ph, int pw

__device__ inline long long index_of_thread() {
  return blockIdx.x * (long long)blockDim.x + threadIdx.x;
}

extern "C" __global__ void max_pool2d(const Real* x, int* index, Real* y, long long n, WINDOW) {
  const long long i = index_of_thread();
  if (i >= n) return;
  const int q = i % Q, p = i / Q % P;
  const Real* plane = x + i / Q / P * H * W;
  const int h0 = max(0, p * sh - ph), w0 = max(0, q * sw - pw);
  const int h1 = min(H, p * sh - ph + R), w1 = min(W, q * sw - pw + S);
  int at = h0 * W + w0;
  Real best = plane[at];
  for (int h = h0; h < h1; h++)
    for (int w = w0; w < w1; w++) {
      const Real here = plane[h * W + w];
      if (here > best || (here != here && best == best)) best = here, at = h * W + w;
    }
  y[i] = best;
  index[i] = at;
}

/* Every pixel looks through all maxima of its plane for those at its place: H·W·P·Q comparisons
   of a number that the whole block reads together, for planes of a few thousand pixels at most.
   */
extern "C" __global__ void max_unpool2d(const Real* g, const int* index, Real* y, long long n,
                                        int HW, int PQ) {
  const long long i = index_of_thread();
  if (i >= n) return;
  const long long plane = i / HW;
  const int here = i % HW;
  Real sum = 0;
  for (long long j = plane * PQ; j < (plane + 1) * PQ; j++)
    if (index[j] == here) sum += g[j];
  y[i] = sum;
}

extern "C" __global__ void max_pool2d_at(const Real* x, const int* index, Real* y, long long n,
                                         int HW, int PQ) {
  const long long i = index_of_thread();
  if (i >= n) return;
  const bool inside = 0 <= index[i] && index[i] < HW;
  y[i] = inside ? x[i / PQ * HW + index[i]] : Real(NAN);
}

extern "C" __global__ void avg_pool2d(const Real* x, Real* y, long long n, WINDOW) {
  const long long i = index_of_thread();
  if (i >= n) return;
  const int q = i % Q, p = i / Q % P;
  const Real* plane = x + i / Q / P * H * W;
  Real sum = 0;
  for (int h = max(0, p * sh - ph); h < min(H, p * sh - ph + R); h++)
    for (int w = max(0, q * sw - pw); w < min(W, q * sw - pw + S); w++) sum += plane[h * W + w];
  y[i] = sum / (R * S);
}

extern "C" __global__ void avg_pool2d_transpose(const Real* g, Real* y, long long n, WINDOW) {
  const long long i = index_of_thread();
  if (i >= n) return;
  const int w = i % W + pw, h = i / W % H + ph;  // in the padded image
  const Real* plane = g + i / W / H * P * Q;
  const int p0 = h < R ? 0 : (h - R) / sh + 1, q0 = w < S ? 0 : (w - S) / sw + 1;
  Real sum = 0;
  for (int p = p0; p < min(P, h / sh + 1); p++)
    for (int q = q0; q < min(Q, w / sw + 1); q++) sum += plane[p * Q + q];
  y[i] = sum / (R * S);
}
