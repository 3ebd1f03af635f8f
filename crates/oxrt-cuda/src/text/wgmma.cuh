// The sums of mma.cuh on Hopper's warpgroup matrix units, which read both operands from shared memory (its layout of rows of
// 128 bytes is theirs) while the threads bring the next slices. A warpgroup makes a tile of WG_M x BN.
#define WGS (THREADS / 128)
#define WG_M (BM / WGS)
#define MT (WG_M / 64)
#define NR (BN / 2)

#ifdef OXRT_EMULATED
DEVICE void wgmma_fence() {}
DEVICE void wgmma_commit() {}
DEVICE void wgmma_wait() { __syncthreads(); }
DEVICE void fence_async() {}
DEVICE u32 shared_offset(const u8* p) { return 0; }
// d[64][BN] += a[64][16] b[BN][16], operands at slice column kk.
DEVICE void wgmma(f32 (&d)[NR], const u8* a, const u8* b, int kk) {
    u32 lane = threadIdx.x & 31, warp = (threadIdx.x >> 5) & 3;
    auto at = [&](const u8* tile, u32 row, u32 k) {
        T x; x.bits = *(const u16*)(tile + row * 128 + (((kk * 2 + k / 8) ^ (row & 7)) << 4) + k % 8 * 2);
        return widen(x);
    };
    for (int i = 0; i < NR; i++) {
        u32 row = warp * 16 + lane / 4 + (i >> 1 & 1) * 8, column = i / 4 * 8 + (lane & 3) * 2 + (i & 1);
        for (int k = 0; k < 16; k++) d[i] = fmaf(at(a, row, k), at(b, column, k), d[i]);
    }
}
#else
DEVICE u32 shared_offset(const u8* p) { return shared_address(p); }
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }
DEVICE void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Rows of 128 bytes, swizzled; groups of eight rows 1024 bytes apart.
DEVICE u64 describe(const u8* p) {
    return (u64)((shared_address(p) & 0x3ffff) >> 4) | (u64)1 << 16 | (u64)64 << 32 | (u64)1 << 62;
}
DEVICE void wgmma(f32 (&d)[NR], const u8* a, const u8* b, int kk) {
    u64 da = describe(a) + kk * 2, db = describe(b) + kk * 2;
    WGMMA_ASM
}
#endif

KERNEL(THREADS, product, P) {
    DYNAMIC_SHARED(unaligned);
    // The swizzle counts from addresses that are multiples of 1024.
    u8* const memory = unaligned + ((1024 - shared_offset(unaligned) % 1024) % 1024);
    const u32 tid = threadIdx.x, lane = tid & 31, warp = (tid >> 5) & 3, wg = tid >> 7;
    TILE_START

    f32 acc[MT][NR];
    PRAGMA_UNROLL for (int i = 0; i < MT; i++)
        PRAGMA_UNROLL for (int e = 0; e < NR; e++) acc[i][e] = 0.0f;

    PRAGMA_UNROLL for (int s = 0; s < STAGES - 1; s++) {
        if (first + s < last) bring(first + s, s);
        copy_async_commit();
    }
    i32 stage = 0, ahead = STAGES - 1;
    for (i32 slice = first; slice < last; slice++) {
        copy_async_wait<STAGES - 2>();
        // The stage that is filled next was read by the products of the slice before.
        wgmma_wait();
        fence_async();
        __syncthreads();
        const u8* xt = xs + stage * BM * 128 + wg * WG_M * 128;
        const u8* wt = ws + stage * BN * 128;
        wgmma_fence();
        PRAGMA_UNROLL for (int kk = 0; kk < 4; kk++)
            PRAGMA_UNROLL for (int i = 0; i < MT; i++) wgmma(acc[i], xt + i * 64 * 128, wt, kk);
        wgmma_commit();
        if (slice + STAGES - 1 < last) bring(slice + STAGES - 1, ahead);
        copy_async_commit();
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        ahead = ahead + 1 == STAGES ? 0 : ahead + 1;
    }
    copy_async_wait<0>();
    wgmma_wait();
    __syncthreads();

    f32* sums = (f32*)memory;
    PRAGMA_UNROLL for (int i = 0; i < MT; i++)
        PRAGMA_UNROLL for (int e = 0; e < NR; e += 2) {
            u32 r = wg * WG_M + i * 64 + warp * 16 + (lane >> 2) + (e >> 1 & 1) * 8, c = e / 4 * 8 + (lane & 3) * 2;
            sums[r * PITCH + c] = acc[i][e];
            sums[r * PITCH + c + 1] = acc[i][e + 1];
        }
    __syncthreads();
    TILE_END
}
