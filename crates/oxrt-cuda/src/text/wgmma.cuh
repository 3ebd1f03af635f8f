// Hopper's matrix units: a warpgroup multiplies 64 rows at once. Operands lie in shared memory in rows of 64 elements of T,
// swizzled by 128 bytes; a group of eight rows begins at a multiple of 1024.

#ifdef OXRT_EMULATED
DEVICE T at(const u8* rows, u32 row, u32 column) { return *(const T*)(rows + row * 128 + (((column / 8) ^ (row & 7)) << 4) + column % 8 * 2); }
// d[64][2 N] = (fresh ? 0 : d) + a[64][16] b[2 N][16], operands at columns 16 kk.
template <int N> DEVICE void wgmma_rows(f32 (&d)[N], const u8* a, const u8* b, int kk, bool fresh) {
    u32 lane = threadIdx.x & 31, warp = (threadIdx.x >> 5) & 3;
    for (int i = 0; i < N; i++) {
        u32 row = warp * 16 + lane / 4 + (i >> 1 & 1) * 8, column = i / 4 * 8 + (lane & 3) * 2 + (i & 1);
        if (fresh) d[i] = 0;
        for (int k = 0; k < 16; k++) d[i] = fmaf(widen(at(a, row, kk * 16 + k)), widen(at(b, column, kk * 16 + k)), d[i]);
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
