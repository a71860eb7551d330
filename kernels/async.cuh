/* Asynchronous copies from global to shared memory (cp.async, from sm_80 on). They run while the
   thread computes, and bypass its registers:

       copy_async(to, from, valid)   start copying 16 bytes; if not valid: zeros, nothing is read
       commit_copies()               the copies started since the last commit now form a group
       wait_copies<N>()              wait until all groups but the N latest have arrived

   Both addresses must be multiples of 16. A thread waits for its own copies only. What other
   threads copied may be read after a barrier that follows their waits, and overwritten after a
   barrier that follows the last read.

   The emulator takes the worst case that a device allows: a copy fills its destination with NaNs as
   soon as it starts, and its data arrives at the wait that covers it, not earlier. */
#pragma once

#ifdef __CUDACC__
__device__ inline void copy_async(void* to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :: "r"((unsigned)__cvta_generic_to_shared(to)), "l"(__cvta_generic_to_global(from)),
                  "r"(valid ? 16 : 0) : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
}
#else
inline void copy_async(void* to, const void* from, bool valid) {
  if ((uintptr_t)to % 16 || (uintptr_t)from % 16) emulate::fail("copy_async: not 16-byte aligned");
  emulate::Fiber& self = emulate::self();
  emulate::Copy copy = {(uint32_t*)to, {}, self.groups};
  for (int i = 0; i < 4; i++) {
    if (valid) copy.words[i] = ((const uint32_t*)from)[i];
    copy.to[i] = ~0u;
  }
  self.copies.push_back(copy);
}
inline void commit_copies() { emulate::self().groups++; }
template <int N> inline void wait_copies() {
  emulate::Fiber& self = emulate::self();
  std::erase_if(self.copies, [&](const emulate::Copy& copy) {
    const bool arrives = copy.group + N < self.groups;
    for (int i = 0; arrives && i < 4; i++) copy.to[i] = copy.words[i];
    self.unfenced_copies |= arrives;
    return arrives;
  });
}
#endif
