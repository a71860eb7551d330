/* Matrix product   y[n,i,j] = Σ_{k<K} a[n,i,k] · b[n,k,j]       i < M, j < N, n < the batch

   2·M·N·K FLOPs a matrix; at least every array once through memory, a in fact once for every
   TILE columns of y and b for every TILE rows. The tile loop is product.cuh's; a and b come
   with any strides, so transposed views are read as they lie, and a stride of 0 repeats a
   matrix over the batch. Neighbouring lanes fetch along the dimension that lies together in
   memory. */
#include "product.cuh"

struct Matmul {
  Picture a, b;
  int M, N, begin, end, ai, ak, bk, bj;
  Real* y;

  __device__ Spot a_row(int i) const { return {i * ai, 0, 0}; }
  __device__ Spot a_l(int k) const { return {k * ak, 0, 0}; }
  __device__ Spot b_row(int j) const { return {j * bj, 0, 0}; }
  __device__ Spot b_l(int k) const { return {k * bk, 0, 0}; }
  __device__ void store(int i, int j, Real sum) const { y[(long long)i * N + j] = sum; }
};

extern "C" __global__ void __launch_bounds__(THREADS) matmul(
    const Real* a, const Real* b, Real* y, int M, int N, int K, long long an, int ai, int ak,
    long long bn, int bk, int bj) {
  const Place place(M, N);
  const long long n = place.which;
  product(Matmul{{a + n * an, 1, 1, ak == 1}, {b + n * bn, 1, 1, bk == 1}, M, N, 0, K, ai, ak, bk,
                 bj, y + n * M * N}, place);
}
