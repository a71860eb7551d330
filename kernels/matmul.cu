/* Matrix product   y[n,i,j] = Σ_{k<K} a[n,i,k] · b[n,k,j]       i < M, j < N, n < the batch

   2·M·N·K FLOPs a matrix; at least every array once through memory, of a in fact its packed rows
   (pack.cu) once for every TILE columns of y and of b its columns once for every HIGH rows. The
   tile loop is product.cuh's. a (n, M, K) and b (n, N, K) hold K numbers filled up with zeros; a
   step of 0 repeats a matrix over the batch. */
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
  const Place place(M, N);
  const long long n = place.which;
  product<ALONG>(Matmul{{{a + n * a_step}, {b + n * b_step}, M, N, 0, K,
                         y + n * M * N, N % 2 == 0}}, place);
}
