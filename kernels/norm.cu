/* Batch, group and layer normalisation and their adjoint: the formulas stand in norm.py.

   x (N, C, L) falls into groups that share mean and variance: in batch norm a channel of all
   images, else M neighbouring channels of one image, where layer norm has one group and L = 1.
   A group is `outer` runs of `inner` numbers, `stride` apart. A block takes one: a pass for the mean,
   one for the deviations from it, one to write; after the first pass a group of the usual size is
   in shared memory. About 8 FLOPs and 8 bytes an element: memory's speed counts.

   The gradients of weight and bias are sums: over the pixels of each image's channel in group norm,
   by a warp; else over all images, in blocks of 32 × 8 threads that take 32 neighbouring positions
   (c, l) and a part of the images each, whose sums the host adds.

   With `silu` y = h σ(h) of the normalised h, which is made again in the backward pass. */
#include "divisor.cuh"
#include "each.cuh"
#include "reduce.cuh"

struct Group {
  int outer, stride;
  Divisor inner;
  int step, G;   // groups of an image
  Divisor M, L;  // channels of a group, numbers of a channel
  int sample;    // from one image's weights to the next, 0 if they share them

  __device__ int count() const { return outer * inner; }
  __device__ long long at(int i) const {  // where the group's i-th number lies
    return blockIdx.x * (long long)step + (long long)(i / inner) * stride + i % inner;
  }
  __device__ int weight(int i) const {
    return blockIdx.x / G * sample + blockIdx.x % G * M + i / L % M;
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

extern __shared__ char memory[];

/* A block's n numbers, which each thread computes and takes up again in later passes: the first
   `kept` of them stay in shared memory, any others are computed anew. */
template <class T, class F> struct Numbers {
  int n, kept;
  F compute;

  template <bool FIRST, class G> __device__ void each(G f) const {
    T* at = (T*)memory;
    ::each(threadIdx.x, n, blockDim.x,
           [&](int i) { return !FIRST && i < kept ? at[i] : compute(i); },
           [&](int i, T number) {
             if (FIRST && i < kept) at[i] = number;
             f(i, number);
           });
  }
};
template <class T, class F>
__device__ Numbers<T, F> numbers(int n, int kept, F compute) { return {n, kept, compute}; }

extern "C" __global__ void norm_forward(
    const Real* x, const Real* weight, const Real* bias, Real* y, Real* means, Real* vars,
    Real* rstds, LAYOUT, int kept, Real eps, bool silu) {
  const Group group = GROUP;
  const int n = group.count();
  const auto xs = numbers<Real>(n, kept, [&](int i) { return x[group.at(i)]; });
  Real sum = 0, squares = 0, rest = 0;
  xs.template each<true>([&](int, Real xi) { sum += xi; });
  const Real about = block_sum(sum) / n;
  xs.template each<false>([&](int, Real xi) {
    rest += xi - about;  // what rounding left of the mean
    squares += (xi - about) * (xi - about);
  });
  rest = block_sum(rest) / n;
  const Real mean = about + rest, var = block_sum(squares) / n - rest * rest;
  const Real rstd = 1 / sqrt(var + eps);
  if (threadIdx.x == 0) {
    means[blockIdx.x] = mean;
    vars[blockIdx.x] = var;
    rstds[blockIdx.x] = rstd;
  }
  xs.template each<false>([&](int i, Real xi) {
    const int c = group.weight(i);
    const Real xhat = (xi - mean) * rstd;
    const Real h = (weight ? xhat * weight[c] : xhat) + (bias ? bias[c] : 0);
    y[group.at(i)] = silu ? h * sigma(h) : h;
  });
}

struct Slope { Real xhat, g; };  // x̂ and a gradient

extern "C" __global__ void norm_backward(
    const Real* g, const Real* x, const Real* weight, const Real* bias, const Real* mean,
    const Real* rstd, Real* gx, LAYOUT, int kept, bool silu) {
  const Group group = GROUP;
  const int n = group.count();
  const Real m = mean[blockIdx.x], r = rstd[blockIdx.x];
  const auto slopes = numbers<Slope>(n, kept, [&](int i) {
    const int c = group.weight(i);
    const Real xhat = (x[group.at(i)] - m) * r;
    const Real gh = before_silu(g[group.at(i)], xhat, weight, bias, c, silu);
    return Slope{xhat, weight ? gh * weight[c] : gh};
  });
  Real slope = 0, shift = 0;
  slopes.template each<true>([&](int, Slope s) {
    slope += s.g * s.xhat;
    shift += s.g;
  });
  slope = block_sum(slope) / n;
  shift = block_sum(shift) / n;
  slopes.template each<false>([&](int i, Slope s) {
    gx[group.at(i)] = r * (s.g - shift - s.xhat * slope);
  });
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
  each(threadIdx.x % 32, L, 32, [&](int l) {
    const long long i = channel * L + l;
    return Slope{(x[i] - m) * r, g[i]};
  }, [&](int, Slope s) {
    const Real gh = before_silu(s.g, s.xhat, weight, bias, image * sample + c, silu);
    gw += gh * s.xhat;
    gb += gh;
  });
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
