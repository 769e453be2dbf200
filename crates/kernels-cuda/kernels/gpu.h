// What kernels are written with: inline PTX under NVRTC, the emulator's functions under a C++ compiler. Nothing
// else in a kernel tells the two apart.
#pragma once
#ifdef __CUDACC__
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
// Threads of a block, and how many blocks a processor of the chip is to have room for.
#define KERNEL(...) extern "C" __global__ void __launch_bounds__(__VA_ARGS__)
#define DEVICE static __device__ __forceinline__
#define SHARED __shared__ __align__(128)
// Shared memory whose size the launch decides.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) char name[]
#define INF __int_as_float(0x7f800000)
#define UNROLL _Pragma("unroll")
DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
DEVICE void cp_async16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
}
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> DEVICE void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }
DEVICE void ldmatrix4(u32 (&r)[4], const void* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)) : "memory");
}
DEVICE void ldmatrix4_trans(u32 (&r)[4], const void* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)) : "memory");
}
// d += a · b: 16 rows, 8 columns, 16 terms, bfloat16 in and 32-bit floats out.
DEVICE void mma_16816(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEVICE float shuffle(float x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
DEVICE float shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE u32 pack_bf16(float low, float high) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
DEVICE float float_of_bits(u32 x) { return __uint_as_float(x); }
DEVICE u32 bits_of_float(float x) { return __float_as_uint(x); }
DEVICE u64 bits_of_double(double x) { return (u64)__double_as_longlong(x); }
DEVICE u64 high_product(u64 a, u64 b) { return __umul64hi(a, b); }
// To what is in shared memory, by any number of threads at once: of integers, so that the order does not matter.
DEVICE void add_shared(u64* to, u64 x) { atomicAdd(to, x); }
// Rounded each, never fused.
DEVICE float exact_product(float a, float b) { return __fmul_rn(a, b); }
DEVICE float exact_sum(float a, float b) { return __fadd_rn(a, b); }
// Within two units in the last place, which bfloat16 does not see.
DEVICE float exp2_fast(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
DEVICE float tanh_fast(float x) {
  float r;
  asm("tanh.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
#else
#include "emu.h"
#endif

#define LOG2_E 1.44269504088896f
#define LN_2 0.693147180559945f

// ---- values of a tensor: 32-bit floats, or bfloat16 where `bf` says so

struct alignas(16) Floats4 { float v[4]; };
struct alignas(8) Halves4 { u16 v[4]; };

DEVICE u16 to_bf16(float x) { return (u16)pack_bf16(x, 0.f); }
DEVICE float of_bf16(u16 x) { return float_of_bits((u32)x << 16); }
DEVICE float load(const void* x, int bf, u64 i) { return bf ? of_bf16(((const u16*)x)[i]) : ((const float*)x)[i]; }
DEVICE void store(void* x, int bf, u64 i, float value) {
  if (bf) ((u16*)x)[i] = to_bf16(value);
  else ((float*)x)[i] = value;
}
// V values from `i` on, which is a multiple of V.
template <int V> DEVICE void load_values(float (&out)[V], const void* x, int bf, u64 i) {
  if (V == 4 && bf) {
    Halves4 h = *(const Halves4*)((const u16*)x + i);
    UNROLL for (int k = 0; k < V; k++) out[k] = of_bf16(h.v[k]);
  } else if (V == 4) {
    Floats4 f = *(const Floats4*)((const float*)x + i);
    UNROLL for (int k = 0; k < V; k++) out[k] = f.v[k];
  } else {
    UNROLL for (int k = 0; k < V; k++) out[k] = load(x, bf, i + k);
  }
}
template <int V> DEVICE void store_values(void* x, int bf, u64 i, const float (&values)[V]) {
  if (V == 4 && bf) {
    Halves4 h;
    UNROLL for (int k = 0; k < V; k++) h.v[k] = to_bf16(values[k]);
    *(Halves4*)((u16*)x + i) = h;
  } else if (V == 4) {
    Floats4 f;
    UNROLL for (int k = 0; k < V; k++) f.v[k] = values[k];
    *(Floats4*)((float*)x + i) = f;
  } else {
    UNROLL for (int k = 0; k < V; k++) store(x, bf, i + k, values[k]);
  }
}

// ---- sums in a fixed order

DEVICE float warp_sum(float x) {
  UNROLL for (int m = 16; m; m >>= 1) x += shuffle_xor(x, m);
  return x;
}
DEVICE float warp_max(float x) {
  UNROLL for (int m = 16; m; m >>= 1) x = fmaxf(x, shuffle_xor(x, m));
  return x;
}

// ---- counter-based random numbers, as `kernels::rng` defines them

#define GOLDEN 0x9e3779b97f4a7c15ull
DEVICE u64 mix(u64 z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}
// Of a seed and a stream.
DEVICE u64 random_key(u64 seed, u64 stream) { return mix((seed + GOLDEN) ^ mix(stream + GOLDEN * 2)); }
DEVICE float uniform(u64 key, u64 index) { return (float)(mix(key ^ mix(index * GOLDEN + key)) >> 40) / 16777216.f; }
// What dropout multiplies a value by.
DEVICE float keep(u64 key, u64 index, float p) { return uniform(key, index) < p ? 0.f : 1.f / (1.f - p); }
