/* Matrix products of a warp, with operands in shared memory: tensor cores for tf32 and bf16, plain
   multiply-adds for float and double, behind one function.

       multiply(c, a, b, K):   c[m][n] += Σ_{k<K} a(m, k) · b(n, k)       m < 16·I, n < 8·J

   The accumulators c are in the warp's registers, four per lane for every 16 × 8 of them, in the
   layout of the matrix instruction: with g = lane / 4 and t = lane % 4,

       c[i][j][e]  is at row 16·i + g + 8·(e / 2), column 8·j + 2·t + e % 2

   An instruction takes 32 bytes along k (8 tf32 or 16 bf16). In words of 4 bytes, word w of row r
   of a is in register 2·(w / 4) + r / 8 of lane 4·(r % 8) + w % 4, and word w of row n of b is in
   register w / 4 of lane 4·n + w % 4 (PTX manual, fragments of mma.m16n8k8 and mma.m16n8k16).
   ldmatrix loads four 8 × 8 matrices of 2-byte elements, or equivalently four of 8 rows of 4 words;
   it can also transpose them as matrices of 2-byte elements. */
#pragma once
#include "real.cuh"

#ifndef INPUT
#define INPUT REAL  // what the operands of products are rounded to: REAL itself, tf32 or bf16
#endif

struct tf32 { unsigned bits; };        // a float with 10 bits of mantissa, error at most 2^-11
struct bf16 { unsigned short bits; };  // the upper half of a float: 7 bits, error at most 2^-8
typedef INPUT Input;

template <class T> constexpr bool tensor = sizeof(T) < 4;
template <> constexpr bool tensor<tf32> = true;
template <class T> constexpr int CHUNK = 16 / sizeof(T);  // numbers loaded or stored at once
template <class T> struct alignas(16) Chunk { T v[CHUNK<T>]; };

__device__ inline int lane() { return threadIdx.x % 32; }

/* Round x to nearest in the operand type of y. */
__device__ inline void round_to(float& y, float x) { y = x; }
__device__ inline void round_to(double& y, double x) { y = x; }
#ifdef __CUDACC__
__device__ inline void round_to(tf32& y, float x) {
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y.bits) : "f"(x));
}
__device__ inline void round_to(bf16& y, float x) {
  unsigned two;
  asm("cvt.rn.bf16x2.f32 %0, %1, %1;" : "=r"(two) : "f"(x));
  y.bits = two;
}
__device__ inline unsigned round_two(float low, float high) {  // to bf16, into one word
  unsigned two;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(high), "f"(low));
  return two;
}
#define LDMATRIX(name)                                                           \
  asm volatile(name ".shared.b16 {%0, %1, %2, %3}, [%4];"                        \
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])              \
               : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory")
__device__ inline void ldmatrix(unsigned (&to)[4], const void* row) {
  LDMATRIX("ldmatrix.sync.aligned.m8n8.x4");
}
__device__ inline void ldmatrix_transposed(unsigned (&to)[4], const void* row) {
  LDMATRIX("ldmatrix.sync.aligned.m8n8.x4.trans");
}
#define MMA(name)                                                                      \
  asm volatile(name " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                        \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
template <class T>
__device__ inline void mma(float (&c)[4], const unsigned (&a)[4], const unsigned* b) {
  if constexpr (sizeof(T) == 4)
    MMA("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32");
  else
    MMA("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32");
}
#else
inline void round_to(tf32& y, float x) {  // ties away from zero
  y.bits = std::bit_cast<unsigned>(x);
  if (std::isfinite(x)) y.bits += 0x1000;
  y.bits &= ~0x1fffu;
}
inline void round_to(bf16& y, float x) {  // ties to even
  const unsigned bits = std::bit_cast<unsigned>(x);
  y.bits = x != x ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline unsigned round_two(float low, float high) {
  bf16 x, y;
  round_to(x, low);
  round_to(y, high);
  return x.bits | y.bits << 16;
}
inline void ldmatrix(unsigned (&to)[4], const void* row) {
  for (int i = 0; i < 4; i++)  // lane 8 i + r holds the address of row r of matrix i
    to[i] = __shfl_sync(~0u, (const unsigned*)row, 8 * i + lane() / 4)[lane() % 4];
}
inline void ldmatrix_transposed(unsigned (&to)[4], const void* row) {
  for (int i = 0; i < 4; i++) {
    to[i] = 0;
    for (int half = 0; half < 2; half++)
      to[i] |= __shfl_sync(~0u, (const unsigned short*)row, 8 * i + lane() % 4 * 2 + half)[lane() / 4]
          << 16 * half;
  }
}
template <class T>
inline void mma(float (&c)[4], const unsigned (&a)[4], const unsigned* b) {
  auto& all = emulate::exchange(std::array<unsigned, 6>{a[0], a[1], a[2], a[3], b[0], b[1]});
  auto value = [](unsigned bits) { return std::bit_cast<float>(bits); };
  for (int e = 0; e < 4; e++)
    for (int w = 0; w < 8; w++) {
      const int r = lane() / 4 + e / 2 * 8, n = lane() % 4 * 2 + e % 2;
      const unsigned x = all[r % 8 * 4 + w % 4][w / 4 * 2 + r / 8];
      const unsigned y = all[n * 4 + w % 4][4 + w / 4];
      if (sizeof(T) == 4)
        c[e] += value(x & ~0x1fffu) * value(y & ~0x1fffu);  // the bits below are ignored
      else
        c[e] += value(x << 16) * value(y << 16) + value(x & ~0xffffu) * value(y & ~0xffffu);
    }
}
#endif

/* Rows of numbers in shared memory, each beginning at a multiple of 16 bytes. ldmatrix reads 16
   bytes from each of 8 rows at once, which must lie in different banks. Either the rows are padded
   to 16 bytes more than a power of two, or rows of 64 bytes are swizzled: chunk c of row r is at
   place c ^ (r / 2 % 4). */
template <class T> struct Padded {
  T* at;
  int pitch;
  __device__ T* operator()(int row, int column) const { return at + row * pitch + column; }
};
template <class T> struct Swizzled {
  static constexpr int pitch = 4 * CHUNK<T>;
  T* at;
  __device__ T* operator()(int row, int column) const {
    const int place = (unsigned)column / CHUNK<T> ^ (unsigned)row / 2 % 4;
    return at + row * pitch + place * CHUNK<T> + (unsigned)column % CHUNK<T>;
  }
};

enum Layout { K_MAJOR, MN_MAJOR };  // an operand is contiguous along the summed index, or across

/* An operand stored by rows: element (row, k) is at column k of row `row`. */
template <class T, class Rows = Padded<const T>> struct KMajor {
  Rows rows;
  int first = 0;  // where the operand's row 0 is
  typedef T Element;

  __device__ T number(int row, int eights, int k) const {  // of row + 8 · eights
    return rows(first + row, k)[8 * eights * rows.pitch];
  }
  __device__ void chunk(T (&to)[CHUNK<T>], int row, int k) const {
    const Chunk<T> c = *(const Chunk<T>*)rows(first + row, k);
#pragma unroll
    for (int i = 0; i < CHUNK<T>; i++) to[i] = c.v[i];
  }
  __device__ void a(unsigned (&to)[4], int row, int k) const {  // 16 rows, 32 bytes
    ldmatrix(to, rows(first + row + lane() % 16, k + lane() / 16 * CHUNK<T>));
  }
  __device__ void b(unsigned (&to)[4], int row, int k) const {  // the same, for two values of j
    ldmatrix(to, rows(first + row + lane() % 8 + lane() / 16 * 8, k + lane() / 8 % 2 * CHUNK<T>));
  }
};

/* An operand stored transposed: element (row, k) is at column `row` of row k. */
template <class T, class Rows = Padded<const T>> struct MNMajor {
  Rows rows;
  int first = 0;
  typedef T Element;

  __device__ T number(int row, int eights, int k) const {
    return rows(k, first + row)[8 * eights];
  }
  __device__ void chunk(T (&to)[CHUNK<T>], int row, int k) const {
#pragma unroll
    for (int i = 0; i < CHUNK<T>; i++) to[i] = *rows(k + i, first + row);
  }
  __device__ void a(unsigned (&to)[4], int row, int k) const {
    if constexpr (sizeof(T) == 2)
      ldmatrix_transposed(to, rows(k + lane() % 8 + lane() / 16 * 8,
                                   first + row + lane() / 8 % 2 * 8));
    else
#pragma unroll
      for (int i = 0; i < 4; i++)
        to[i] = rows(k + lane() % 4 + i / 2 * 4, first + row + lane() / 4 + i % 2 * 8)->bits;
  }
  __device__ void b(unsigned (&to)[4], int row, int k) const {
    if constexpr (sizeof(T) == 2)
      ldmatrix_transposed(to, rows(k + lane() % 16, first + row + lane() / 16 * 8));
    else
#pragma unroll
      for (int i = 0; i < 4; i++)
        to[i] = rows(k + lane() % 4 + i % 2 * 4, first + row + lane() / 4 + i / 2 * 8)->bits;
  }
};

__device__ inline int row_of(int i, int e) { return 16 * i + lane() / 4 + e / 2 * 8; }
__device__ inline int column_of(int j, int e) { return 8 * j + lane() % 4 * 2 + e % 2; }

template <int I, int J, class A, class B>
__device__ inline void multiply(Real (&c)[I][J][4], A a, B b, int K) {
  typedef typename A::Element T;
  static_assert(J % 2 == 0);
  if constexpr (tensor<T>) {
#pragma unroll 2
    for (int k = 0; k < K; k += 2 * CHUNK<T>) {
      unsigned x[I][4], y[4];
#pragma unroll
      for (int i = 0; i < I; i++) a.a(x[i], 16 * i, k);
#pragma unroll
      for (int j = 0; j < J; j += 2) {
        b.b(y, 8 * j, k);
#pragma unroll
        for (int i = 0; i < I; i++) {
          mma<T>(c[i][j], x[i], y);
          mma<T>(c[i][j + 1], x[i], y + 2);
        }
      }
    }
  } else {
#pragma unroll 1
    for (int k = 0; k < K; k += CHUNK<T>) {
      T x[I][2][CHUNK<T>], y[2][CHUNK<T>];
#pragma unroll
      for (int i = 0; i < 2 * I; i++) a.chunk(x[i / 2][i % 2], row_of(i / 2, i % 2 * 2), k);
#pragma unroll
      for (int j = 0; j < J; j++) {
        b.chunk(y[0], column_of(j, 0), k);
        b.chunk(y[1], column_of(j, 1), k);
#pragma unroll
        for (int i = 0; i < I; i++)
#pragma unroll
          for (int e = 0; e < 4; e++)
#pragma unroll
            for (int l = 0; l < CHUNK<T>; l++) c[i][j][e] += x[i][e / 2][l] * y[e % 2][l];
      }
    }
  }
}

/* The same product in pieces, so that loads can overlap with it: registers hold DEPTH numbers along
   k of 16·I rows of a (FragmentA) and of 8·J rows of b (FragmentB). `meanwhile(j)` is called after
   the product with the j-th 8 rows of b, whose registers may then be loaded again. */
template <class T, int I, bool = tensor<T>> struct FragmentA {
  unsigned rows[I][4];

  template <class A> __device__ void load(A a, int k) {
#pragma unroll
    for (int i = 0; i < I; i++) a.a(rows[i], 16 * i, k);
  }
};
template <class T, int J, bool = tensor<T>> struct FragmentB {
  static constexpr int DEPTH = 2 * CHUNK<T>;
  unsigned columns[J / 2][4];

  template <class B> __device__ void load(B b, int j, int k) {  // j - 1 and j at once
    if (j % 2) b.b(columns[j / 2], 8 * (j - 1), k);
  }
};
template <class T, int I> struct FragmentA<T, I, false> {
  T rows[I][2];

  template <class A> __device__ void load(A a, int k) {
#pragma unroll
    for (int i = 0; i < 2 * I; i++) rows[i / 2][i % 2] = a.number(lane() / 4, i, k);
  }
};
template <class T, int J> struct FragmentB<T, J, false> {
  static constexpr int DEPTH = 1;
  T columns[J][2];

  template <class B> __device__ void load(B b, int j, int k) {
#pragma unroll
    for (int e = 0; e < 2; e++) columns[j][e] = b.number(lane() % 4 * 2 + e, j, k);
  }
};

template <class T, int I, int J, class F>
__device__ inline void multiply(Real (&c)[I][J][4], const FragmentA<T, I>& a,
                                const FragmentB<T, J>& b, F meanwhile) {
#pragma unroll
  for (int j = 0; j < J; j++) {
#pragma unroll
    for (int i = 0; i < I; i++)
      if constexpr (tensor<T>) {
        mma<T>(c[i][j], a.rows[i], b.columns[j / 2] + j % 2 * 2);
      } else {
#pragma unroll
        for (int e = 0; e < 4; e++) c[i][j][e] += a.rows[i][e / 2] * b.columns[j][e % 2];
      }
    meanwhile(j);
  }
}
