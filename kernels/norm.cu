/* Batch, group and layer normalisation and their adjoint: the formulas stand in norm.py.

   x (N, C, L) falls into groups that share mean and variance: in batch norm a channel of all
   images, else M neighbouring channels of one image, where layer norm has one group and L = 1.
   A group is `outer` runs of `inner` numbers, `stride` apart. A block takes one: a pass for the mean,
   one for the deviations from it, one to write; after the first pass a group of the usual size
   comes from the cache. About 8 FLOPs and 8 bytes an element: memory's speed counts.

   The gradients of weight and bias are sums: over the pixels of each image's channel in group norm,
   by a warp; else over all images, in blocks of 32 × 8 threads that take 32 neighbouring positions
   (c, l) and a part of the images each, whose sums the host adds.

   With `silu` y = h σ(h) of the normalised h, which is made again in the backward pass. */
#include "divisor.cuh"
#include "reduce.cuh"

struct Group {
  int outer, stride;
  Divisor inner;
  int step, G, M;  // groups of an image, channels of a group
  Divisor L;       // numbers of a channel
  int sample;      // from one image's weights to the next, 0 if they share them

  __device__ int count() const { return outer * inner; }
  __device__ long long at(int i) const {  // where the group's i-th number lies
    const long long first = blockIdx.x * (long long)step;
    return first + (outer == 1 ? i : (long long)(i / inner) * stride + i % inner);
  }
  __device__ int weight(int i) const {
    return blockIdx.x / G * sample + blockIdx.x % G * M + (outer == 1 ? i / L : 0);
  }
};
#define LAYOUT int outer, int stride, int inner, int step, int G, int M, int L, int sample
#define GROUP {outer, stride, inner, step, G, M, L, sample}

__device__ inline Real sigma(Real h) { return 1 / (1 + exp(-h)); }

/* The gradient with respect to h, which is weight · xhat + bias. */
__device__ inline Real before_silu(Real g, Real xhat, const Real* weight, const Real* bias, int c,
                                   bool silu) {
  if (!silu) return g;
  const Real h = (weight ? xhat * weight[c] : xhat) + (bias ? bias[c] : 0), s = sigma(h);
  return g * (s * (1 + h * (1 - s)));
}

extern "C" __global__ void norm_forward(
    const Real* x, const Real* weight, const Real* bias, Real* y, Real* means, Real* vars,
    Real* rstds, LAYOUT, Real eps, bool silu) {
  const Group group = GROUP;
  const int n = group.count();
  Real sum = 0, squares = 0, rest = 0;
#pragma unroll 8
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[group.at(i)];
  const Real about = block_sum(sum) / n;
#pragma unroll 8
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    const Real d = x[group.at(i)] - about;
    rest += d;  // what rounding left of the mean
    squares += d * d;
  }
  rest = block_sum(rest) / n;
  const Real mean = about + rest, var = block_sum(squares) / n - rest * rest;
  const Real rstd = 1 / sqrt(var + eps);
  if (threadIdx.x == 0) {
    means[blockIdx.x] = mean;
    vars[blockIdx.x] = var;
    rstds[blockIdx.x] = rstd;
  }
#pragma unroll 8
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    const int c = group.weight(i);
    const Real xhat = (x[group.at(i)] - mean) * rstd;
    const Real h = (weight ? xhat * weight[c] : xhat) + (bias ? bias[c] : 0);
    y[group.at(i)] = silu ? h * sigma(h) : h;
  }
}

extern "C" __global__ void norm_backward(
    const Real* g, const Real* x, const Real* weight, const Real* bias, const Real* mean,
    const Real* rstd, Real* gx, LAYOUT, bool silu) {
  const Group group = GROUP;
  const int n = group.count();
  const Real m = mean[blockIdx.x], r = rstd[blockIdx.x];
  auto xhat = [&](int i) { return (x[group.at(i)] - m) * r; };
  auto h = [&](int i) {  // the gradient with respect to xhat
    const int c = group.weight(i);
    const Real gh = before_silu(g[group.at(i)], xhat(i), weight, bias, c, silu);
    return weight ? gh * weight[c] : gh;
  };
  Real slope = 0, shift = 0;
#pragma unroll 8
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    slope += h(i) * xhat(i);
    shift += h(i);
  }
  slope = block_sum(slope) / n;
  shift = block_sum(shift) / n;
#pragma unroll 8
  for (int i = threadIdx.x; i < n; i += blockDim.x)
    gx[group.at(i)] = r * (h(i) - shift - xhat(i) * slope);
}

/* sums[0, n, c] = Σ g·xhat, sums[1, n, c] = Σ g over the pixels of image n's channel c: a warp. */
extern "C" __global__ void norm_channels(
    const Real* g, const Real* x, const Real* weight, const Real* bias, const Real* mean,
    const Real* rstd, Real* sums, long long channels, int C, int M, int L, int sample, bool silu) {
  const long long channel = blockIdx.x * 8ll + threadIdx.x / 32;
  if (channel >= channels) return;
  const long long image = channel / C;
  const int c = channel % C;
  const Real m = mean[channel / M], r = rstd[channel / M];
  Real gw = 0, gb = 0;
#pragma unroll 4
  for (int l = threadIdx.x % 32; l < L; l += 32) {
    const long long i = channel * L + l;
    const Real xhat = (x[i] - m) * r;
    const Real gh = before_silu(g[i], xhat, weight, bias, image * sample + c, silu);
    gw += gh * xhat;
    gb += gh;
  }
  gw = warp_sum(gw);
  gb = warp_sum(gb);
  if (threadIdx.x % 32 == 0) {
    sums[channel] = gw;
    sums[channels + channel] = gb;
  }
}

/* sums[part, 0, c, l] = Σ g·x̂, sums[part, 1, c, l] = Σ g over the part's images; the
   statistics of image n and channel c stand at n · image + c / M. */
extern "C" __global__ void norm_positions(const Real* g, const Real* x, const Real* mean,
                                           const Real* rstd, Real* sums, long long N,
                                           long long positions, int M, int L, int image) {
  __shared__ Real part[2][8][32];
  const long long position = blockIdx.x * 32ll + threadIdx.x;
  const long long begin = blockIdx.y * N / gridDim.y, end = (blockIdx.y + 1) * N / gridDim.y;
  Real gw = 0, gb = 0;
  if (position < positions)
    for (long long n = begin + threadIdx.y; n < end; n += 8) {
      const long long i = n * positions + position, s = n * image + position / L / M;
      gw += g[i] * (x[i] - mean[s]) * rstd[s];
      gb += g[i];
    }
  part[0][threadIdx.y][threadIdx.x] = gw;
  part[1][threadIdx.y][threadIdx.x] = gb;
  __syncthreads();
  if (threadIdx.y < 2 && position < positions) {
    Real sum = 0;
    for (int i = 0; i < 8; i++) sum += part[threadIdx.y][i][threadIdx.x];
    sums[(blockIdx.y * 2 + threadIdx.y) * positions + position] = sum;
  }
}
