/* Batch, group and layer normalisation and their adjoint; the formulas are in norm.py.

   x (N, C, L) is divided into groups that share mean and variance: in batch norm a channel of all
   images, otherwise M neighbouring channels of one image. A group is `runs` contiguous runs of
   `length` numbers, `stride` apart. A run is either a channel of an image, with one weight and one
   bias, or, where L = 1, as in layer norm, a part of a group whose numbers have a weight and a bias
   each.

   A thread block takes a group, each of its warps a run at a time: one pass for the mean, one
   for the deviations from it, one to write. At about 8 FLOPs and 8 bytes per number, memory is the
   bottleneck, so a group of the usual size stays in shared memory after the first pass.

   The gradients of a channel's weight and bias are sums over runs: the kernel computes the sum of
   each run on the way, and the host adds them. Where each number has a weight and a bias, their
   gradients are sums over images, computed by blocks of 32 × 8 threads that take 32 neighbouring
   numbers and a part of the images each.

   With `silu`, y = h σ(h) of the normalised h, which the backward pass recomputes. */
#include "reduce.cuh"

extern __shared__ char memory[];

struct Group {
  int runs, length;
  long long step, stride;         // offsets from group to group, from run to run
  int G, M;                       // groups per image, channels per group
  int by_run, by_number, sample;  // from a run's, number's, image's weights to the next
  int kept;                       // how many numbers of a group shared memory holds

  __device__ int count() const { return runs * length; }
  __device__ long long at(int run) const {
    return blockIdx.x * step + run * stride;
  }
  __device__ int weight(int run) const {
    return blockIdx.x / G * sample + blockIdx.x % G * M + run * by_run;
  }
  /* f(run) for each run of this warp. */
  template <class F> __device__ void each(F f) const {
    for (int run = threadIdx.x / 32; run < runs; run += blockDim.x / 32) f(run);
  }
  /* f(j, number(j)) for this lane's part of a run. The FIRST time keeps the numbers, as far as they
     fit in shared memory; from then on they are read from there. */
  template <bool FIRST, class N, class F> __device__ void each(int run, N number, F f) const {
    typedef decltype(number(0)) T;
    T* held = (T*)memory + run * length;
    const int here = kept - run * length;
    ::each(threadIdx.x % 32, length, 32,
           [&](int j) { return !FIRST && j < here ? held[j] : number(j); },
           [&](int j, T x) {
             if (FIRST && j < here) held[j] = x;
             f(j, x);
           });
  }
};
#define LAYOUT \
  int runs, int length, long long step, long long stride, int G, int M, int by_run, \
      int by_number, int sample, int kept
#define GROUP {runs, length, step, stride, G, M, by_run, by_number, sample, kept}

/* h = weight · xhat + bias for the numbers of a run, with one weight and bias or one per number. */
struct Affine {
  const Real *weights, *biases;
  Real weight, bias;

  __device__ Affine(const Group& group, int run, const Real* of_weight, const Real* of_bias)
      : weights(nullptr), biases(nullptr), weight(1), bias(0) {
    const int at = group.weight(run);
    if (of_weight && group.by_number) weights = of_weight + at;
    else if (of_weight) weight = of_weight[at];
    if (of_bias && group.by_number) biases = of_bias + at;
    else if (of_bias) bias = of_bias[at];
  }
  __device__ Real operator()(Real xhat, int j) const {
    return xhat * (weights ? weights[j] : weight) + (biases ? biases[j] : bias);
  }
};

__device__ inline Real sigma(Real h) { return 1 / (1 + exp(-h)); }

extern "C" __global__ void norm_forward(
    const Real* x, const Real* weight, const Real* bias, Real* y, Real* means, Real* vars,
    Real* rstds, LAYOUT, Real eps, bool silu) {
  const Group group = GROUP;
  auto number = [&](int run) {
    const Real* from = x + group.at(run);
    return [=](int j) { return from[j]; };
  };
  Real sum = 0, squares = 0, rest = 0;
  group.each([&](int run) {
    group.each<true>(run, number(run), [&](int, Real xj) { sum += xj; });
  });
  const Real estimate = block_sum(sum) / group.count();
  group.each([&](int run) {
    group.each<false>(run, number(run), [&](int, Real xj) {
      rest += xj - estimate;  // the rounding error of the mean
      squares += (xj - estimate) * (xj - estimate);
    });
  });
  rest = block_sum(rest) / group.count();
  const Real spread = block_sum(squares) / group.count() - rest * rest;
  const Real mean = estimate + rest, var = spread < 0 ? 0 : spread;  // NaN stays NaN
  const Real rstd = 1 / sqrt(var + eps);
  if (threadIdx.x == 0) {
    means[blockIdx.x] = mean;
    vars[blockIdx.x] = var;
    rstds[blockIdx.x] = rstd;
  }
  group.each([&](int run) {
    const Affine affine(group, run, weight, bias);
    Real* to = y + group.at(run);
    group.each<false>(run, number(run), [&](int j, Real xj) {
      const Real h = affine((xj - mean) * rstd, j);
      to[j] = silu ? h * sigma(h) : h;
    });
  });
}

struct Pair { Real x, g; };

/* gx and, unless gw is null (as it must be where each number has a weight), Σ g·xhat and Σ g of
   each run. */
extern "C" __global__ void norm_backward(
    const Real* g, const Real* x, const Real* weight, const Real* bias, const Real* mean,
    const Real* rstd, Real* gx, Real* gw, Real* gb, LAYOUT, bool silu) {
  const Group group = GROUP;
  const Real m = mean[blockIdx.x], r = rstd[blockIdx.x];
  auto numbers = [&](int run) {
    const Real *of_x = x + group.at(run), *of_g = g + group.at(run);
    return [=](int j) { return Pair{of_x[j], of_g[j]}; };
  };
  auto before_silu = [&](Pair& two, const Affine& affine, int j) {  // to (xhat, h's gradient)
    two.x = (two.x - m) * r;
    if (!silu) return;
    const Real h = affine(two.x, j), p = sigma(h);
    two.g *= p * (1 + h * (1 - p));
  };
  Real slopes = 0, shift = 0;
  group.each([&](int run) {
    const Affine affine(group, run, weight, bias);
    Real of_weight = 0, of_bias = 0;
    group.each<true>(run, numbers(run), [&](int j, Pair two) {
      before_silu(two, affine, j);
      if (affine.weights) two.g *= affine.weights[j];
      of_weight += two.g * two.x;
      of_bias += two.g;
    });
    slopes += affine.weight * of_weight;
    shift += affine.weight * of_bias;
    if (gw) {
      of_weight = warp_sum(of_weight);
      of_bias = warp_sum(of_bias);
      if (threadIdx.x % 32 == 0) {
        gw[blockIdx.x * runs + run] = of_weight;
        gb[blockIdx.x * runs + run] = of_bias;
      }
    }
  });
  slopes = block_sum(slopes) / group.count();
  shift = block_sum(shift) / group.count();
  group.each([&](int run) {
    const Affine affine(group, run, weight, bias);
    Real* to = gx + group.at(run);
    group.each<false>(run, numbers(run), [&](int j, Pair two) {
      before_silu(two, affine, j);
      two.g *= affine.weights ? affine.weights[j] : affine.weight;
      to[j] = r * (two.g - shift - two.x * slopes);
    });
  });
}

/* sums[part, 0, c] = Σ g·xhat, sums[part, 1, c] = Σ g over the part's images, where L = 1. */
extern "C" __global__ void norm_numbers(const Real* g, const Real* x, const Real* mean,
                                        const Real* rstd, Real* sums, long long N, int C) {
  __shared__ Real part[2][8][32];
  const int c = blockIdx.x * 32 + threadIdx.x;
  const long long begin = blockIdx.y * N / gridDim.y, end = (blockIdx.y + 1) * N / gridDim.y;
  Real gw = 0, gb = 0;
  if (c < C)
    for (long long n = begin + threadIdx.y; n < end; n += 8) {
      gw += g[n * C + c] * (x[n * C + c] - mean[n]) * rstd[n];
      gb += g[n * C + c];
    }
  part[0][threadIdx.y][threadIdx.x] = gw;
  part[1][threadIdx.y][threadIdx.x] = gb;
  __syncthreads();
  if (threadIdx.y < 2 && c < C) {
    Real sum = 0;
    for (int i = 0; i < 8; i++) sum += part[threadIdx.y][i][threadIdx.x];
    sums[(blockIdx.y * 2 + threadIdx.y) * C + c] = sum;
  }
}
