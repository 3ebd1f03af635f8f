// Products over windows by plain multiply-adds: 64 x 64 tiles, every thread makes 4 x 4.
#define BM 64
#define BN 64
#define BK 16

DEVICE C fetch(const P& p, const TX* x, const Pixel& pixel, const Depth& depth) {
    i64 at;
    return locate(p, pixel, depth, at) ? get<C>(x[at]) - X_ZERO : (C)0;
}

KERNEL(256, windows, P) {
    __shared__ C xs[BK][BM + 4];
    __shared__ C ws[BK][BN + 4];
    const u32 tid = threadIdx.x, tx = tid & 15, ty = tid >> 4;
    const u32 tile_n = divide(blockIdx.x, p.tiles_m), tile_m = blockIdx.x - tile_n * p.tiles_m.divisor;
    const i32 m0 = tile_m * BM, n0 = tile_n * BN;
    const u32 z = blockIdx.z, z1 = divide(z, p.groups), z0 = z - z1 * p.groups.divisor;
    const TX* x = p.x + z1 * p.x_group[1] + z0 * p.x_group[0];
    const TW* w = p.w + z1 * p.w_group[1] + z0 * p.w_group[0];
    const i64 y0 = z1 * p.y_group[1] + z0 * p.y_group[0];
    const i32 map0 = z * p.group_maps;
    C acc[4][4];
    PRAGMA_UNROLL for (int i = 0; i < 4; i++) PRAGMA_UNROLL for (int j = 0; j < 4; j++) acc[i][j] = 0;
#if CHANNELS_LAST
    Pixel pixels[4];
    PRAGMA_UNROLL for (int i = 0; i < 4; i++) pixels[i] = pixel_of(p, m0 + (tid >> 4) + i * 16);
#else
    const Pixel pixel = pixel_of(p, m0 + (tid & 63));
#endif
    for (i32 k0 = 0; k0 < p.k; k0 += BK) {
#if CHANNELS_LAST
        const i32 k = k0 + (tid & 15);
        const Depth depth = depth_of(p, k);
        PRAGMA_UNROLL for (int i = 0; i < 4; i++)
            xs[tid & 15][(tid >> 4) + i * 16] = k < p.k ? fetch(p, x, pixels[i], depth) : (C)0;
#else
        PRAGMA_UNROLL for (int i = 0; i < 4; i++) {
            i32 k = k0 + (tid >> 6) + i * 4;
            xs[(tid >> 6) + i * 4][tid & 63] = k < p.k ? fetch(p, x, pixel, depth_of(p, k)) : (C)0;
        }
#endif
        PRAGMA_UNROLL for (int i = 0; i < 4; i++) {
            // Neighbouring threads read neighbouring elements, whichever axis is dense.
            i32 q = tid + i * 256;
            i32 kr = p.w_map == 1 ? q >> 6 : q & 15, nr = p.w_map == 1 ? q & 63 : q >> 4;
            C v = 0;
            if (k0 + kr < p.k && n0 + nr < p.n) {
                u32 high = divide(k0 + kr, p.inner), low = k0 + kr - high * p.inner.divisor;
#if CHANNELS_LAST
                i64 at = high * p.w_tap + low * p.w_channel;
#else
                i64 at = low * p.w_tap + high * p.w_channel;
#endif
                v = get<C>(w[at + (i64)(n0 + nr) * p.w_map]) - W_ZERO(map0 + n0 + nr);
            }
            ws[kr][nr] = v;
        }
        __syncthreads();
        PRAGMA_UNROLL for (int kk = 0; kk < BK; kk++) {
            C a[4], b[4];
            // Threads that lie side by side write side by side.
            PRAGMA_UNROLL for (int i = 0; i < 4; i++) a[i] = xs[kk][(CHANNELS_LAST ? ty : tx) + i * 16];
            PRAGMA_UNROLL for (int j = 0; j < 4; j++) b[j] = ws[kk][(CHANNELS_LAST ? tx : ty) + j * 16];
            PRAGMA_UNROLL for (int i = 0; i < 4; i++)
                PRAGMA_UNROLL for (int j = 0; j < 4; j++) acc[i][j] += a[i] * b[j];
        }
        __syncthreads();
    }
    PRAGMA_UNROLL for (int i = 0; i < 4; i++) {
        i32 row = m0 + (CHANNELS_LAST ? ty : tx) + i * 16;
        if (row >= p.m) continue;
        u32 pixels_of = p.out[0].divisor * p.out[1].divisor * p.out[2].divisor;
        u32 image = (u32)row / pixels_of;
        i64 base = y0 + (i64)image * p.y_image + (i64)((u32)row - image * pixels_of) * p.y_pixel;
        PRAGMA_UNROLL for (int j = 0; j < 4; j++) {
            i32 map = n0 + (CHANNELS_LAST ? tx : ty) + j * 16;
            if (map >= p.n) continue;
            i64 at = base + (i64)map * p.y_channel;
            p.y[at] = finish(p, acc[i][j], map0 + map, at);
        }
    }
}
