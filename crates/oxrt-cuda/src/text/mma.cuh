// Products by `mma` instructions: a block's warps make tiles of WM x WN of its BM x BN.
#define WM (BM / WARPS_M)
#define WN (BN / WARPS_N)
#define MT (WM / 16)
#define NT (WN / 8)

KERNEL(THREADS, product, P) {
    DYNAMIC_SHARED(memory);
    const u32 tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const u32 wm = warp / WARPS_N, wn = warp % WARPS_N;
    TILE_START

    f32 acc[MT][NT][4];
    PRAGMA_UNROLL for (int i = 0; i < MT; i++)
        PRAGMA_UNROLL for (int j = 0; j < NT; j++)
            PRAGMA_UNROLL for (int e = 0; e < 4; e++) acc[i][j][e] = 0.0f;

    PRAGMA_UNROLL for (int s = 0; s < STAGES - 1; s++) {
        if (first + s < last) bring(first + s, s);
        copy_async_commit();
    }
    i32 stage = 0, ahead = STAGES - 1;
    for (i32 slice = first; slice < last; slice++) {
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        if (slice + STAGES - 1 < last) bring(slice + STAGES - 1, ahead);
        copy_async_commit();
        const u8* xt = xs + stage * BM * 128 + wm * WM * 128;
        const u8* wt = ws + stage * BN * 128;
        PRAGMA_UNROLL for (int kk = 0; kk < 4; kk++) {
            u32 a[MT][4], b[NT / 2][4];
#if EXACT
            // Both factors in two parts (see `times`).
            u32 rest[MT][4], rest_b[NT / 2][4];
#endif
            PRAGMA_UNROLL for (int i = 0; i < MT; i++) {
                u32 r = i * 16 + (lane & 15), c = kk * 2 + (lane >> 4);
                load_matrices(a[i], xt + r * 128 + ((c ^ (r & 7)) << 4));
#if EXACT
                PRAGMA_UNROLL for (int e = 0; e < 4; e++) rest[i][e] = split_factor(a[i][e]);
#else
                round_factors(a[i], T());
#endif
            }
            PRAGMA_UNROLL for (int j = 0; j < NT / 2; j++) {
#if W_TURNED
                u32 r = kk * 16 + ((lane >> 3) & 1) * 8 + (lane & 7), c = (wn * WN + j * 16) / 8 + (lane >> 4);
                load_matrices_turned(b[j], wt + r * BN * 2 + ((c ^ (r & 7)) << 4));
#else
                u32 r = wn * WN + j * 16 + (lane >> 4) * 8 + (lane & 7), c = kk * 2 + ((lane >> 3) & 1);
                load_matrices(b[j], wt + r * 128 + ((c ^ (r & 7)) << 4));
#endif
#if EXACT
                PRAGMA_UNROLL for (int e = 0; e < 4; e++) rest_b[j][e] = split_factor(b[j][e]);
#endif
            }
#if EXACT
            PRAGMA_UNROLL for (int i = 0; i < MT; i++)
                PRAGMA_UNROLL for (int j = 0; j < NT; j++) {
                    multiply_add(acc[i][j], rest[i], b[j / 2][(j & 1) * 2], b[j / 2][(j & 1) * 2 + 1], T());
                    multiply_add(acc[i][j], a[i], rest_b[j / 2][(j & 1) * 2], rest_b[j / 2][(j & 1) * 2 + 1], T());
                }
#endif
            PRAGMA_UNROLL for (int i = 0; i < MT; i++)
                PRAGMA_UNROLL for (int j = 0; j < NT; j++)
                    multiply_add(acc[i][j], a[i], b[j / 2][(j & 1) * 2], b[j / 2][(j & 1) * 2 + 1], T());
        }
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        ahead = ahead + 1 == STAGES ? 0 : ahead + 1;
    }
    copy_async_wait<0>();
    __syncthreads();

    // Through shared memory, so that rows are written whole.
    f32* sums = (f32*)memory;
    PRAGMA_UNROLL for (int i = 0; i < MT; i++)
        PRAGMA_UNROLL for (int j = 0; j < NT; j++)
            PRAGMA_UNROLL for (int e = 0; e < 4; e += 2) {
                u32 r = wm * WM + i * 16 + (lane >> 2) + (e >> 1) * 8, c = wn * WN + j * 8 + (lane & 3) * 2;
                sums[r * PITCH + c] = acc[i][j][e];
                sums[r * PITCH + c + 1] = acc[i][j][e + 1];
            }
    __syncthreads();
    TILE_END
}
