/* Matrix products of a warpgroup (four warps) straight from shared memory (wgmma, Hopper only):

       multiply(c, a, b)    c[m][n] += Σ_k a(m, k) · b(n, k)    m < 64, n < 8·J, k of 32 bytes

   runs while its threads go on. The products between fence_products(c) and commit_products() form
   a group, and wait_products<N>(c) waits for all groups but the N latest; until then c must not be
   touched, and the operands must not be overwritten. Warp w of the warpgroup holds the rows
   16·w + row_of(0, e), with c[j][e] as in mma.cuh. a may also be in its registers, as in mma.cuh.

   An operand's tile is a sequence of rows of 128 bytes that begins at a multiple of 1024 bytes. It
   is swizzled: chunk c of row r is at place c ^ (r % 8), so that the same chunk of 8 rows lies in
   different banks. If the tile is K_MAJOR, a row holds the numbers of one m or n. If it is
   MN_MAJOR, which works for 2-byte numbers only, a row holds 64 m's or n's of one k, and the next
   64 follow after all the k's of the tile.

   A matrix descriptor tells the hardware where the tile is: bits 0 to 13 are the address; 16 to 29
   the stride, if it is MN_MAJOR, from 64 m's or n's to the next 64; 32 to 45 the stride from 8 rows
   to the next 8, all three divided by 16; 62 and 63 the swizzle mode (PTX manual, section on the
   matrix descriptor). What threads have written to shared memory must be made visible to the
   products by fence_shared(), before the barrier in front of them. */
#pragma once
#include "mma.cuh"

template <class T> struct Swizzled128 {
  static constexpr int WIDTH = 128 / sizeof(T);
  T* at;
  int rows;  // per 64 columns, if there are more than that

  __device__ T* operator()(int row, int column) const {
    const int chunk = (unsigned)column / CHUNK<T> % 8 ^ (unsigned)row % 8;
    return at + ((unsigned)column / WIDTH * rows + row) * WIDTH + chunk * CHUNK<T>
         + (unsigned)column % CHUNK<T>;
  }
};

/* The descriptor of 64 rows of a tile, from `first` on (a multiple of 64), and of the k-th 32 bytes
   along the sum. */
template <Layout LAYOUT, class T>
__device__ unsigned long long descriptor(Swizzled128<T> tile, int first, int k) {
  static_assert(LAYOUT == K_MAJOR || sizeof(T) == 2);
  constexpr int SUM = 32 / sizeof(T);
  const T* from = LAYOUT == K_MAJOR ? tile(first, 0) + k * SUM : tile(k * SUM, first);
#ifdef __CUDACC__
  const unsigned at = __cvta_generic_to_shared(from);
#else
  const unsigned at = (const char*)from - memory;
#endif
  return at / 16 | (unsigned long long)(tile.rows * 8) << 16 | 64ull << 32 | 1ull << 62;
}

#ifdef __CUDACC__
/* A compiler barrier: numbers in registers are computed before this and used after it. */
template <int J> __device__ inline void fence_registers(float (&c)[J][4]) {
#pragma unroll
  for (int j = 0; j < J; j++)
    asm volatile("" : "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3]) :: "memory");
}
template <int J> __device__ inline void fence_registers(unsigned (&a)[J][1][4]) {
#pragma unroll
  for (int j = 0; j < J; j++)
    asm volatile("" : "+r"(a[j][0][0]), "+r"(a[j][0][1]), "+r"(a[j][0][2]), "+r"(a[j][0][3]));
}
__device__ inline void fence_shared() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
template <int J> __device__ inline void fence_products(float (&c)[J][4]) {
  fence_registers(c);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N, int J> __device__ inline void wait_products(float (&c)[J][4]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(N) : "memory");
  fence_registers(c);
}

#define TEN(d) "%" #d "0, %" #d "1, %" #d "2, %" #d "3, %" #d "4, %" #d "5, %" #d "6, %" #d "7, %" \
  #d "8, %" #d "9, "
#define FOUR(j) "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
#define SIXTEEN(j) FOUR(j), FOUR(j + 1), FOUR(j + 2), FOUR(j + 3)
#define WGMMA_OF(shape, sums, operands)                                                           \
  "{ .reg .pred add; setp.eq.u32 add, 1, 1; wgmma.mma_async.sync.aligned." shape " {" sums "}, " \
  operands "; }"
#define WGMMA_256(shape, operands)                                                                \
  asm volatile(WGMMA_OF(shape,                                                                    \
                        TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9)      \
                        TEN(10) TEN(11) "%120, %121, %122, %123, %124, %125, %126, %127",         \
                        operands)                                                                 \
               : SIXTEEN(0), SIXTEEN(4), SIXTEEN(8), SIXTEEN(12), SIXTEEN(16), SIXTEEN(20),       \
                 SIXTEEN(24), SIXTEEN(28)                                                         \
               : "l"(a), "l"(b), "n"(LAYOUT == MN_MAJOR))
template <Layout LAYOUT, class T>
__device__ inline void multiply(float (&c)[32][4], unsigned long long a, unsigned long long b) {
  if constexpr (sizeof(T) == 4)
    WGMMA_256("m64n256k8.f32.tf32.tf32", "%128, %129, add, 1, 1");
  else
    WGMMA_256("m64n256k16.f32.bf16.bf16", "%128, %129, add, 1, 1, %130, %130");
}
#define WGMMA_64(operands)                                                      \
  WGMMA_OF("m64n64k16.f32.bf16.bf16", TEN() TEN(1) TEN(2) "%30, %31", operands) \
      : SIXTEEN(0), SIXTEEN(4)
template <Layout LAYOUT, class T>
__device__ inline void multiply(float (&c)[8][4], unsigned long long a, unsigned long long b) {
  asm volatile(WGMMA_64("%32, %33, add, 1, 1, %34, %34") : "l"(a), "l"(b), "n"(LAYOUT == MN_MAJOR));
}
template <Layout LAYOUT, class T>
__device__ inline void multiply(float (&c)[8][4], const unsigned (&a)[4], unsigned long long b) {
  asm volatile(WGMMA_64("{%32, %33, %34, %35}, %36, add, 1, 1, %37")
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(LAYOUT == MN_MAJOR));
}
#else
template <class A> void fence_registers(A&) {}
inline void fence_shared() { emulate::self().unfenced_copies = false; }
template <class C> void fence_products(C&) { emulate::self().fenced_products = true; }
inline void commit_products() {
  emulate::self().product_groups++;
  emulate::self().fenced_products = false;
}
template <int N, class C>
inline void wait_products(C&) {
  emulate::Fiber& self = emulate::self();
  std::erase_if(self.products, [&](auto& product) {  // computed as late as allowed
    const bool over = product.first + N < self.product_groups;
    if (over) product.second();
    return over;
  });
}
template <class T> inline float value(T x) {
  return std::bit_cast<float>(sizeof(T) == 4 ? x.bits & ~0x1fffu : unsigned(x.bits) << 16);
}
template <Layout LAYOUT, class T>
inline float operand(unsigned long long tile, int row, int k) {
  unsigned at = (tile & 0x3fff) * 16;
  const unsigned wide = (tile >> 16 & 0x3fff) * 16, eight = (tile >> 32 & 0x3fff) * 16;
  if (LAYOUT == K_MAJOR)
    at += row / 8 * eight + row % 8 * 128 + k * sizeof(T);
  else
    at += row / 64 * wide + k / 8 * eight + k % 8 * 128 + row % 64 * sizeof(T);
  if (tile >> 62 != 1) emulate::fail("wgmma: another order of chunks than 128 bytes");
  return value(*(const T*)(memory + (at ^ at / 128 % 8 * 16)));
}
template <Layout LAYOUT, class T, int J, class F>
void multiply_later(float (&c)[J][4], F a, unsigned long long b) {
  emulate::Fiber& self = emulate::self();
  if (self.unfenced_copies) emulate::fail("wgmma: copies that arrived were not shown to it");
  if (!self.fenced_products) emulate::fail("wgmma: products without a fence before them");
  self.products.push_back({self.product_groups, [=, &c] {
    for (int k = 0; k < int(32 / sizeof(T)); k++)
      for (int j = 0; j < J; j++)
        for (int e = 0; e < 4; e++)
          c[j][e] += a(row_of(0, e), k) * operand<LAYOUT, T>(b, column_of(j, e), k);
  }});
}
template <Layout LAYOUT, class T, int J>
void multiply(float (&c)[J][4], unsigned long long a, unsigned long long b) {
  const int first = threadIdx.x / 32 % 4 * 16;
  const auto at = [=](int m, int k) { return operand<LAYOUT, T>(a, first + m, k); };
  multiply_later<LAYOUT, T>(c, at, b);
}
template <Layout LAYOUT, class T, int J>
void multiply(float (&c)[J][4], const unsigned (&a)[4], unsigned long long b) {
  const auto all = emulate::exchange(std::array<unsigned, 4>{a[0], a[1], a[2], a[3]});
  multiply_later<LAYOUT, T>(c, [=](int m, int k) {
    const unsigned two = all[m % 8 * 4 + k / 2 % 4][k / 8 * 2 + m / 8];
    return std::bit_cast<float>(k % 2 ? two & ~0xffffu : two << 16);
  }, b);
}
#endif
