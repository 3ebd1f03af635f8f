// What every kernel text starts with: element types, conversions, and names for the instructions that kernels use.
// The same text compiles for a GPU (NVRTC) and for the emulator (a host C++ compiler), which defines OXRT_EMULATED.

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef short i16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;
typedef float f32;
typedef double f64;
struct f16 { u16 bits; };
struct bf16 { u16 bits; };
struct bool8 { u8 byte; };
// Sign, four bits of exponent (bias 7), three of fraction; no infinities, all ones are NaN.
struct f8e4m3 { u8 bits; };
// How Hopper's copy engine finds its way through a tensor; the driver (or the emulator) fills it in.
struct alignas(128) TensorMap { u64 words[16]; };

#ifndef OXRT_EMULATED
#define DEVICE static __device__ __forceinline__
// A kernel may start while the one before it ends (programmatic dependent launch), and waits for it before it reads or writes.
// A KERNEL waits at once; a KERNEL_LATE waits itself, where it has something to do before.
#define KERNEL_WITH(bounds, name, P, WAIT) \
    DEVICE void name##_body(const P& p); \
    extern "C" __global__ void bounds name(const __grid_constant__ P p) { let_next_start(); WAIT name##_body(p); } \
    DEVICE void name##_body(const P& p)
#define KERNEL(threads, name, P) KERNEL_WITH(__launch_bounds__(threads), name, P, wait_for_kernels_before();)
#define KERNEL_LATE(threads, blocks, name, P) KERNEL_WITH(__launch_bounds__(threads, blocks), name, P, )
#if __CUDA_ARCH__ >= 900
DEVICE void let_next_start() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
DEVICE void wait_for_kernels_before() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
#else
DEVICE void let_next_start() {}
DEVICE void wait_for_kernels_before() {}
#endif
// The swizzle of Hopper's units counts from multiples of 1024.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(1024) u8 name[]
#define PRAGMA_UNROLL _Pragma("unroll")

DEVICE f32 widen(f16 x) { f32 y; asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits)); return y; }
DEVICE f32 widen(bf16 x) { return __uint_as_float((u32)x.bits << 16); }
DEVICE f16 narrow_f16(f32 x) { f16 y; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); return y; }
DEVICE f16 narrow_f16(f64 x) { f16 y; asm("cvt.rn.f16.f64 %0, %1;" : "=h"(y.bits) : "d"(x)); return y; }
DEVICE bf16 narrow_bf16(f32 x) { bf16 y; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); return y; }
DEVICE u32 bits_of(f32 x) { return __float_as_uint(x); }
DEVICE f32 float_of(u32 x) { return __uint_as_float(x); }

// Two floats as a pair of halves, the first in the lower bits.
DEVICE u32 pack_f16(f32 lo, f32 hi) { u32 y; asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(hi), "f"(lo)); return y; }
DEVICE u32 pack_bf16(f32 lo, f32 hi) { u32 y; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(hi), "f"(lo)); return y; }

DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
// 16 bytes to shared memory without waiting; zeros where `valid` is false.
DEVICE void copy_async(void* to, const void* from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0) : "memory");
}
DEVICE void copy_async_8(void* to, const void* from, bool valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" :: "r"(shared_address(to)), "l"(from), "r"(valid ? 8 : 0) : "memory");
}
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> DEVICE void copy_async_wait() { asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory"); }

// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
DEVICE void load_matrices(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
DEVICE void load_matrices_turned(u32 (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
// d[16][8] += a[16][32] b[32][8] of bytes, summed in integers; b is signed.
DEVICE void multiply_add_bytes(i32 (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, u8) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEVICE void multiply_add_bytes(i32 (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, i8) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// d[16][8] += a[16][16] b[16][8]
DEVICE void multiply_add(f32 (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, f16) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEVICE void multiply_add(f32 (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, bf16) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// Factors as matrix units take them: they cut single precision down to 11 bits, which it is rounded to before.
DEVICE u32 rounded_factor(u32 x) { u32 y; asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(__uint_as_float(x))); return y; }
// d[16][8] += a[16][8] b[8][8]; of each factor the units take 11 bits.
DEVICE void multiply_add(f32 (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, f32) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#if __CUDA_ARCH__ >= 900
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
// Registers of a warpgroup's threads, which all warpgroups of a block together must have.
template <int N> DEVICE void registers_up() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(N)); }
template <int N> DEVICE void registers_down() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(N)); }
#endif
// Barriers in shared memory: threads arrive, copies announce their bytes; whoever waits names the phase by its parity.
DEVICE void barrier_init(u64* b, u32 count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(shared_address(b)), "r"(count) : "memory"); }
DEVICE void barrier_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void barrier_expect(u64* b, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(shared_address(b)), "r"(bytes) : "memory");
}
DEVICE void barrier_arrive(u64* b) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(shared_address(b)) : "memory"); }
DEVICE void barrier_wait(u64* b, u32 parity) {
    asm volatile("{ .reg .pred p; AGAIN: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1; @p bra DONE; bra AGAIN; DONE: }"
        :: "r"(shared_address(b)), "r"(parity) : "memory");
}
// Boxes of a tensor to shared memory, zeros where there is no tensor; `b` learns of their bytes.
DEVICE void copy_tile_2(void* to, const TensorMap* map, i32 x, i32 y, u64* b) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];"
        :: "r"(shared_address(to)), "l"(map), "r"(shared_address(b)), "r"(x), "r"(y) : "memory");
}
DEVICE void copy_tile_3(void* to, const TensorMap* map, i32 x, i32 y, i32 z, u64* b) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];"
        :: "r"(shared_address(to)), "l"(map), "r"(shared_address(b)), "r"(x), "r"(y), "r"(z) : "memory");
}
// Pixels of an image [n][h][w][c] in the order of windows' corners from (w, h, n) on, each moved by the offsets.
DEVICE void copy_windows(void* to, const TensorMap* map, i32 c, i32 w, i32 h, i32 n, i32 move_w, i32 move_h, u64* b) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};"
        :: "r"(shared_address(to)), "l"(map), "r"(shared_address(b)), "r"(c), "r"(w), "r"(h), "r"(n), "h"((u16)move_w), "h"((u16)move_h) : "memory");
}
// What threads wrote to shared memory is there for the engine.
DEVICE void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// A box of shared memory to a tensor, as far as there is one; whoever asked waits until at most N are still being read.
DEVICE void store_tile_2(const TensorMap* map, i32 x, i32 y, const void* from) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];"
        :: "l"(map), "r"(shared_address(from)), "r"(x), "r"(y) : "memory");
}
DEVICE void store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int N> DEVICE void store_wait_read() { asm volatile("cp.async.bulk.wait_group.read %0;" :: "n"(N) : "memory"); }
#endif
// A barrier of N threads of a block, by its number (1 to 15).
template <int N> DEVICE void barrier_of(u32 id) { asm volatile("bar.sync %0, %1;" :: "r"(id), "n"(N) : "memory"); }
// What other blocks wrote: not from this multiprocessor's own cache.
DEVICE f32 load_l2(const f32* p) { return __ldcg(p); }
DEVICE i32 load_l2(const i32* p) { return __ldcg(p); }
DEVICE f32 lane_xor(f32 x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE u32 lane_xor(u32 x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE f64 lane_xor(f64 x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE i64 lane_xor(i64 x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE i32 lane_xor(i32 x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE f32 lane_get(f32 x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
// A bit for each lane of the warp.
DEVICE u32 warp_votes(bool vote) { return __ballot_sync(0xffffffffu, vote); }
DEVICE u32 count_bits(u32 x) { return __popc(x); }
// The place of the lowest bit of a number that is not 0.
DEVICE u32 lowest_bit(u32 x) { return __ffs(x) - 1; }
// A product that is rounded before anything is added to it.
DEVICE f32 rounded_product(f32 x, f32 y) { return __fmul_rn(x, y); }
DEVICE f32 fast_exp(f32 x) { return __expf(x); }
DEVICE f32 fast_exp2(f32 x) { f32 y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
DEVICE f32 fast_recip(f32 x) { return __fdividef(1.0f, x); }
DEVICE f32 short_tanh(f32 x) { f32 y; asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
DEVICE u32 high_product(u32 a, u32 b) { return __umulhi(a, b); }
// The larger of both halves of two words.
DEVICE u32 max_halves(u32 a, u32 b) { return __vmaxu2(a, b); }
DEVICE u32 max_halves_signed(u32 a, u32 b) { return __vmaxs2(a, b); }
#define INFINITE_F32 __int_as_float(0x7f800000)
#define NAN_F32 __int_as_float(0x7fffffff)
#endif

// ---- conversions between what is stored and what is computed with

DEVICE f32 widen(f8e4m3 x) {
    const u32 magnitude = x.bits & 0x7f, sign = (u32)(x.bits & 0x80) << 24;
    // The same bits in single precision, whose bias is larger by 120.
    return magnitude == 0x7f ? NAN_F32 : float_of(sign | bits_of(float_of(magnitude << 20) * 1.329227995784916e36f));
}
// To even, and no further than 448.
DEVICE f8e4m3 narrow_f8(f32 x) {
    f8e4m3 y;
#if !defined(OXRT_EMULATED) && __CUDA_ARCH__ >= 890
    u16 two;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(two) : "f"(0.0f), "f"(x));
    y.bits = (u8)two;
#else
    const u32 sign = bits_of(x) >> 24 & 0x80;
    u32 bits = bits_of(fminf(float_of(bits_of(x) & 0x7fffffffu), 448.0f) * 7.523163845262640e-37f);
    bits = bits + 0x7ffff + (bits >> 20 & 1) >> 20;
    y.bits = (u8)(sign | (x != x ? 0x7f : bits));
#endif
    return y;
}

// The larger, or NaN where one of them is.
DEVICE f32 max_or_nan(f32 a, f32 b) {
#if !defined(OXRT_EMULATED) && __CUDA_ARCH__ >= 800
    f32 y;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
#else
    return a != a || a > b ? a : b;
#endif
}
// Two floats of 8 bits, the first in the lower bits.
struct Pair { f32 lo, hi; };
DEVICE Pair widen_two(u16 two, f8e4m3) {
#if !defined(OXRT_EMULATED) && __CUDA_ARCH__ >= 890
    u32 halves;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(two));
    const f16 lo = {(u16)halves}, hi = {(u16)(halves >> 16)};
#else
    const f8e4m3 lo = {(u8)two}, hi = {(u8)(two >> 8)};
#endif
    return {widen(lo), widen(hi)};
}
DEVICE u16 narrow_two(f32 lo, f32 hi, f8e4m3) {
#if !defined(OXRT_EMULATED) && __CUDA_ARCH__ >= 890
    u16 two;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(two) : "f"(hi), "f"(lo));
    return two;
#else
    return (u16)(narrow_f8(lo).bits | narrow_f8(hi).bits << 8);
#endif
}
// The two lower bytes of a word, less a number of at most 511: exact in halves, as whose lowest bits they begin.
DEVICE Pair bytes_less(u32 word, i32 number) {
#ifndef OXRT_EMULATED
    u32 halves = __byte_perm(word, 0x64646464u, 0x4140);
    const f32 all = (f32)(1024 + number);
    asm("sub.rn.f16x2 %0, %0, %1;" : "+r"(halves) : "r"(pack_f16(all, all)));
    const f16 lo = {(u16)halves}, hi = {(u16)(halves >> 16)};
    return {widen(lo), widen(hi)};
#else
    return {(f32)((i32)(word & 255) - number), (f32)((i32)(word >> 8 & 255) - number)};
#endif
}

template <class C> struct Get {
    DEVICE C of(f32 x) { return (C)x; }
    DEVICE C of(f64 x) { return (C)x; }
    DEVICE C of(f16 x) { return (C)widen(x); }
    DEVICE C of(bf16 x) { return (C)widen(x); }
    DEVICE C of(f8e4m3 x) { return (C)widen(x); }
    DEVICE C of(u8 x) { return (C)x; }
    DEVICE C of(i8 x) { return (C)x; }
    DEVICE C of(u16 x) { return (C)x; }
    DEVICE C of(i16 x) { return (C)x; }
    DEVICE C of(u32 x) { return (C)x; }
    DEVICE C of(i32 x) { return (C)x; }
    DEVICE C of(u64 x) { return (C)x; }
    DEVICE C of(i64 x) { return (C)x; }
    DEVICE C of(bool8 x) { return (C)(x.byte != 0); }
};

template <class C, class T> DEVICE C get(T x) { return Get<C>::of(x); }

template <class T> struct Put {
    template <class C> DEVICE T of(C x) { return (T)x; }
};
template <> struct Put<f16> {
    DEVICE f16 of(f32 x) { return narrow_f16(x); }
    DEVICE f16 of(f64 x) { return narrow_f16(x); }
    template <class C> DEVICE f16 of(C x) { return narrow_f16((f32)x); }
};
template <> struct Put<bf16> {
    template <class C> DEVICE bf16 of(C x) { return narrow_bf16((f32)x); }
};
template <> struct Put<f8e4m3> {
    template <class C> DEVICE f8e4m3 of(C x) { return narrow_f8((f32)x); }
};
template <> struct Put<bool8> {
    template <class C> DEVICE bool8 of(C x) { bool8 y; y.byte = x != (C)0; return y; }
};
// Numbers out of range saturate, NaN becomes 0, as in Rust.
#define PUT_INTEGER(T, LOW, HIGH) \
    template <> struct Put<T> { \
        DEVICE T of(f32 x) { return of((f64)x); } \
        DEVICE T of(f64 x) { return x != x ? (T)0 : x <= (f64)LOW ? (T)LOW : x >= (f64)HIGH ? (T)HIGH : (T)x; } \
        template <class C> DEVICE T of(C x) { return (T)x; } \
    };
PUT_INTEGER(i8, -128, 127)
PUT_INTEGER(u8, 0, 255)
PUT_INTEGER(i16, -32768, 32767)
PUT_INTEGER(u16, 0, 65535)
PUT_INTEGER(i32, (-2147483647 - 1), 2147483647)
PUT_INTEGER(u32, 0u, 4294967295u)
PUT_INTEGER(i64, (-9223372036854775807ll - 1), 9223372036854775807ll)
PUT_INTEGER(u64, 0ull, 18446744073709551615ull)

template <class T, class C> DEVICE T put(C x) { return Put<T>::of(x); }

// Two integers as the nearest bytes, the first in the lower bits.
#ifndef OXRT_EMULATED
DEVICE u16 pack_bytes(i32 lo, i32 hi, i8) { u32 y; asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, 0;" : "=r"(y) : "r"(hi), "r"(lo)); return (u16)y; }
DEVICE u16 pack_bytes(i32 lo, i32 hi, u8) { u32 y; asm("cvt.pack.sat.u8.s32.b32 %0, %1, %2, 0;" : "=r"(y) : "r"(hi), "r"(lo)); return (u16)y; }
#else
template <class T> DEVICE u16 pack_bytes(i32 lo, i32 hi, T) { return (u16)((u8)put<T>((f64)lo) | (u8)put<T>((f64)hi) << 8); }
#endif

// Two elements of T, the first in the lower bits.
DEVICE u32 pack_two(f32 lo, f32 hi, f16) { return pack_f16(lo, hi); }
DEVICE u32 pack_two(f32 lo, f32 hi, bf16) { return pack_bf16(lo, hi); }

template <class T> DEVICE void round_factors(u32 (&a)[4], T) {}
DEVICE void round_factors(u32 (&a)[4], f32) { PRAGMA_UNROLL for (int e = 0; e < 4; e++) a[e] = rounded_factor(a[e]); }
// A factor in single precision as the sum of two that the units take whole, to 2^-24 of it. (Infinities have no rest.)
DEVICE u32 split_factor(u32& x) {
    union { u32 bits; f32 x; } all, upper, rest;
    all.bits = x;
    upper.bits = x = rounded_factor(x);
    rest.x = (upper.bits & 0x7f800000u) == 0x7f800000u ? 0.0f : all.x - upper.x;
    return rounded_factor(rest.bits);
}
// d += a b as `multiply_add`; in single precision with rounded factors, or (EXACT) with both parts of each: of the four products of
// parts three, as the smallest is below what single precision holds.
template <bool EXACT, class T> DEVICE void times(f32 (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, T t) { multiply_add(d, a, b0, b1, t); }
template <bool EXACT> DEVICE void times(f32 (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, f32 t) {
    u32 upper[4] = {a[0], a[1], a[2], a[3]}, rest[4];
    PRAGMA_UNROLL for (int i = 0; i < 4; i++) rest[i] = split_factor(upper[i]);
    u32 rest0 = split_factor(b0), rest1 = split_factor(b1);
    if (EXACT) {
        multiply_add(d, rest, b0, b1, t);
        multiply_add(d, upper, rest0, rest1, t);
    }
    multiply_add(d, upper, b0, b1, t);
}

// N elements that are read and written at once.
template <class T, int N> struct alignas(sizeof(T) * N > 16 ? 16 : sizeof(T) * N) Pack { T at[N]; };

// Division by a number that is known before the launch: x / d = (high_product(x, factor) + x * one) >> shift
// (Granlund and Montgomery, Division by invariant integers using multiplication, 1994), for x < 2^31.
struct Divider { u32 divisor, factor, shift; };
DEVICE u32 divide(u32 x, const Divider& d) { return d.divisor == 1 ? x : high_product(x, d.factor) >> d.shift; }

struct Status { u32* word; u32 step; };
DEVICE void report(const Status& s, u32 what) { if (s.word) *s.word = s.step << 8 | what; }
#define STATUS_INDEX 1
#define STATUS_DIVISION 2

// erf x = tanh(x p(x^2)) to 3.7e-5 (p found by weighted least squares up to 3.6), and the unit's tanh to 2^-11: what f16 holds.
DEVICE f32 fast_erf(f32 x) {
    f32 t = fminf(x * x, 30.0f);
    return short_tanh(x * fmaf(t, fmaf(t, -0.00178648f, 0.10408119f), 1.12814338f));
}
// x (1 + erf(x / sqrt 2)) / 2, with what `fast_erf` does.
DEVICE f32 fast_gelu(f32 x) {
    f32 t = fminf(x * x, 60.0f), half = 0.5f * x;
    return fmaf(half, short_tanh(x * fmaf(t, fmaf(t, -0.00031580806f, 0.036798258f), 0.79771783f)), half);
}
// Near 0 by its series, whose next member is below 1e-8.
DEVICE f32 fast_tanh(f32 x) {
    f32 far = 1.0f - 2.0f * fast_recip(1.0f + fast_exp(2.0f * x)), t = x * x;
    return t < 0.0025f ? x * fmaf(t, fmaf(t, 0.13333334f, -0.33333334f), 1.0f) : far;
}
// Sums over all threads of a warp; every lane gets the result.
template <class C> DEVICE C warp_sum(C x) { PRAGMA_UNROLL for (int m = 16; m; m >>= 1) x += lane_xor(x, m); return x; }
template <class C> DEVICE C warp_max(C x) {
    PRAGMA_UNROLL for (int m = 16; m; m >>= 1) { C y = lane_xor(x, m); x = y > x || y != y ? y : x; }
    return x;
}
