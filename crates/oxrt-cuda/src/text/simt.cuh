// Matrix products and convolutions in single precision (or double): 64 x 64 tiles, every thread makes 4 x 4.
//
// The same sums as mma.cuh, for operands of any type and distance: x[m][k] and w[k][n] lie where their steps say.
#define BM 64
#define BN 64
#define BK 16

struct P {
    const TX* x; const TW* w; const f32* bias; const TR* residual; TY* y;
    i64 x_step[2], w_step[2], y_step[2];
    Divider batch;
    i32 m, n, k, ldx, ldw, ldy, w_n;
    i32 height, width, pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w;
    Divider out_w, out_pixels, cin, kernel_w;
    Divider tiles_m;
    Status status;
};

KERNEL(256, product, P) {
    __shared__ C xs[BK][BM + 4];
    __shared__ C ws[BK][BN + 4];
    const u32 tid = threadIdx.x, tx = tid & 15, ty = tid >> 4;
    const u32 tile_n = divide(blockIdx.x, p.tiles_m), tile_m = blockIdx.x - tile_n * p.tiles_m.divisor;
    const i32 m0 = tile_m * BM, n0 = tile_n * BN;
    const u32 z = blockIdx.z, z1 = divide(z, p.batch), z0 = z - z1 * p.batch.divisor;
    const TX* x = p.x + z1 * p.x_step[1] + z0 * p.x_step[0];
    const TW* w = p.w + z1 * p.w_step[1] + z0 * p.w_step[0];
    C acc[4][4];
    PRAGMA_UNROLL for (int i = 0; i < 4; i++) PRAGMA_UNROLL for (int j = 0; j < 4; j++) acc[i][j] = 0;
    const i32 kx = tid & 15;
    i32 base[4], top[4], left[4];
    PRAGMA_UNROLL for (int i = 0; i < 4; i++) {
        i32 row = m0 + (tid >> 4) + i * 16;
        bool inside = row < p.m;
        base[i] = row;
        top[i] = inside ? 0 : -1;
        left[i] = 0;
#if CONV
        u32 image = divide(inside ? row : 0, p.out_pixels), pixel = (inside ? row : 0) - image * p.out_pixels.divisor;
        u32 oh = divide(pixel, p.out_w), ow = pixel - oh * p.out_w.divisor;
        top[i] = inside ? (i32)oh * p.stride_h - p.pad_h : -(1 << 30);
        left[i] = (i32)ow * p.stride_w - p.pad_w;
        base[i] = image * p.height;
#endif
    }
    for (i32 k0 = 0; k0 < p.k; k0 += BK) {
        const i32 k = k0 + kx;
#if CONV
        u32 tap = divide(k, p.cin), c = k - tap * p.cin.divisor;
        u32 kh = divide(tap, p.kernel_w), kw = tap - kh * p.kernel_w.divisor;
#endif
        PRAGMA_UNROLL for (int i = 0; i < 4; i++) {
#if CONV
            i32 ih = top[i] + (i32)kh * p.dilation_h, iw = left[i] + (i32)kw * p.dilation_w;
            bool valid = k < p.k && (u32)ih < (u32)p.height && (u32)iw < (u32)p.width;
            xs[kx][(tid >> 4) + i * 16] = valid ? get<C>(x[((i64)(base[i] + ih) * p.width + iw) * p.ldx + c]) : (C)0;
#else
            xs[kx][(tid >> 4) + i * 16] = k < p.k && top[i] == 0 ? get<C>(x[(i64)base[i] * p.ldx + k]) : (C)0;
#endif
        }
        PRAGMA_UNROLL for (int i = 0; i < 4; i++) {
            // Neighbouring threads read neighbouring elements, whichever axis is dense.
            i32 q = tid + i * 256;
            i32 kr = p.w_n == 1 ? q >> 6 : q & 15, nr = p.w_n == 1 ? q & 63 : q >> 4;
            bool valid = k0 + kr < p.k && n0 + nr < p.n;
            ws[kr][nr] = valid ? get<C>(w[(i64)(k0 + kr) * p.ldw + (i64)(n0 + nr) * p.w_n]) : (C)0;
        }
        __syncthreads();
        PRAGMA_UNROLL for (int kk = 0; kk < BK; kk++) {
            C a[4], b[4];
            PRAGMA_UNROLL for (int i = 0; i < 4; i++) a[i] = xs[kk][ty * 4 + i];
            PRAGMA_UNROLL for (int j = 0; j < 4; j++) b[j] = ws[kk][tx * 4 + j];
            PRAGMA_UNROLL for (int i = 0; i < 4; i++)
                PRAGMA_UNROLL for (int j = 0; j < 4; j++) acc[i][j] += a[i] * b[j];
        }
        __syncthreads();
    }
    const i64 z_y = z1 * p.y_step[1] + z0 * p.y_step[0];
    const f32* bias = p.bias ? p.bias + (CONV ? z * p.n : 0) : p.bias;
    PRAGMA_UNROLL for (int i = 0; i < 4; i++)
        PRAGMA_UNROLL for (int j = 0; j < 4; j++) {
            i32 row = m0 + ty * 4 + i, column = n0 + tx * 4 + j;
            if (row >= p.m || column >= p.n) continue;
            i64 at = z_y + (i64)row * p.ldy + column;
            C v = acc[i][j];
            if (bias) v += bias[column];
            if (p.residual) v += get<C>(p.residual[at]);
            p.y[at] = put<TY>(activate(v));
        }
}
