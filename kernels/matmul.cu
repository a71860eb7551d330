/* Matrix product   y[n,i,j] = Σ_{k<K} a[n,i,k] · b[n,k,j]       i < M, j < N, n < the batch

   2·M·N·K FLOPs per matrix. Every array passes through memory at least once; in fact the packed
   rows of a (pack.cu) are read once for every TILE_N columns of y, and the packed columns of b once
   for every TILE_M rows. The tile loop is in product.cuh. a (n, M, K) and b (n, N, K) are padded
   with zeros to K numbers; a step of 0 repeats a matrix over the batch. */
#include "product.cuh"

struct Matmul : Problem<Matrix> {
  __device__ int a_row(int i) const { return i * end; }
  __device__ int a_l(int k) const { return k; }
  __device__ int b_row(int j) const { return j * end; }
  __device__ int b_l(int k) const { return k; }
  __device__ int y_row(int i) const { return i * N; }
  __device__ int y_column(int j) const { return j; }
};

extern "C" __global__ void __launch_bounds__(THREADS) matmul(
    const Input* a, const Input* b, Real* y, int M, int N, int K, long long a_step,
    long long b_step) {
  const TileIndex place(M, N);
  const long long n = place.which;
  product<K_MAJOR>(Matmul{{{a + n * a_step}, {b + n * b_step}, M, N, 0, K,
                         y + n * M * N, N % 2 == 0}}, place);
}
