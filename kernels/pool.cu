/* Pooling and its adjoints; the formulas are in pool.py. One thread per output, so that the
   adjoints, too, gather their contributions and need no atomics. R·S operations per output; x, y
   and index pass through memory once, and overlapping windows are read from the cache. */
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

/* The windows that contain pixel i: p0 ≤ p < p1 and q0 ≤ q < q1, of the plane at `first`. */
struct Windows {
  long long first;
  int p0, p1, q0, q1;

  __device__ Windows(long long i, WINDOW) : first(i / W / H * P * Q) {
    const int w = i % W + pw, h = i / W % H + ph;  // in the padded image
    p0 = h < R ? 0 : (h - R) / sh + 1, q0 = w < S ? 0 : (w - S) / sw + 1;
    p1 = min(P, h / sh + 1), q1 = min(Q, w / sw + 1);
  }
};

extern "C" __global__ void max_unpool2d(const Real* g, const int* index, Real* y, long long n,
                                        WINDOW) {
  const long long i = index_of_thread();
  if (i >= n) return;
  const Windows of(i, H, W, P, Q, R, S, sh, sw, ph, pw);
  const int here = i % ((long long)H * W);
  Real sum = 0;
  for (int p = of.p0; p < of.p1; p++)
    for (int q = of.q0; q < of.q1; q++)
      if (index[of.first + p * Q + q] == here) sum += g[of.first + p * Q + q];
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
  const Windows of(i, H, W, P, Q, R, S, sh, sw, ph, pw);
  Real sum = 0;
  for (int p = of.p0; p < of.p1; p++)
    for (int q = of.q0; q < of.q1; q++) sum += g[of.first + p * Q + q];
  y[i] = sum / (R * S);
}
