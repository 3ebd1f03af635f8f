// Hopper's matrix units: a warpgroup multiplies 64 rows at once. Operands lie in shared memory in rows of 128 bytes of elements
// of T, swizzled by 128 bytes; a group of eight rows begins at a multiple of 1024. An instruction takes 32 bytes of each row.

#ifdef OXRT_EMULATED
template <class E = T> DEVICE E at(const u8* rows, u32 row, u32 column) {
    u32 byte = column * sizeof(E);
    return *(const E*)(rows + row * 128 + (((byte / 16) ^ (row & 7)) << 4) + byte % 16);
}
template <class A, class B> DEVICE f32 add_product(A a, B b, f32 sum) { return fmaf(factor(a), factor(b), sum); }
template <class A, class B> DEVICE i32 add_product(A a, B b, i32 sum) { return sum + (i32)a * (i32)b; }
// d[64][2 N] = (fresh ? 0 : d) + a[64][32 bytes] b[2 N][32 bytes], operands (of types T and B) at bytes 32 kk.
template <class B = T, class S, int N> DEVICE void wgmma_rows(S (&d)[N], const u8* a, const u8* b, int kk, bool fresh) {
    u32 lane = threadIdx.x & 31, warp = (threadIdx.x >> 5) & 3;
    for (int i = 0; i < N; i++) {
        u32 row = warp * 16 + lane / 4 + (i >> 1 & 1) * 8, column = i / 4 * 8 + (lane & 3) * 2 + (i & 1);
        if (fresh) d[i] = 0;
        const int K = 32 / sizeof(T);
        for (int k = 0; k < K; k++) d[i] = add_product(at(a, row, kk * K + k), at<B>(b, column, kk * K + k), d[i]);
    }
}
template <class S, int N> DEVICE void keep(S (&d)[N]) {}
DEVICE void wgmma_fence() {}
DEVICE void wgmma_commit() {}
template <int N> DEVICE void wgmma_wait() {}
#else
DEVICE u64 describe(const u8* rows) {
    return (u64)((shared_address(rows) & 0x3ffff) >> 4) | (u64)1 << 16 | (u64)64 << 32 | (u64)1 << 62;
}
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> DEVICE void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(N) : "memory"); }
// The compiler does not know that the units write registers until they are waited for.
template <int N> DEVICE void keep(f32 (&d)[N]) {
    PRAGMA_UNROLL for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i]) :: "memory");
}
template <int N> DEVICE void keep(i32 (&d)[N]) {
    PRAGMA_UNROLL for (int i = 0; i < N; i++) asm volatile("" : "+r"(d[i]) :: "memory");
}
#endif
