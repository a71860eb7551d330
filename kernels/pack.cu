/* Lays out operands for product.cuh's tile loop: matrices (n, rows, L) with any strides become

       y[n, i, l] = x[n·step + i·row + l·column]  rounded to the Input type, 0 for L ≤ l < width

   with l innermost and rows of whole chunks of 16 bytes. Images (N, C, H, W) are N matrices of H·W
   rows and C columns, so their channels become innermost; filters are treated in the same way.

   Every number of x is read once and every number of y written once; no FLOPs. A thread block
   transposes SIDE × SIDE numbers in shared memory: neighbouring threads read along the dimension
   that is contiguous in x, and write whole chunks along l. One launch packs both operands of a
   product. */
#include "mma.cuh"

constexpr int SIDE = 64, THREADS = 256, READS = SIDE * SIDE / THREADS;

struct Matrices {
  const Real* x;
  Input* y;
  int rows, L, width;
  long long step;
  int row, column;

  __device__ void pack(int block) const {
    __shared__ Real tile[SIDE][SIDE + 1];  // + 1: a column's numbers lie in different banks
    const int high = (rows + SIDE - 1) / SIDE, wide = (width + SIDE - 1) / SIDE;
    const int i0 = block % high * SIDE, l0 = block / high % wide * SIDE, n = block / high / wide;
    const Real* from = x + n * step;
    const int fast = threadIdx.x % SIDE;  // along the contiguous dimension of x
    Real held[READS];
#pragma unroll
    for (int e = 0; e < READS; e++) {  // all loads start before one is waited for
      const int slow = threadIdx.x / SIDE + e * (THREADS / SIDE);
      const int i = i0 + (column == 1 ? slow : fast), l = l0 + (column == 1 ? fast : slow);
      held[e] = i < rows && l < L ? from[(long long)i * row + (long long)l * column] : 0;
    }
#pragma unroll
    for (int e = 0; e < READS; e++) {
      const int slow = threadIdx.x / SIDE + e * (THREADS / SIDE);
      (column == 1 ? tile[slow][fast] : tile[fast][slow]) = held[e];
    }
    __syncthreads();
    Input* to = y + (long long)n * rows * width;
    for (int e = threadIdx.x; e < SIDE * SIDE / CHUNK<Input>; e += THREADS) {
      const int i = e / (SIDE / CHUNK<Input>), l = e % (SIDE / CHUNK<Input>) * CHUNK<Input>;
      if (i0 + i >= rows || l0 + l >= width) continue;
      Chunk<Input> chunk;
#pragma unroll
      for (int j = 0; j < CHUNK<Input>; j++) round_to(chunk.v[j], tile[i][l + j]);
      *(Chunk<Input>*)&to[(long long)(i0 + i) * width + l0 + l] = chunk;
    }
  }
};

extern "C" __global__ void __launch_bounds__(THREADS) pack(
    const Real* a, Input* pa, int a_rows, int a_L, int a_width, long long a_step, int a_row,
    int a_column, const Real* b, Input* pb, int b_rows, int b_L, int b_width, long long b_step,
    int b_row, int b_column, int blocks_of_a) {
  const int block = blockIdx.x;
  const Matrices of_a = {a, pa, a_rows, a_L, a_width, a_step, a_row, a_column};
  const Matrices of_b = {b, pb, b_rows, b_L, b_width, b_step, b_row, b_column};
  if (block < blocks_of_a)
    of_a.pack(block);
  else
    of_b.pack(block - blocks_of_a);
}
