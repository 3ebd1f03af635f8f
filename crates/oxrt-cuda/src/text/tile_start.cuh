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
        const i32 k = slice * BK + chunk * EC;
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
            // Images of four channels: a chunk is two taps of 8 bytes, or one of 16.
            PRAGMA_UNROLL for (int h = 0; h < EC / 4; h++) {
                u32 tj = (k >> 2) + h;
                u32 khj = divide(tj, p.kernel_w), kwj = tj - khj * p.kernel_w.divisor;
                i32 ih = top[i] + (i32)khj * p.dilation_h, iw = left[i] + (i32)kwj * p.dilation_w;
                bool valid = k + h * 4 < p.k && (u32)ih < (u32)p.height && (u32)iw < (u32)p.width;
                const TX* from = x + ((i64)(base[i] + ih) * p.width + iw) * 4;
                const void* there = valid ? (const void*)from : (const void*)p.x;
                if (EC == 8) copy_async_8(at + h * 8, there, valid);
                else copy_async(at, there, valid);
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
            f32 v[EC];
            PRAGMA_UNROLL for (int j = 0; j < EC; j++) {
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
            put_chunk<T>(at, v);
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
            put_chunk<T>(at, v);
#endif
        }
#else
        for (i32 q = tid; q < BN * 8; q += THREADS) {
            i32 r = q >> 3, c8 = q & 7, kc = slice * BK + c8 * EC, n = n0 + r;
            bool valid = kc < p.ldw && n < p.n;
            copy_async(to + r * 128 + ((c8 ^ (r & 7)) << 4), valid ? (const void*)(w + (i64)n * p.ldw + kc) : (const void*)p.w, valid);
        }
#endif
    };
