// Matrix products and convolutions on the matrix units, with 16-bit operands and sums in single precision.
//
// y[m][n] = activation(sum over k of x[m][k] w[n][k] + bias[n] + residual[m][n])
//
// A block makes a tile of BM x BN, its warps tiles of WM x WN. Both operands come through shared memory in slices of 64 k,
// STAGES of them on their way at a time. A row of a slice is 128 bytes in 8 chunks, which lie at chunk ^ (row % 8): so
// neither the copies nor the loads of 8x8 matrices meet twice in a bank. With CONV the rows of x are windows of an image
// [N, H, W, C] that is never laid out: k counts (tap, channel). Several blocks may share a tile, each with a part of k;
// the last to end sums up.
#define BK 64
#define THREADS (WARPS_M * WARPS_N * 32)
#define WM (BM / WARPS_M)
#define WN (BN / WARPS_N)
#define MT (WM / 16)
#define NT (WN / 8)
#define ROWS_X (BM * 8 / THREADS)
#define PITCH (BN + 4)

struct P {
    const TX* x; const T* w; const f32* bias; const TR* residual; TY* y;
    f32* partial; u32* counters;
    i64 x_step[2], w_step[2], y_step[2];
    Divider batch;
    i32 m, n, k, ldx, ldw, ldy, slices, splits, stages;
    i32 height, width, pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w;
    Divider out_w, out_pixels, cin, kernel_w;
    Divider tiles_m;
    Status status;
};

// Eight elements as they lie, or converted.
DEVICE uint4 pack8(const f32 (&v)[8]) {
    uint4 r;
    if (sizeof(T) == 2) {
#ifdef T_IS_BF16
        r.x = pack_bf16(v[0], v[1]); r.y = pack_bf16(v[2], v[3]); r.z = pack_bf16(v[4], v[5]); r.w = pack_bf16(v[6], v[7]);
#else
        r.x = pack_f16(v[0], v[1]); r.y = pack_f16(v[2], v[3]); r.z = pack_f16(v[4], v[5]); r.w = pack_f16(v[6], v[7]);
#endif
    }
    return r;
}

KERNEL(THREADS, product, P) {
    DYNAMIC_SHARED(memory);
    const u32 tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const u32 wm = warp / WARPS_N, wn = warp % WARPS_N;
    const u32 tile_n = divide(blockIdx.x, p.tiles_m), tile_m = blockIdx.x - tile_n * p.tiles_m.divisor;
    const i32 m0 = tile_m * BM, n0 = tile_n * BN;
    const u32 split = blockIdx.y, z = blockIdx.z;
    const u32 z1 = divide(z, p.batch), z0 = z - z1 * p.batch.divisor;
    const TX* x = p.x + z1 * p.x_step[1] + z0 * p.x_step[0];
    const T* w = p.w + z1 * p.w_step[1] + z0 * p.w_step[0];

    u8* const xs = memory;
    u8* const ws = memory + p.stages * BM * 128;
    const i32 chunk = tid & 7, row0 = tid >> 3;
    const i32 first = split * p.slices;
    const i32 all = (p.k + BK - 1) / BK;
    const i32 last = min(first + p.slices, all);

    // Rows of x that this thread copies.
    i32 base[ROWS_X], top[ROWS_X], left[ROWS_X];
    PRAGMA_UNROLL for (int i = 0; i < ROWS_X; i++) {
        i32 row = m0 + row0 + i * (THREADS / 8);
        bool inside = row < p.m;
#if CONV
        u32 image = divide(inside ? row : 0, p.out_pixels), pixel = (inside ? row : 0) - image * p.out_pixels.divisor;
        u32 oh = divide(pixel, p.out_w), ow = pixel - oh * p.out_w.divisor;
        top[i] = inside ? (i32)oh * p.stride_h - p.pad_h : -(1 << 30);
        left[i] = (i32)ow * p.stride_w - p.pad_w;
        base[i] = image * p.height;
#else
        top[i] = inside ? 0 : -1;
        base[i] = row;
#endif
    }

    auto bring = [&](i32 slice, i32 stage) {
        const i32 k = slice * BK + chunk * 8;
        u8* to = xs + stage * BM * 128;
#if CONV && ASYNC != 2
        u32 tap = divide(k, p.cin), c = k - tap * p.cin.divisor;
        u32 kh = divide(tap, p.kernel_w), kw = tap - kh * p.kernel_w.divisor;
        i32 dh = kh * p.dilation_h, dw = kw * p.dilation_w;
#endif
        PRAGMA_UNROLL for (int i = 0; i < ROWS_X; i++) {
            i32 r = row0 + i * (THREADS / 8);
            u8* at = to + r * 128 + ((chunk ^ (r & 7)) << 4);
#if ASYNC == 2
            // Images of four channels: a chunk is two taps.
            PRAGMA_UNROLL for (int h = 0; h < 2; h++) {
                u32 tj = (k >> 2) + h;
                u32 khj = divide(tj, p.kernel_w), kwj = tj - khj * p.kernel_w.divisor;
                i32 ih = top[i] + (i32)khj * p.dilation_h, iw = left[i] + (i32)kwj * p.dilation_w;
                bool valid = k + h * 4 < p.k && (u32)ih < (u32)p.height && (u32)iw < (u32)p.width;
                const TX* from = x + ((i64)(base[i] + ih) * p.width + iw) * 4;
                copy_async_8(at + h * 8, valid ? (const void*)from : (const void*)p.x, valid);
            }
#elif ASYNC
#if CONV
            i32 ih = top[i] + dh, iw = left[i] + dw;
            bool valid = k < p.k && (u32)ih < (u32)p.height && (u32)iw < (u32)p.width;
            const TX* from = x + ((i64)(base[i] + ih) * p.width + iw) * p.ldx + c;
#else
            bool valid = k < p.k && top[i] == 0;
            const TX* from = x + (i64)base[i] * p.ldx + k;
#endif
            copy_async(at, valid ? (const void*)from : (const void*)p.x, valid);
#else
            f32 v[8];
            PRAGMA_UNROLL for (int j = 0; j < 8; j++) {
                i32 kj = k + j;
#if CONV
                u32 tj = divide(kj, p.cin), cj = kj - tj * p.cin.divisor;
                u32 khj = divide(tj, p.kernel_w), kwj = tj - khj * p.kernel_w.divisor;
                i32 ih = top[i] + (i32)khj * p.dilation_h, iw = left[i] + (i32)kwj * p.dilation_w;
                bool valid = kj < p.k && (u32)ih < (u32)p.height && (u32)iw < (u32)p.width;
                v[j] = valid ? get<f32>(x[((i64)(base[i] + ih) * p.width + iw) * p.ldx + cj]) : 0.0f;
#else
                v[j] = kj < p.k && top[i] == 0 ? get<f32>(x[(i64)base[i] * p.ldx + kj]) : 0.0f;
#endif
            }
            *(uint4*)at = pack8(v);
#endif
        }
        to = ws + stage * BN * 128;
#if W_TURNED
        // w[k][n]: rows of k.
        for (i32 q = tid; q < BK * BN / 8; q += THREADS) {
            i32 r = q / (BN / 8), c8 = q % (BN / 8), kr = slice * BK + r, n = n0 + c8 * 8;
            u8* at = to + r * BN * 2 + ((c8 ^ (r & 7)) << 4);
#if W_ASYNC
            bool valid = kr < p.k && n < p.n;
            copy_async(at, valid ? (const void*)(w + (i64)kr * p.ldw + n) : (const void*)p.w, valid);
#else
            f32 v[8];
            PRAGMA_UNROLL for (int j = 0; j < 8; j++) v[j] = kr < p.k && n + j < p.n ? get<f32>(w[(i64)kr * p.ldw + n + j]) : 0.0f;
            *(uint4*)at = pack8(v);
#endif
        }
#else
        for (i32 q = tid; q < BN * 8; q += THREADS) {
            i32 r = q >> 3, c8 = q & 7, kc = slice * BK + c8 * 8, n = n0 + r;
            bool valid = kc < p.ldw && n < p.n;
            copy_async(to + r * 128 + ((c8 ^ (r & 7)) << 4), valid ? (const void*)(w + (i64)n * p.ldw + kc) : (const void*)p.w, valid);
        }
#endif
    };

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
        PRAGMA_UNROLL for (int kk = 0; kk < BK / 16; kk++) {
            u32 a[MT][4], b[NT / 2][4];
            PRAGMA_UNROLL for (int i = 0; i < MT; i++) {
                u32 r = i * 16 + (lane & 15), c = kk * 2 + (lane >> 4);
                load_matrices(a[i], xt + r * 128 + ((c ^ (r & 7)) << 4));
            }
            PRAGMA_UNROLL for (int j = 0; j < NT / 2; j++) {
#if W_TURNED
                u32 r = kk * 16 + ((lane >> 3) & 1) * 8 + (lane & 7), c = (wn * WN + j * 16) / 8 + (lane >> 4);
                load_matrices_turned(b[j], wt + r * BN * 2 + ((c ^ (r & 7)) << 4));
#else
                u32 r = wn * WN + j * 16 + (lane >> 4) * 8 + (lane & 7), c = kk * 2 + ((lane >> 3) & 1);
                load_matrices(b[j], wt + r * 128 + ((c ^ (r & 7)) << 4));
#endif
            }
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

    if (p.splits > 1) {
        const i64 tile = ((i64)z * gridDim.x + blockIdx.x);
        f32* mine = p.partial + (tile * p.splits + split) * (BM * BN);
        for (u32 q = tid; q < BM * BN / 4; q += THREADS) {
            u32 r = q / (BN / 4), c = q % (BN / 4) * 4;
            *(uint4*)(mine + q * 4) = *(const uint4*)(sums + r * PITCH + c);
        }
        __threadfence();
        __shared__ u32 order;
        __syncthreads();
        if (tid == 0) order = atomicAdd(p.counters + tile, 1u);
        __syncthreads();
        if (order != p.splits - 1) return;
        __threadfence();
        if (tid == 0) p.counters[tile] = 0;
        for (u32 q = tid; q < BM * BN / 4; q += THREADS) {
            u32 r = q / (BN / 4), c = q % (BN / 4) * 4;
            f32* to = sums + r * PITCH + c;
            f32 v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            for (i32 s = 0; s < p.splits; s++) {
                const volatile f32* from = p.partial + (tile * p.splits + s) * (BM * BN) + q * 4;
                PRAGMA_UNROLL for (int j = 0; j < 4; j++) v[j] += from[j];
            }
            PRAGMA_UNROLL for (int j = 0; j < 4; j++) to[j] = v[j];
        }
        __syncthreads();
    }

    const i64 z_y = z1 * p.y_step[1] + z0 * p.y_step[0];
    const f32* bias = p.bias ? p.bias + (CONV ? z * p.n : 0) : p.bias;
    if (p.n % 8 == 0 && p.ldy % 8 == 0) {
        for (u32 q = tid; q < BM * BN / 8; q += THREADS) {
            u32 r = q / (BN / 8), c = q % (BN / 8) * 8;
            i32 row = m0 + r, column = n0 + c;
            if (row >= p.m || column >= p.n) continue;
            i64 at = z_y + (i64)row * p.ldy + column;
            f32 v[8];
            PRAGMA_UNROLL for (int j = 0; j < 8; j++) v[j] = sums[r * PITCH + c + j];
            if (bias) PRAGMA_UNROLL for (int j = 0; j < 8; j++) v[j] += bias[column + j];
            if (p.residual) {
                Pack<TR, 8> add = *(const Pack<TR, 8>*)(p.residual + at);
                PRAGMA_UNROLL for (int j = 0; j < 8; j++) v[j] += get<f32>(add.at[j]);
            }
            Pack<TY, 8> out;
            PRAGMA_UNROLL for (int j = 0; j < 8; j++) out.at[j] = put<TY>(activate(v[j]));
            *(Pack<TY, 8>*)(p.y + at) = out;
        }
    } else {
        for (u32 q = tid; q < BM * BN; q += THREADS) {
            u32 r = q / BN, c = q % BN;
            i32 row = m0 + r, column = n0 + c;
            if (row >= p.m || column >= p.n) continue;
            i64 at = z_y + (i64)row * p.ldy + column;
            f32 v = sums[r * PITCH + c];
            if (bias) v += bias[column];
            if (p.residual) v += get<f32>(p.residual[at]);
            p.y[at] = put<TY>(activate(v));
        }
    }
}
