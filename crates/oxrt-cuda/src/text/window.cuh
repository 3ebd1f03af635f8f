// Products over windows by plain multiply-adds: convolutions over one to three axes in any layout, transposed ones, and
// matrix products (a window of one element). 64 x 64 tiles, every thread makes 4 x 4.
//
// Rows are pixels of the result, columns its maps; the depth runs over channels and taps. A transposed convolution gathers:
// a tap counts where the place it comes from is a pixel of the input.
#define BM 64
#define BN 64
#define BK 16

struct P {
    const TX* x; const TW* w; const void* in[5]; TY* y;
    // Distances: groups (or batches, of two axes), images, channels, maps, taps, pixels.
    i64 x_group[2], w_group[2], y_group[2], x_image, y_image, x_channel, y_channel, w_map, w_channel, w_tap, x_axis[3], y_pixel;
    Divider groups;
    i32 m, n, k, group_maps;
    Divider out[3];
    i32 size[3], dilation[3], pad[3];
    Divider step[3], kernel[2], inner, tiles_m;
    // What the text's own parts read.
    i32 whole[10]; f32 number[5];
    Status status;
};

// Here stands `TY finish(const P& p, C v, i32 map, i64 at)`: from a sum to what is stored; `map` counts over all groups.

struct Pixel { i64 base; i32 at[3]; };

DEVICE Pixel pixel_of(const P& p, i32 row) {
    Pixel pixel;
    u32 r = row < p.m ? row : 0, q = divide(r, p.out[2]), o[3];
    o[2] = r - q * p.out[2].divisor;
    u32 q1 = divide(q, p.out[1]);
    o[1] = q - q1 * p.out[1].divisor;
    u32 image = divide(q1, p.out[0]);
    o[0] = q1 - image * p.out[0].divisor;
    pixel.base = (i64)image * p.x_image;
    PRAGMA_UNROLL for (int d = 0; d < 3; d++) {
#if TRANSPOSED
        pixel.at[d] = (i32)o[d] + p.pad[d];
#else
        pixel.at[d] = (i32)(o[d] * p.step[d].divisor) - p.pad[d];
#endif
    }
    if (row >= p.m) pixel.at[2] = -(1 << 30);
    return pixel;
}

// Channel and taps of a place along the depth.
struct Depth { i32 channel, tap, at[3]; };

DEVICE Depth depth_of(const P& p, i32 k) {
    Depth depth;
    u32 high = divide(k, p.inner), low = k - high * p.inner.divisor;
#if CHANNELS_LAST
    depth.tap = high; depth.channel = low;
#else
    depth.tap = low; depth.channel = high;
#endif
    u32 q = divide(depth.tap, p.kernel[1]);
    depth.at[2] = depth.tap - q * p.kernel[1].divisor;
    depth.at[0] = divide(q, p.kernel[0]);
    depth.at[1] = q - depth.at[0] * p.kernel[0].divisor;
    return depth;
}

DEVICE C fetch(const P& p, const TX* x, const Pixel& pixel, const Depth& depth) {
    i64 at = pixel.base + (i64)depth.channel * p.x_channel;
    PRAGMA_UNROLL for (int d = 0; d < 3; d++) {
#if TRANSPOSED
        i32 far = pixel.at[d] - depth.at[d] * p.dilation[d];
        if (far < 0) return (C)0;
        i32 i = divide(far, p.step[d]);
        if (i * (i32)p.step[d].divisor != far || i >= p.size[d]) return (C)0;
#else
        i32 i = pixel.at[d] + depth.at[d] * p.dilation[d];
        if ((u32)i >= (u32)p.size[d]) return (C)0;
#endif
        at += i * p.x_axis[d];
    }
    return get<C>(x[at]) - X_ZERO;
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
