// Attention without a matrix of scores: softmax(scale q kT + mask) v with running maxima
// (Milakov and Gimelshein 2018; Dao et al., FlashAttention, 2022).
// A row that sees nothing is zeros: so passes have guarded it, and so ONNX defines it.
struct Place { i64 batch, head, row; };
struct P {
    const T* q; const T* k; const T* v; const M* mask; TY* y;
    Place qs, ks, vs, ys;
    i64 mask_step[4];
    i32 heads, share, queries, keys;
    // Key j is seen by query i when j <= i + shift; huge when all are.
    i32 shift;
    f32 scale, softcap;
};

// A score in units of the exponent that is taken of it: times log2(e), so that weights are powers of two.
#define LOG2E 1.4426950408889634f
DEVICE f32 score(const P& p, f32 s, i64 mask_at, i32 query, i32 key) {
#if SOFTCAP
    s = p.softcap * tanhf(s * p.scale / p.softcap) * LOG2E;
#else
    s *= p.scale * LOG2E;
#endif
#if MASK == 1
    s += get<f32>(p.mask[mask_at + key * p.mask_step[3]]) * LOG2E;
#elif MASK == 2
    if (!p.mask[mask_at + key * p.mask_step[3]]) s = -INFINITE_F32;
#endif
#if CAUSAL
    if (key > query + p.shift) s = -INFINITE_F32;
#endif
    return s;
}

#if MMA
// 64 queries per block, 16 per warp; 64 keys at a time.
#define PITCH ((DIM + 8) * 2)
#define VPITCH ((VDIM + 8) * 2)

DEVICE u32 pack_two(f32 a, f32 b) {
#ifdef T_IS_BF16
    return pack_bf16(a, b);
#else
    return pack_f16(a, b);
#endif
}

KERNEL(128, attention, P) {
    DYNAMIC_SHARED(memory);
    u8* const qt = memory;
    u8* const kt = qt + 64 * PITCH;
    u8* const vt = kt + 2 * 64 * PITCH;
    const u32 tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const i32 q0 = blockIdx.x * 64;
    const u32 head = blockIdx.y, batch = blockIdx.z;
    const T* q = p.q + batch * p.qs.batch + head * p.qs.head;
    const T* k = p.k + batch * p.ks.batch + (head / p.share) * p.ks.head;
    const T* v = p.v + batch * p.vs.batch + (head / p.share) * p.vs.head;
    const i64 mask0 = batch * p.mask_step[0] + head * p.mask_step[1];

    for (u32 i = tid; i < 64 * DIM / 8; i += 128) {
        u32 r = i / (DIM / 8), c = i % (DIM / 8);
        bool valid = q0 + r < p.queries;
        copy_async(qt + r * PITCH + c * 16, valid ? (const void*)(q + (q0 + r) * p.qs.row + c * 8) : (const void*)q, valid);
    }
    auto bring = [&](i32 k0, i32 stage) {
        for (u32 i = tid; i < 64 * DIM / 8; i += 128) {
            u32 r = i / (DIM / 8), c = i % (DIM / 8);
            bool valid = k0 + r < p.keys;
            copy_async(kt + (stage * 64 + r) * PITCH + c * 16, valid ? (const void*)(k + (k0 + r) * p.ks.row + c * 8) : (const void*)k, valid);
        }
        for (u32 i = tid; i < 64 * VDIM / 8; i += 128) {
            u32 r = i / (VDIM / 8), c = i % (VDIM / 8);
            bool valid = k0 + r < p.keys;
            copy_async(vt + (stage * 64 + r) * VPITCH + c * 16, valid ? (const void*)(v + (k0 + r) * p.vs.row + c * 8) : (const void*)v, valid);
        }
    };
    // Keys that no query of the block sees are left out.
    i32 keys = p.keys;
    if (q0 + 63 + (i64)p.shift + 1 < keys) keys = max(q0 + 64 + p.shift, 0);
    const i32 tiles = (keys + 63) / 64;
    bring(0, 0);
    copy_async_commit();

    f32 top[2] = {-INFINITE_F32, -INFINITE_F32}, sum[2] = {0, 0};
    f32 out[VDIM / 8][4];
    PRAGMA_UNROLL for (int j = 0; j < VDIM / 8; j++) PRAGMA_UNROLL for (int e = 0; e < 4; e++) out[j][e] = 0;
    u32 qa[DIM / 16][4];
    const i32 row0 = q0 + warp * 16 + (lane >> 2);

    for (i32 t = 0; t < tiles; t++) {
        if (t + 1 < tiles) bring((t + 1) * 64, (t + 1) & 1);
        copy_async_commit();
        copy_async_wait<1>();
        __syncthreads();
        if (t == 0) {
            PRAGMA_UNROLL for (int d = 0; d < DIM / 16; d++)
                load_matrices(qa[d], qt + (warp * 16 + (lane & 15)) * PITCH + (d * 2 + (lane >> 4)) * 16);
        }
        const u8* ks = kt + (t & 1) * 64 * PITCH;
        const u8* vs = vt + (t & 1) * 64 * VPITCH;
        f32 s[8][4];
        PRAGMA_UNROLL for (int j = 0; j < 8; j++) PRAGMA_UNROLL for (int e = 0; e < 4; e++) s[j][e] = 0;
        PRAGMA_UNROLL for (int d = 0; d < DIM / 16; d++)
            PRAGMA_UNROLL for (int j = 0; j < 4; j++) {
                u32 b[4];
                load_matrices(b, ks + (j * 16 + (lane >> 4) * 8 + (lane & 7)) * PITCH + (d * 2 + ((lane >> 3) & 1)) * 16);
                multiply_add(s[j * 2], qa[d], b[0], b[1], T());
                multiply_add(s[j * 2 + 1], qa[d], b[2], b[3], T());
            }
        f32 highest[2] = {top[0], top[1]};
        PRAGMA_UNROLL for (int j = 0; j < 8; j++)
            PRAGMA_UNROLL for (int e = 0; e < 4; e++) {
                i32 key = t * 64 + j * 8 + (lane & 3) * 2 + (e & 1), query = row0 + (e >> 1) * 8;
#if MASK
                // Queries behind the last have no mask.
                f32 x = key < p.keys && query < p.queries ? score(p, s[j][e], mask0 + query * p.mask_step[2], query, key) : -INFINITE_F32;
#else
                f32 x = score(p, s[j][e], 0, query, key);
                if (t == tiles - 1 && key >= p.keys) x = -INFINITE_F32;
#endif
                s[j][e] = x;
                highest[e >> 1] = fmaxf(highest[e >> 1], x);
            }
        PRAGMA_UNROLL for (int h = 0; h < 2; h++) {
            highest[h] = fmaxf(highest[h], lane_xor(highest[h], 1));
            highest[h] = fmaxf(highest[h], lane_xor(highest[h], 2));
            f32 factor = highest[h] == -INFINITE_F32 ? 1.0f : fast_exp2(top[h] - highest[h]);
            top[h] = highest[h];
            sum[h] *= factor;
            PRAGMA_UNROLL for (int j = 0; j < VDIM / 8; j++) { out[j][h * 2] *= factor; out[j][h * 2 + 1] *= factor; }
        }
        PRAGMA_UNROLL for (int j = 0; j < 8; j++)
            PRAGMA_UNROLL for (int e = 0; e < 4; e++) {
                // A row that has seen nothing yet has no largest score to take away.
                f32 x = s[j][e] == -INFINITE_F32 ? 0.0f : fast_exp2(s[j][e] - top[e >> 1]);
                s[j][e] = x;
                sum[e >> 1] += x;
            }
        PRAGMA_UNROLL for (int j = 0; j < 4; j++) {
            u32 a[4] = {pack_two(s[2 * j][0], s[2 * j][1]), pack_two(s[2 * j][2], s[2 * j][3]),
                        pack_two(s[2 * j + 1][0], s[2 * j + 1][1]), pack_two(s[2 * j + 1][2], s[2 * j + 1][3])};
            PRAGMA_UNROLL for (int d = 0; d < VDIM / 16; d++) {
                u32 b[4];
                load_matrices_turned(b, vs + (j * 16 + ((lane >> 3) & 1) * 8 + (lane & 7)) * VPITCH + (d * 2 + (lane >> 4)) * 16);
                multiply_add(out[d * 2], a, b[0], b[1], T());
                multiply_add(out[d * 2 + 1], a, b[2], b[3], T());
            }
        }
        __syncthreads();
    }
    copy_async_wait<0>();
    PRAGMA_UNROLL for (int h = 0; h < 2; h++) {
        sum[h] += lane_xor(sum[h], 1);
        sum[h] += lane_xor(sum[h], 2);
        i32 query = row0 + h * 8;
        if (query >= p.queries) continue;
        f32 factor = sum[h] > 0 ? 1 / sum[h] : 0.0f;
        TY* y = p.y + batch * p.ys.batch + head * p.ys.head + query * p.ys.row;
        PRAGMA_UNROLL for (int j = 0; j < VDIM / 8; j++) {
            Pack<TY, 2> two;
            two.at[0] = put<TY>(out[j][h * 2] * factor);
            two.at[1] = put<TY>(out[j][h * 2 + 1] * factor);
            *(Pack<TY, 2>*)(y + j * 8 + (lane & 3) * 2) = two;
        }
    }
}
#else
// A warp per query; 32 keys at a time, one per lane. Values of up to 32 * WIDE elements.
KERNEL(128, attention, P) {
    const u32 lane = threadIdx.x & 31;
    const i32 query = blockIdx.x * 4 + (threadIdx.x >> 5);
    const u32 head = blockIdx.y, batch = blockIdx.z;
    if (query >= p.queries) return;
    const T* q = p.q + batch * p.qs.batch + head * p.qs.head + query * p.qs.row;
    const T* k = p.k + batch * p.ks.batch + (head / p.share) * p.ks.head;
    const T* v = p.v + batch * p.vs.batch + (head / p.share) * p.vs.head;
    const i64 mask_at = batch * p.mask_step[0] + head * p.mask_step[1] + query * p.mask_step[2];
    f32 top = -INFINITE_F32, sum = 0, out[WIDE];
    PRAGMA_UNROLL for (int j = 0; j < WIDE; j++) out[j] = 0;
    for (i32 k0 = 0; k0 < p.keys; k0 += 32) {
        i32 key = k0 + lane;
        f32 s = -INFINITE_F32;
        if (key < p.keys) {
            f32 dot = 0;
            for (i32 d = 0; d < DIM; d++) dot += get<f32>(q[d]) * get<f32>(k[key * p.ks.row + d]);
            s = score(p, dot, mask_at, query, key);
        }
        f32 highest = fmaxf(top, warp_max(s));
        if (highest == -INFINITE_F32) continue;
        f32 factor = exp2f(top - highest), weight = s == -INFINITE_F32 ? 0.0f : exp2f(s - highest);
        top = highest;
        sum = sum * factor + warp_sum(weight);
        PRAGMA_UNROLL for (int j = 0; j < WIDE; j++) out[j] *= factor;
        for (i32 i = 0; i < 32 && k0 + i < p.keys; i++) {
            f32 w = lane_get(weight, i);
            PRAGMA_UNROLL for (int j = 0; j < WIDE; j++) {
                i32 d = j * 32 + lane;
                if (d < VDIM) out[j] += w * get<f32>(v[(k0 + i) * p.vs.row + d]);
            }
        }
    }
    TY* y = p.y + batch * p.ys.batch + head * p.ys.head + query * p.ys.row;
    f32 factor = sum > 0 ? 1 / sum : 0.0f;
    PRAGMA_UNROLL for (int j = 0; j < WIDE; j++) if (j * 32 + lane < VDIM) y[j * 32 + lane] = put<TY>(out[j] * factor);
}
#endif
