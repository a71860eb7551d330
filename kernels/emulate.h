/* CUDA C++ on a CPU: enough of the language to run the kernels of this folder unchanged.

   Every thread of a block is a coroutine with its own stack. It runs until it waits at a barrier,
   then the next one runs. Blocks run one after another in a shuffled order, always the same. So a
   run is deterministic, a deadlock is reported instead of hanging, and the sanitizers work:

     AddressSanitizer  arrays are allocated to the byte, and shared memory ends where the launch
                       said, so an access out of bounds is reported with its line;
     ThreadSanitizer   is told that each coroutine is a thread of its own, which only barriers
                       synchronise with the others of its block: a missing one is a data race.
                       Shuffles, votes and matrix instructions order no memory, as on the device.

   mma.cuh emulates its warp-wide instructions by `exchange`, after the fragment layouts in NVIDIA's
   PTX manual (sections on mma.m16n8k8, mma.m16n8k16 and ldmatrix). Only full warps are supported: a
   mask must be ~0u. */
#pragma once
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define MACHINERY __attribute__((no_sanitize("thread"), noinline))  // unseen by the race detector
#else
#define MACHINERY
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ thread_local  // one system thread, one block at a time

struct uint3 { unsigned x, y, z; };
constexpr int WARP = 32, SHARED = 227 << 10;  // bytes, the most that any device gives a block
alignas(1024) thread_local char memory[SHARED];  // a kernel's `extern __shared__ char memory[]`

namespace emulate {

struct Barrier {
  int expected = 0, arrived = 0;
  unsigned phase = 0;
  char clock[2];  // what ThreadSanitizer synchronises even and odd phases on
};

struct Warp {
  Barrier lanes;
  Barrier exchange;  // of registers: does not order memory
  std::array<std::array<uint32_t, 8>, WARP> slot[2];  // even and odd exchanges
};

struct Copy {  // 16 bytes in flight to shared memory (async.cuh)
  uint32_t* to;
  std::array<uint32_t, 4> words;
  unsigned group;
};

struct Fiber {
  ucontext_t context;
  uint3 thread, block;
  Warp* warp = nullptr;
  Barrier* waits = nullptr;
  unsigned until = 0;
  bool done = false;
  void *stack = nullptr, *shadow = nullptr;
  std::vector<Copy> copies;
  unsigned groups = 0;  // of copies, committed so far
  std::vector<std::pair<unsigned, std::function<void()>>> products;  // (group, work), wgmma.cuh
  unsigned product_groups = 0;
  bool unfenced_copies = false, fenced_products = false;  // see fence_shared, fence_products
};

inline uint3 grid, size;
inline std::vector<Fiber> fibers;
inline std::vector<Warp> warps;
inline Barrier block;
inline ucontext_t outside;
inline void* outside_shadow;
inline size_t current;
inline std::function<void()> body;

MACHINERY inline Fiber& self() { return fibers[current]; }

[[noreturn]] MACHINERY inline void fail(const char* what) {
  const Fiber& f = self();
  fprintf(stderr, "emulate: thread (%u, %u, %u) of block (%u, %u, %u): %s\n", f.thread.x,
          f.thread.y, f.thread.z, f.block.x, f.block.y, f.block.z, what);
  _exit(3);
}

/* Let other threads run until this one's barrier opens; when all have ended, leave the block. */
MACHINERY inline void yield() {
  Fiber& from = self();
  for (size_t i = 1; i <= fibers.size(); i++) {
    size_t next = (current + i) % fibers.size();
    Fiber& f = fibers[next];
    if (f.done || (f.waits && f.waits->phase == f.until)) continue;
    f.waits = nullptr;
    if (next == current) return;
    current = next;
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(f.shadow, __tsan_switch_to_fiber_no_sync);
#endif
    swapcontext(&from.context, &f.context);
    return;
  }
  if (!from.done || !std::all_of(fibers.begin(), fibers.end(), [](Fiber& f) { return f.done; }))
    fail("waits at a barrier which not all threads reach");
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(outside_shadow, 0);
#endif
  setcontext(&outside);
}

MACHINERY inline void wait(Barrier& b, bool orders) {
  const unsigned phase = b.phase;
#if defined(__SANITIZE_THREAD__)
  if (orders) __tsan_release(&b.clock[phase & 1]);
#endif
  if (++b.arrived == b.expected) {
    b.arrived = 0;
    b.phase++;
  } else {
    self().waits = &b;
    self().until = phase;
    yield();
  }
#if defined(__SANITIZE_THREAD__)
  if (orders) __tsan_acquire(&b.clock[phase & 1]);
#endif
}

MACHINERY inline void start() {
  body();
  if (!self().copies.empty()) fail("ends before its copies have arrived");
  if (!self().products.empty()) fail("ends before its products are there");
  self().done = true;
#if defined(__SANITIZE_THREAD__)
  __tsan_release(&outside);
#endif
  yield();
}

MACHINERY inline void run_block(uint3 index, int shared) {
  constexpr size_t STACK = 256 << 10;
  const int threads = size.x * size.y * size.z;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(memory, SHARED);
#endif
  for (int i = 0; i < shared; i++) memory[i] = -1;  // NaN, until a thread writes
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(memory + shared, SHARED - shared);
#endif
  fibers.resize(threads);
  warps.assign((threads + WARP - 1) / WARP, Warp());
  block = Barrier{.expected = threads};
  for (int i = 0; i < threads; i++) {
    Fiber& f = fibers[i];
    f.thread = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    f.block = index;
    f.warp = &warps[i / WARP];
    f.warp->lanes.expected = ++f.warp->exchange.expected;
    f.waits = nullptr;
    f.done = false;
    if (!f.stack)
      f.stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    getcontext(&f.context);
    f.context.uc_stack = {.ss_sp = f.stack, .ss_flags = 0, .ss_size = STACK};
    makecontext(&f.context, start, 0);
#if defined(__SANITIZE_THREAD__)
    f.shadow = __tsan_create_fiber(0);
#endif
  }
  current = 0;
#if defined(__SANITIZE_THREAD__)
  outside_shadow = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(fibers[0].shadow, __tsan_switch_to_fiber_no_sync);
#endif
  swapcontext(&outside, &fibers[0].context);
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(&outside);
  for (Fiber& f : fibers) __tsan_destroy_fiber(f.shadow);
#endif
}

MACHINERY inline int lane() {
  const uint3 t = self().thread;
  return (t.x + size.x * (t.y + size.y * t.z)) % WARP;
}

/* Give `mine` to all lanes of the warp, and return what each of them gave. */
template <size_t n>
MACHINERY auto& exchange(const std::array<uint32_t, n>& mine) {
  Warp& warp = *self().warp;
  auto& slot = warp.slot[warp.exchange.phase & 1];
  for (size_t i = 0; i < n; i++) slot[lane()][i] = mine[i];
  wait(warp.exchange, false);
  return slot;
}

template <class T>
MACHINERY T from_lane(unsigned mask, T value, int lane) {
  using Words = std::array<uint32_t, sizeof(T) / 4>;
  if (mask != ~0u) fail("a mask other than ~0u");
  auto& all = exchange(std::bit_cast<Words>(value));
  Words words;
  for (size_t i = 0; i < words.size(); i++) words[i] = all[lane % WARP][i];
  return std::bit_cast<T>(words);
}

MACHINERY inline unsigned ballot(unsigned mask, bool vote) {
  if (mask != ~0u) fail("a mask other than ~0u");
  auto& all = exchange(std::array<uint32_t, 1>{vote});
  unsigned votes = 0;
  for (int i = 0; i < WARP; i++) votes |= all[i][0] << i;
  return votes;
}

}  // namespace emulate

#define threadIdx (emulate::self().thread)
#define blockIdx (emulate::self().block)
#define blockDim emulate::size
#define gridDim emulate::grid

inline void __syncthreads() { emulate::wait(emulate::block, true); }
inline void __syncwarp() { emulate::wait(emulate::self().warp->lanes, true); }
template <class T> T __shfl_sync(unsigned mask, T v, int lane) {
  return emulate::from_lane(mask, v, lane);
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int bits) {
  return emulate::from_lane(mask, v, emulate::lane() ^ bits);
}
inline unsigned __ballot_sync(unsigned mask, int v) { return emulate::ballot(mask, v != 0); }
inline int __any_sync(unsigned mask, int v) { return __ballot_sync(mask, v) != 0; }
inline int __all_sync(unsigned mask, int v) { return __ballot_sync(mask, v) == ~0u; }
template <class T> T atomicAdd(T* to, T v) {
  return std::atomic_ref<T>(*to).fetch_add(v, std::memory_order_relaxed);
}
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline unsigned __umulhi(unsigned a, unsigned b) { return uint64_t(a) * b >> 32; }
template <class T> T cospi(T x) { return std::cos(T(M_PI) * x); }
template <class T> T sinpi(T x) { return std::sin(T(M_PI) * x); }
using std::exp, std::expm1, std::log, std::sqrt, std::min, std::max;

/* The program. Command line: the kernel's name, grid, block, bytes of shared memory. Input: the
   arguments, each as its number of bytes (int64, -1 for a null pointer) and then its bytes. Output,
   in the same format: for each pointer that is not null, what it points to after the run, or 0
   bytes if that is const. */
namespace emulate {

inline std::vector<std::pair<void*, int64_t>> results;

inline void expect(bool holds) {
  if (holds) return;
  fprintf(stderr, "emulate: the arguments are not those of the kernel\n");
  _exit(3);
}

inline void read(void* to, size_t bytes) { expect(fread(to, 1, bytes, stdin) == bytes); }

template <class T>
T argument() {
  int64_t bytes;
  read(&bytes, sizeof bytes);
  if constexpr (std::is_pointer_v<T>) {
    if (bytes < 0) return nullptr;
    void* data = malloc(bytes);
    read(data, bytes);
    results.push_back({data, std::is_const_v<std::remove_pointer_t<T>> ? 0 : bytes});
    return static_cast<T>(data);
  } else {
    expect(bytes == sizeof(T));
    T value;
    read(&value, bytes);
    return value;
  }
}

template <class... T>
std::function<void()> kernel(void (*f)(T...)) {
  return [f] {
    std::tuple<T...> arguments{argument<T>()...};  // braces: evaluated from left to right
    body = [f, arguments] { std::apply(f, arguments); };
  };
}

inline int main(char** argv, const std::map<std::string, std::function<void()>>& kernels) {
  auto number = [&](int i) { return unsigned(atoi(argv[i])); };
  kernels.at(argv[1])();
  expect(fgetc(stdin) == EOF);
  grid = {number(2), number(3), number(4)};
  size = {number(5), number(6), number(7)};
  std::vector<unsigned> order(grid.x * grid.y * grid.z);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), std::mt19937(order.size()));
  for (unsigned i : order)
    run_block({i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y}, number(8));
  for (auto [data, bytes] : results) {
    fwrite(&bytes, sizeof bytes, 1, stdout);
    fwrite(data, 1, bytes, stdout);
  }
  return 0;
}
}  // namespace emulate
