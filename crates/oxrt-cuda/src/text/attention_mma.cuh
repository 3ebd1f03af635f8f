// 64 queries per block, 16 per warp; 64 keys at a time.
#define EC (16 / (i32)sizeof(T))
#define PITCH (DIM * (i32)sizeof(T) + 16)
#define VPITCH (VDIM * (i32)sizeof(T) + 16)
// Tiles of keys and values that are there at a time.
#define STAGES (STEPS * 32 * 64 * 5 > 90000 ? 1 : 2)
// Instructions along a head.
#define STEPS (DIM * (i32)sizeof(T) / 32)

// out[16][VDIM] += weights[16][64] v[64][VDIM], of halves: s holds weights as products leave them.
template <class E, int V> DEVICE void add_values(f32 (&out)[V][4], const f32 (&s)[8][4], const u8* vs, u32 lane, E e) {
    PRAGMA_UNROLL for (int j = 0; j < 4; j++) {
        u32 a[4] = {pack_two(s[2 * j][0], s[2 * j][1], e), pack_two(s[2 * j][2], s[2 * j][3], e),
                    pack_two(s[2 * j + 1][0], s[2 * j + 1][1], e), pack_two(s[2 * j + 1][2], s[2 * j + 1][3], e)};
        PRAGMA_UNROLL for (int d = 0; d < V / 2; d++) {
            u32 b[4];
            load_matrices_turned(b, vs + (j * 16 + ((lane >> 3) & 1) * 8 + (lane & 7)) * VPITCH + (d * 2 + (lane >> 4)) * 16);
            multiply_add(out[d * 2], a, b[0], b[1], e);
            multiply_add(out[d * 2 + 1], a, b[2], b[3], e);
        }
    }
}
// The same of single precision. An instruction sums over eight keys in any order: even ones first, so that weights are where they
// are wanted.
template <int V> DEVICE void add_values(f32 (&out)[V][4], const f32 (&s)[8][4], const u8* vs, u32 lane, f32 e) {
    PRAGMA_UNROLL for (int j = 0; j < 8; j++) {
        u32 a[4] = {bits_of(s[j][0]), bits_of(s[j][2]), bits_of(s[j][1]), bits_of(s[j][3])};
        const u8* row = vs + (j * 8 + (lane & 3) * 2) * VPITCH + (lane >> 2) * 4;
        PRAGMA_UNROLL for (int d = 0; d < V; d++) times<EXACT>(out[d], a, *(const u32*)(row + d * 32), *(const u32*)(row + VPITCH + d * 32), e);
    }
}
DEVICE f32 power(f32 x) {
#if EXACT
    return exp2f(x);
#else
    return fast_exp2(x);
#endif
}

KERNEL(128, attention, P) {
    DYNAMIC_SHARED(memory);
    u8* const qt = memory;
    u8* const kt = qt + 64 * PITCH;
    u8* const vt = kt + STAGES * 64 * PITCH;
    const u32 tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const u32 split = blockIdx.x % p.splits;
    const i32 q0 = blockIdx.x / p.splits * 64;
    const u32 head = blockIdx.y, batch = blockIdx.z;
    const T* q = p.q + batch * p.qs.batch + head * p.qs.head;
    const T* k = p.k + batch * p.ks.batch + (head / p.share) * p.ks.head;
    const T* v = p.v + batch * p.vs.batch + (head / p.share) * p.vs.head;
    const i64 mask0 = batch * p.mask_step[0] + head * p.mask_step[1];

    const Seen seen = seen_by(p, batch);

    for (u32 i = tid; i < 64 * DIM / EC; i += 128) {
        u32 r = i / (DIM / EC), c = i % (DIM / EC);
        bool valid = q0 + r < p.queries;
        copy_async(qt + r * PITCH + c * 16, valid ? (const void*)(q + (q0 + r) * p.qs.row + c * EC) : (const void*)q, valid);
    }
    auto bring = [&](i32 k0, i32 stage) {
        for (u32 i = tid; i < 64 * DIM / EC; i += 128) {
            u32 r = i / (DIM / EC), c = i % (DIM / EC);
            bool valid = k0 + r < seen.keys;
            copy_async(kt + (stage * 64 + r) * PITCH + c * 16, valid ? (const void*)(k + (k0 + r) * p.ks.row + c * EC) : (const void*)k, valid);
        }
        for (u32 i = tid; i < 64 * VDIM / EC; i += 128) {
            u32 r = i / (VDIM / EC), c = i % (VDIM / EC);
            bool valid = k0 + r < seen.keys;
            copy_async(vt + (stage * 64 + r) * VPITCH + c * 16, valid ? (const void*)(v + (k0 + r) * p.vs.row + c * EC) : (const void*)v, valid);
        }
    };
    // Keys that no query of the block sees are left out.
    i32 keys = seen.keys;
    if (q0 + 63 + (i64)seen.shift + 1 < keys) keys = max(q0 + 64 + seen.shift, 0);
    const i32 all = (keys + 63) / 64, from = WINDOW ? max(q0 + seen.low, 0) / 64 : 0;
    // The block's share of the tiles.
    const i32 share = (max(all - from, 0) + p.splits - 1) / p.splits, first = from + (i32)split * share;
    const i32 tiles = min(first + share, all);
    bring(first * 64, first % STAGES);
    copy_async_commit();

    f32 top[2] = {-INFINITE_F32, -INFINITE_F32}, sum[2] = {0, 0};
    f32 out[VDIM / 8][4];
    PRAGMA_UNROLL for (int j = 0; j < VDIM / 8; j++) PRAGMA_UNROLL for (int e = 0; e < 4; e++) out[j][e] = 0;
    u32 qa[STEPS][4];
    const i32 row0 = q0 + warp * 16 + (lane >> 2);

    for (i32 t = first; t < tiles; t++) {
        if (STAGES == 1 && t > first) bring(t * 64, 0);
        if (STAGES == 2 && t + 1 < tiles) bring((t + 1) * 64, (t + 1) & 1);
        copy_async_commit();
        copy_async_wait<STAGES - 1>();
        __syncthreads();
        if (t == first) {
            PRAGMA_UNROLL for (int d = 0; d < STEPS; d++)
                load_matrices(qa[d], qt + (warp * 16 + (lane & 15)) * PITCH + (d * 2 + (lane >> 4)) * 16);
        }
        const u8* ks = kt + t % STAGES * 64 * PITCH;
        const u8* vs = vt + t % STAGES * 64 * VPITCH;
        f32 s[8][4];
        PRAGMA_UNROLL for (int j = 0; j < 8; j++) PRAGMA_UNROLL for (int e = 0; e < 4; e++) s[j][e] = 0;
        PRAGMA_UNROLL for (int d = 0; d < STEPS; d++)
            PRAGMA_UNROLL for (int j = 0; j < 4; j++) {
                u32 b[4];
                load_matrices(b, ks + (j * 16 + (lane >> 4) * 8 + (lane & 7)) * PITCH + (d * 2 + ((lane >> 3) & 1)) * 16);
                times<EXACT>(s[j * 2], qa[d], b[0], b[1], T());
                times<EXACT>(s[j * 2 + 1], qa[d], b[2], b[3], T());
            }
        f32 highest[2] = {top[0], top[1]};
        PRAGMA_UNROLL for (int j = 0; j < 8; j++)
            PRAGMA_UNROLL for (int e = 0; e < 4; e++) {
                i32 key = t * 64 + j * 8 + (lane & 3) * 2 + (e & 1), query = row0 + (e >> 1) * 8;
#if MASK
                // Queries behind the last have no mask.
                f32 x = key < seen.keys && query < p.queries ? score(p, seen, s[j][e], mask_of(p, mask0 + query * p.mask_step[2], key), query, key) : -INFINITE_F32;
#else
                f32 x = score(p, seen, s[j][e], M(), query, key);
                if (t == all - 1 && key >= seen.keys) x = -INFINITE_F32;
#endif
                s[j][e] = x;
                highest[e >> 1] = fmaxf(highest[e >> 1], x);
            }
        PRAGMA_UNROLL for (int h = 0; h < 2; h++) {
            highest[h] = fmaxf(highest[h], lane_xor(highest[h], 1));
            highest[h] = fmaxf(highest[h], lane_xor(highest[h], 2));
            f32 factor = highest[h] == -INFINITE_F32 ? 1.0f : power(top[h] - highest[h]);
            top[h] = highest[h];
            sum[h] *= factor;
            PRAGMA_UNROLL for (int j = 0; j < VDIM / 8; j++) { out[j][h * 2] *= factor; out[j][h * 2 + 1] *= factor; }
        }
        PRAGMA_UNROLL for (int j = 0; j < 8; j++)
            PRAGMA_UNROLL for (int e = 0; e < 4; e++) {
                // A row that has seen nothing yet has no largest score to take away.
                f32 x = s[j][e] == -INFINITE_F32 ? 0.0f : power(s[j][e] - top[e >> 1]);
                s[j][e] = x;
                sum[e >> 1] += x;
            }
        add_values(out, s, vs, lane, T());
        __syncthreads();
    }
    copy_async_wait<0>();
    PRAGMA_UNROLL for (int h = 0; h < 2; h++) {
        sum[h] += lane_xor(sum[h], 1);
        sum[h] += lane_xor(sum[h], 2);
        i32 query = row0 + h * 8;
        if (query >= p.queries) continue;
        if (p.splits > 1) {
            f32* part = part_of(p, batch, head, query, split);
            if ((lane & 3) == 0) { part[0] = top[h]; part[1] = sum[h]; }
            PRAGMA_UNROLL for (int j = 0; j < VDIM / 8; j++)
                PRAGMA_UNROLL for (int e = 0; e < 2; e++) part[2 + j * 8 + (lane & 3) * 2 + e] = out[j][h * 2 + e];
            continue;
        }
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
