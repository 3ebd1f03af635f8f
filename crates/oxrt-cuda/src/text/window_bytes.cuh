// Products of bytes over windows on the matrix units, summed in 32 bits. Channels last; weights lie as [map][tap][channel] in
// rows of a multiple of 64, then what the zero point of x makes of each map, then 16 bytes of that zero point.
//
// Slices of 64 bytes lie in shared memory as rows of 80, so that eight rows meet eight groups of banks.
#define PITCH 80
#define SUMS (BN + 4)
#define WM (BM / WARPS_M)
#define WN (BN / WARPS_N)
#define MT (WM / 16)
#define NT (WN / 8)
#define THREADS (WARPS_M * WARPS_N * 32)
#define X_CHUNKS (BM * 4 / THREADS)
#define W_CHUNKS (BN * 4 / THREADS)

KERNEL(THREADS, windows, P) {
    DYNAMIC_SHARED(memory);
    const u32 tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const u32 wm = warp / WARPS_N, wn = warp % WARPS_N;
    const u32 tile_n = divide(blockIdx.x, p.tiles_m), tile_m = blockIdx.x - tile_n * p.tiles_m.divisor;
    const i32 m0 = tile_m * BM, n0 = tile_n * BN, z = blockIdx.z, map0 = z * p.group_maps;
    const u8* x = (const u8*)p.x + z * p.x_group[0];
    const u8* w = (const u8*)p.w + z * p.w_group[0];
    const i32* correction = (const i32*)((const u8*)p.w + p.whole[10]);
    const u8* filler = (const u8*)(correction + p.whole[11]);
    u8* xs = memory;
    u8* ws = memory + STAGES * BM * PITCH;
    Pixel pixels[X_CHUNKS];
    PRAGMA_UNROLL for (int i = 0; i < X_CHUNKS; i++) pixels[i] = pixel_of(p, m0 + ((tid + i * THREADS) >> 2));

    auto bring = [&](i32 slice, i32 stage) {
        PRAGMA_UNROLL for (int i = 0; i < X_CHUNKS; i++) {
            u32 q = tid + i * THREADS, r = q >> 2, c = q & 3;
            i32 k = slice * 64 + c * 16;
            u8* to = xs + (stage * BM + r) * PITCH + c * 16;
            i64 at;
#if CHUNK == 16
            bool inside = k < p.k && locate(p, pixels[i], depth_of(p, k), at);
            copy_async(to, inside ? x + at : filler, true);
#elif CHUNK == 8
            PRAGMA_UNROLL for (int j = 0; j < 16; j += 8) {
                bool inside = k + j < p.k && locate(p, pixels[i], depth_of(p, k + j), at);
                copy_async_8(to + j, inside ? x + at : filler, true);
            }
#else
            // Unrolled, it would take the compiler long and be slower.
            _Pragma("unroll 1") for (int j = 0; j < 16; j++) {
                bool inside = k + j < p.k && locate(p, pixels[i], depth_of(p, k + j), at);
                to[j] = inside ? x[at] : filler[0];
            }
#endif
        }
        PRAGMA_UNROLL for (int i = 0; i < W_CHUNKS; i++) {
            u32 q = tid + i * THREADS, r = q >> 2, c = q & 3;
            i32 map = n0 + (i32)r < p.n ? n0 + r : p.n - 1;
            copy_async(ws + (stage * BN + r) * PITCH + c * 16, w + map * p.w_map + slice * 64 + c * 16, true);
        }
    };

    i32 acc[MT][NT][4];
    PRAGMA_UNROLL for (int i = 0; i < MT; i++)
        PRAGMA_UNROLL for (int j = 0; j < NT; j++)
            PRAGMA_UNROLL for (int e = 0; e < 4; e++) acc[i][j][e] = 0;
    const i32 last = (p.k + 63) / 64;
    _Pragma("unroll 1") for (int s = 0; s < STAGES - 1; s++) {
        if (s < last) bring(s, s);
        copy_async_commit();
    }
    i32 stage = 0, ahead = STAGES - 1;
    for (i32 slice = 0; slice < last; slice++) {
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        if (slice + STAGES - 1 < last) bring(slice + STAGES - 1, ahead);
        copy_async_commit();
        const u8* xt = xs + (stage * BM + wm * WM) * PITCH;
        const u8* wt = ws + (stage * BN + wn * WN) * PITCH;
        PRAGMA_UNROLL for (int kk = 0; kk < 2; kk++) {
            u32 a[MT][4], b[NT / 2][4];
            PRAGMA_UNROLL for (int i = 0; i < MT; i++)
                load_matrices(a[i], xt + (i * 16 + (lane & 15)) * PITCH + (kk * 2 + (lane >> 4)) * 16);
            PRAGMA_UNROLL for (int j = 0; j < NT / 2; j++)
                load_matrices(b[j], wt + (j * 16 + (lane >> 4) * 8 + (lane & 7)) * PITCH + (kk * 2 + ((lane >> 3) & 1)) * 16);
            PRAGMA_UNROLL for (int i = 0; i < MT; i++)
                PRAGMA_UNROLL for (int j = 0; j < NT; j++)
                    multiply_add_bytes(acc[i][j], a[i], b[j / 2][(j & 1) * 2], b[j / 2][(j & 1) * 2 + 1], TX());
        }
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        ahead = ahead + 1 == STAGES ? 0 : ahead + 1;
    }
    copy_async_wait<0>();
    __syncthreads();

    // Through shared memory, so that rows are written whole.
    i32* sums = (i32*)memory;
    PRAGMA_UNROLL for (int i = 0; i < MT; i++)
        PRAGMA_UNROLL for (int j = 0; j < NT; j++)
            PRAGMA_UNROLL for (int e = 0; e < 4; e++)
                sums[(wm * WM + i * 16 + (lane >> 2) + (e >> 1) * 8) * SUMS + wn * WN + j * 8 + (lane & 3) * 2 + (e & 1)] = acc[i][j][e];
    __syncthreads();
    const i64 y0 = z * p.y_group[0];
    for (u32 i = tid; i < BM * BN; i += THREADS) {
        i32 row = m0 + i / BN, map = n0 + i % BN;
        if (row >= p.m || map >= p.n) continue;
        i64 at = y0 + (i64)row * p.y_pixel + map;
        p.y[at] = finish(p, sums[i / BN * SUMS + i % BN] - correction[map0 + map], map0 + map, at);
    }
}
