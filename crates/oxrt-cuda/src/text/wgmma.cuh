// Hopper's matrix units: a warpgroup multiplies 64 rows at once. Operands lie in shared memory in rows of 128 bytes of elements
// of T, swizzled by 128 bytes; a group of eight rows begins at a multiple of 1024. An instruction takes 32 bytes of each row.

#ifdef OXRT_EMULATED
DEVICE T at(const u8* rows, u32 row, u32 column) {
    u32 byte = column * sizeof(T);
    return *(const T*)(rows + row * 128 + (((byte / 16) ^ (row & 7)) << 4) + byte % 16);
}
// d[64][2 N] = (fresh ? 0 : d) + a[64][32 bytes] b[2 N][32 bytes], operands at bytes 32 kk.
template <int N> DEVICE void wgmma_rows(f32 (&d)[N], const u8* a, const u8* b, int kk, bool fresh) {
    u32 lane = threadIdx.x & 31, warp = (threadIdx.x >> 5) & 3;
    for (int i = 0; i < N; i++) {
        u32 row = warp * 16 + lane / 4 + (i >> 1 & 1) * 8, column = i / 4 * 8 + (lane & 3) * 2 + (i & 1);
        if (fresh) d[i] = 0;
        const int K = 32 / sizeof(T);
        for (int k = 0; k < K; k++) d[i] = fmaf(factor(at(a, row, kk * K + k)), factor(at(b, column, kk * K + k)), d[i]);
    }
}
template <int N> DEVICE void keep(f32 (&d)[N]) {}
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
#endif
