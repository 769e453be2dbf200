// Runs the threads of a block as fibers on the processor. Warp operations exchange their operands through slots of
// the warp, in the layouts of PTX. What it finds besides wrong values: barriers and warp operations that not all
// threads reach, misaligned copies, dynamic shared memory that was never written (it begins as NaN), asynchronous copies
// that are not waited for (delivered at the last moment) or overwrite what is still read (with EMU_EAGER, at the
// first). What it does not model: the order of the tensor core's additions, races within a warp, speed.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
#define KERNEL(...) extern "C" void
#define DEVICE static inline
#define SHARED alignas(128) static thread_local
#define DYNAMIC_SHARED(name) char* name = emu::dynamic_shared
#define INF INFINITY
#define UNROLL

// Saves what a call preserves and the stack's top, and goes on at another stack's.
extern "C" void emu_switch(void** from, void* to);
#ifndef __x86_64__
#error "the emulator switches stacks on x86-64 only"
#endif
asm(R"(
.text
.weak emu_switch
emu_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");

namespace emu {
// The address sanitizer's frames are larger.
#ifdef __SANITIZE_ADDRESS__
const size_t STACK = 256 << 10;
#else
const size_t STACK = 64 << 10;
#endif
struct Copy { void* to; const void* from; };
enum Wait { RUN, WARP, BLOCK, DONE };
struct Fiber {
  void* top = nullptr;
  Wait wait = RUN;
  std::vector<char> stack;
  unsigned thread = 0;
  std::vector<std::vector<Copy>> groups;
  std::vector<Copy> open;
};
struct Warp { u32 in[32][10]; };
inline thread_local std::vector<Fiber> fibers;
inline thread_local std::vector<Warp> warps;
inline thread_local void* scheduler;
inline thread_local Fiber* me;
inline thread_local std::function<void()> body;
inline thread_local unsigned order = 0;
inline thread_local char* dynamic_shared;
#ifdef EMU_EAGER
inline const bool eager = true;
#else
inline const bool eager = getenv("EMU_EAGER") != nullptr;
#endif
inline thread_local std::string kernel;

[[noreturn]] inline void fail(const char* what) {
  fprintf(stderr, "EMULATOR: %s: %s\n", kernel.c_str(), what);
  abort();
}
inline void yield(Wait wait) {
  me->wait = wait;
  emu_switch(&me->top, scheduler);
}
inline void entry() {
  body();
  me->wait = DONE;
  emu_switch(&me->top, scheduler);
}
}
inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emu {
inline void resume(Fiber& fiber) {
  me = &fiber;
  threadIdx = dim3(fiber.thread);
  emu_switch(&scheduler, fiber.top);
}
inline void begin(Fiber& fiber, unsigned thread) {
  fiber.thread = thread;
  fiber.wait = RUN;
  fiber.groups.clear();
  fiber.open.clear();
  if (fiber.stack.empty()) fiber.stack.resize(STACK);
  uintptr_t end = ((uintptr_t)fiber.stack.data() + fiber.stack.size()) & ~(uintptr_t)15;
  void** top = (void**)end - 2;
  *top = (void*)entry;
  fiber.top = top - 6;
}
// One step of a warp; whether any of its threads ran.
inline bool run_warp(unsigned low, unsigned high) {
  bool ran = false;
  for (;;) {
    bool any = false;
    for (unsigned i = low; i < high; i++)
      if (fibers[i].wait == RUN) resume(fibers[i]), any = ran = true;
    unsigned waiting = 0;
    for (unsigned i = low; i < high; i++) waiting += fibers[i].wait == WARP;
    if (waiting && (waiting != high - low || waiting % 32)) fail("a warp operation that not all lanes reach");
    if (waiting) for (unsigned i = low; i < high; i++) fibers[i].wait = RUN;
    else if (!any) return ran;
  }
}
inline void run_block(unsigned n) {
  if (fibers.size() < n) fibers.resize(n);
  warps.resize((n + 31) / 32);
  for (unsigned i = 0; i < n; i++) begin(fibers[i], i);
  std::vector<unsigned> turn(warps.size());
  for (unsigned i = 0; i < turn.size(); i++) turn[i] = i;
  for (;;) {
    bool ran = false;
    order = order * 1664525 + 1013904223;
    if (order >> 31) std::reverse(turn.begin(), turn.end());
    for (unsigned w : turn) ran |= run_warp(w * 32, std::min(n, w * 32 + 32));
    unsigned done = 0, block = 0;
    for (unsigned i = 0; i < n; i++) done += fibers[i].wait == DONE, block += fibers[i].wait == BLOCK;
    if (done == n) return;
    if (block && done) fail("a barrier that not all threads reach");
    if (block == n) for (unsigned i = 0; i < n; i++) fibers[i].wait = RUN;
    else if (!ran) fail("threads wait for each other");
  }
}
inline void launch(const char* name, dim3 grid, unsigned threads, size_t shared, std::function<void()> f) {
  kernel = name;
  body = std::move(f);
  gridDim = grid;
  blockDim = dim3(threads);
  char* memory = shared ? (char*)aligned_alloc(128, (shared + 127) / 128 * 128) : nullptr;
  dynamic_shared = memory;
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        if (shared) memset(memory, 0xff, shared);
        blockIdx = dim3(x, y, z);
        run_block(threads);
      }
  free(memory);
}
template <class... A, size_t... I> void call(void (*kernel)(A...), void** args, std::index_sequence<I...>) {
  kernel(*(A*)args[I]...);
}
// Calls a kernel with arguments as the driver takes them: an address for each.
template <class... A> void launch(const char* name, void (*kernel)(A...), dim3 grid, unsigned threads, size_t shared, void** args) {
  launch(name, grid, threads, shared, [=] { call(kernel, args, std::index_sequence_for<A...>()); });
}
inline Warp& my_warp() { return warps[me->thread >> 5]; }
inline unsigned lane() { return me->thread & 31; }
inline float float_of(u32 x) { float r; memcpy(&r, &x, 4); return r; }
inline u32 bits_of(float x) { u32 r; memcpy(&r, &x, 4); return r; }
inline float half(u32 x, int high) { return float_of(high ? x & 0xffff0000u : x << 16); }
inline u32 to_half(float x) {
  u32 v = bits_of(x);
  return std::isnan(x) ? 0x7fff : (v + 0x7fff + ((v >> 16) & 1)) >> 16;
}
inline void ldmatrix(u32 (&r)[4], const void* p, bool trans) {
  if ((uintptr_t)p % 16) fail("ldmatrix of a misaligned row");
  auto& in = my_warp().in;
  unsigned l = lane();
  memcpy(in[l], &p, 8);
  yield(WARP);
  for (int i = 0; i < 4; i++) {
    u16 v[2];
    for (int e = 0; e < 2; e++) {
      int row = trans ? l % 4 * 2 + e : l / 4, column = trans ? l / 4 : l % 4 * 2 + e;
      const u16* from;
      memcpy(&from, in[i * 8 + row], 8);
      v[e] = from[column];
    }
    r[i] = v[0] | (u32)v[1] << 16;
  }
  yield(WARP);
}
}
inline void __syncthreads() { emu::yield(emu::BLOCK); }
inline float shuffle(float x, int lane) {
  auto& in = emu::my_warp().in;
  in[emu::lane()][0] = emu::bits_of(x);
  emu::yield(emu::WARP);
  float r = emu::float_of(in[lane & 31][0]);
  emu::yield(emu::WARP);
  return r;
}
inline float shuffle_xor(float x, int mask) { return shuffle(x, emu::lane() ^ mask); }
inline void cp_async16(void* to, const void* from) {
  if ((uintptr_t)to % 16 || (uintptr_t)from % 16) emu::fail("cp.async of what is misaligned");
  if (emu::eager) memcpy(to, from, 16);
  else emu::me->open.push_back({to, from});
}
inline void cp_async_commit() {
  emu::me->groups.push_back(emu::me->open);
  emu::me->open.clear();
}
template <int N> void cp_async_wait() {
  auto& groups = emu::me->groups;
  while ((int)groups.size() > N) {
    for (auto& copy : groups[0]) memcpy(copy.to, copy.from, 16);
    groups.erase(groups.begin());
  }
}
inline void ldmatrix4(u32 (&r)[4], const void* p) { emu::ldmatrix(r, p, false); }
inline void ldmatrix4_trans(u32 (&r)[4], const void* p) { emu::ldmatrix(r, p, true); }
inline void mma_16816(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  unsigned l = emu::lane();
  auto& in = emu::my_warp().in;
  for (int i = 0; i < 4; i++) in[l][i] = a[i];
  in[l][4] = b0;
  in[l][5] = b1;
  emu::yield(emu::WARP);
  for (int e = 0; e < 4; e++) {
    int row = l / 4 + (e >> 1) * 8, column = l % 4 * 2 + (e & 1);
    float sum = d[e];
    for (int k = 0; k < 16; k++) {
      float x = emu::half(in[row % 8 * 4 + k % 8 / 2][(row >> 3) + (k >> 3) * 2], k & 1);
      float y = emu::half(in[column * 4 + k % 8 / 2][4 + (k >> 3)], k & 1);
      sum += x * y;
    }
    d[e] = sum;
  }
  emu::yield(emu::WARP);
}
inline u32 pack_bf16(float low, float high) { return emu::to_half(low) | emu::to_half(high) << 16; }
inline float float_of_bits(u32 x) { return emu::float_of(x); }
inline u32 bits_of_float(float x) { return emu::bits_of(x); }
inline u64 bits_of_double(double x) { u64 r; memcpy(&r, &x, 8); return r; }
inline u64 high_product(u64 a, u64 b) { return (u64)((unsigned __int128)a * b >> 64); }
inline void add_shared(u64* to, u64 x) { *to += x; }
inline float exact_product(float a, float b) { return a * b; }
inline float exact_sum(float a, float b) { return a + b; }
inline float exp2_fast(float x) { return exp2f(x); }
inline float tanh_fast(float x) { return tanhf(x); }
