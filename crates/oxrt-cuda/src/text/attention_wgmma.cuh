// On Hopper's matrix units: a warpgroup takes 64 queries, and its registers hold their scores with all KEYS of a tile.
//
// Where one tile holds all keys (ONE_TILE), keys and values stay in shared memory while the warpgroups take one group of
// queries after the other, and no sum is ever corrected; else tiles come one after the other while the last one is used.
#define WGS 2
#define SLICES (DIM / 64)
#define VSLICES (VDIM / 64)
// Bytes of 64 queries, and of a tile of keys and of values. Results leave by way of the queries' place.
#define Q_BYTES ((SLICES > VSLICES ? SLICES : VSLICES) * 8192)
#define K_BYTES (SLICES * KEYS * 128)
#define V_BYTES (VSLICES * KEYS * 128)
#define SN (KEYS / 2)
// Groups of queries of a warpgroup that are there at once.
#define Q_PLACES (ONE_TILE ? 2 : 1)
#define PLAIN (!MASK && !SOFTCAP)
// One tile has no more columns than it takes.
#define LEAST_KEYS (KEYS - 15)

// d[64][KEYS] = (fresh ? 0 : d) + a[64][16] b[KEYS][16], operands at columns 16 kk.
DEVICE void wgmma_scores(f32 (&d)[SN], const u8* a, const u8* b, int kk, bool fresh) {
#ifdef OXRT_EMULATED
    wgmma_rows(d, a, b, kk, fresh);
#else
    u64 da = describe(a) + kk * 2, db = describe(b) + kk * 2;
    u32 add = fresh ? 0 : 1;
    WGMMA_SCORES
#endif
}
#ifdef OXRT_EMULATED
// d[64][64] = (fresh ? 0 : d) + a[64][16] b[16][64], a in registers, b at rows 16 kk.
DEVICE void wgmma_values(f32 (&d)[32], const u32 (&a)[4], const u8* b, int kk, bool fresh) {
    using namespace emulator;
    memcpy(slots[warp()][lane()], a, 16);
    warp_barrier();
    for (int i = 0; i < 32; i++) {
        u32 row = lane() / 4, low = i >> 1 & 1, column = i / 4 * 8 + (lane() & 3) * 2 + (i & 1);
        if (fresh) d[i] = 0;
        for (u32 k = 0; k < 16; k++) {
            u32 word; memcpy(&word, slots[warp()][row * 4 + k % 8 / 2] + 4 * (low + 2 * (k >= 8)), 4);
            T x; x.bits = (u16)(word >> 16 * (k & 1));
            d[i] = fmaf(widen(x), widen(at(b, kk * 16 + k, column)), d[i]);
        }
    }
    warp_barrier();
}
#else
// Values lie along columns (the last number of the instruction): groups of eight rows are 1024 bytes apart.
DEVICE void wgmma_values(f32 (&d)[32], const u32 (&a)[4], const u8* b, int kk, bool fresh) {
    u64 db = describe(b) + kk * (2048 >> 4);
    u32 add = fresh ? 0 : 1;
    WGMMA_VALUES
}
#endif

KERNEL_LATE(WGS * 128, BLOCKS, attention, P) {
    DYNAMIC_SHARED(memory);
    const u32 tid = threadIdx.x, lane = tid & 31, wg = tid >> 7, quad = lane & 3;
    u8* const kt = memory + WGS * Q_PLACES * Q_BYTES;
    u8* const vt = kt + (ONE_TILE ? 1 : 2) * K_BYTES;
    const u32 head = blockIdx.y, batch = blockIdx.z;
    const T* q = p.q + batch * p.qs.batch + head * p.qs.head;
    const T* k = p.k + batch * p.ks.batch + (head / p.share) * p.ks.head;
    const T* v = p.v + batch * p.vs.batch + (head / p.share) * p.vs.head;
    const i64 mask0 = batch * p.mask_step[0] + head * p.mask_step[1];
    const Seen seen = seen_by(p, batch);
    wait_for_kernels_before();

    // Rows from `first` on to their swizzled places, by some threads; zeros behind the last.
    auto bring = [&](u8* to, const T* from, i64 step, i32 first, i32 rows, i32 end, u32 slices, u32 thread, u32 threads) {
        // A thread has one column of chunks, and rows that are swizzled alike.
        const u32 chunks = slices * 8, c = thread % chunks, down = threads / chunks;
        i32 r = thread / chunks;
        const T* row = from + (first + r) * step + c * 8;
        u8* place = to + (c / 8) * (rows * 128) + r * 128 + (((c & 7) ^ (r & 7)) << 4);
        for (; r < rows; r += down, row += down * step, place += down * 128) {
            const bool valid = first + r < end;
            copy_async(place, valid ? row : from, valid);
        }
    };
    auto bring_keys = [&](i32 tile, i32 stage) {
        bring(kt + stage * K_BYTES, k, p.ks.row, tile * KEYS, KEYS, p.keys, SLICES, tid, WGS * 128);
    };
    auto bring_values = [&](i32 tile, i32 stage) {
        bring(vt + stage * V_BYTES, v, p.vs.row, tile * KEYS, KEYS, p.keys, VSLICES, tid, WGS * 128);
    };
    const i32 groups = (p.queries + 63) / 64;
    i32 group = blockIdx.x * WGS + wg;
    u8* qt = memory + wg * Q_PLACES * Q_BYTES;
    auto bring_queries = [&](i32 group, u8* to) { bring(to, q, p.qs.row, group * 64, 64, p.queries, SLICES, tid & 127, 128); };

    f32 s[SN], out[VSLICES][32], top[2], sum[2];
    i32 row0 = 0;
    // Scores of the group's queries with a tile of keys.
    auto multiply_keys = [&](const u8* keys) {
        wgmma_fence();
        PRAGMA_UNROLL for (int d = 0; d < SLICES; d++)
            PRAGMA_UNROLL for (int kk = 0; kk < 4; kk++)
                wgmma_scores(s, qt + d * 8192, keys + d * (KEYS * 128), kk, d == 0 && kk == 0);
        wgmma_commit();
        wgmma_wait<0>();
        keep(s);
    };
    // Scores to weights, in units of the largest so far; `fresh` when there was none before.
    auto weigh = [&](i32 tile, bool fresh) {
        const f32 unit = PLAIN ? p.scale * LOG2E : 1.0f;
        // Keys that some query must not see: behind the last one, or behind the query.
        const bool edges = ONE_TILE || tile * KEYS + KEYS > p.keys || (CAUSAL && tile * KEYS + KEYS - 1 > group * 64 + p.shift);
        if (PLAIN && edges) {
            PRAGMA_UNROLL for (int i = 0; i < SN; i++) {
                if (ONE_TILE && !CAUSAL && i / 4 * 8 + 8 <= LEAST_KEYS) continue;
                const i32 key = tile * KEYS + i / 4 * 8 + quad * 2 + (i & 1), query = row0 + (i >> 1 & 1) * 8;
                if (key >= p.keys || (CAUSAL && key > query + p.shift)) s[i] = -INFINITE_F32;
            }
        }
        // Two chains for each of the two rows.
        f32 most[4] = {top[0], top[0], top[1], top[1]};
#if !PLAIN
        // Masks of two neighbouring keys come at once where they lie so.
        const bool pairs = MASK && p.mask_step[3] == 1 && p.mask_step[2] % 2 == 0 && (u64)(p.mask + mask0) % (2 * sizeof(M)) == 0 && p.keys % 2 == 0;
#endif
        PRAGMA_UNROLL for (int i = 0; i < SN; i += 2) {
#if !PLAIN
            const i32 key = tile * KEYS + i / 4 * 8 + quad * 2, query = row0 + (i >> 1 & 1) * 8;
            Pack<M, 2> mask;
#if MASK
            // Queries behind the last have no mask.
            if (key < p.keys && query < p.queries) {
                const M* from = p.mask + mask0 + query * p.mask_step[2] + key * p.mask_step[3];
                if (pairs) mask = *(const Pack<M, 2>*)from;
                else {
                    mask.at[0] = from[0];
                    if (key + 1 < p.keys) mask.at[1] = from[p.mask_step[3]];
                }
            }
#endif
            PRAGMA_UNROLL for (int e = 0; e < 2; e++)
                s[i + e] = key + e < p.keys && query < p.queries ? score(p, seen, s[i + e], mask.at[e], query, key + e) : -INFINITE_F32;
#endif
            most[i & 2] = fmaxf(most[i & 2], s[i]);
            most[i & 2 | 1] = fmaxf(most[i & 2 | 1], s[i + 1]);
        }
        f32 highest[2] = {fmaxf(most[0], most[1]), fmaxf(most[2], most[3])}, less[2];
        PRAGMA_UNROLL for (int h = 0; h < 2; h++) {
            highest[h] = fmaxf(highest[h], lane_xor(highest[h], 1));
            highest[h] = fmaxf(highest[h], lane_xor(highest[h], 2));
            // A row that has seen nothing yet has no largest score to take away.
            const bool none = highest[h] == -INFINITE_F32;
            if (!fresh) {
                const f32 factor = none ? 1.0f : fast_exp2((top[h] - highest[h]) * unit);
                sum[h] *= factor;
                PRAGMA_UNROLL for (int d = 0; d < VSLICES; d++)
                    PRAGMA_UNROLL for (int j = 0; j < 8; j++) { out[d][j * 4 + h * 2] *= factor; out[d][j * 4 + h * 2 + 1] *= factor; }
            }
            top[h] = highest[h];
            less[h] = none ? 0.0f : highest[h] * unit;
        }
        f32 weights[4] = {0, 0, 0, 0};
        PRAGMA_UNROLL for (int i = 0; i < SN; i++) {
            s[i] = fast_exp2(fmaf(s[i], unit, -less[i >> 1 & 1]));
            weights[i & 3] += s[i];
        }
        PRAGMA_UNROLL for (int h = 0; h < 2; h++) sum[h] += weights[h * 2] + weights[h * 2 + 1];
    };
    auto multiply_values = [&](const u8* values, bool fresh) {
        u32 a[KEYS / 16][4];
        PRAGMA_UNROLL for (int kk = 0; kk < KEYS / 16; kk++)
            PRAGMA_UNROLL for (int i = 0; i < 4; i++) a[kk][i] = pack_two(s[kk * 8 + i * 2], s[kk * 8 + i * 2 + 1], T());
        wgmma_fence();
        PRAGMA_UNROLL for (int kk = 0; kk < KEYS / 16; kk++)
            PRAGMA_UNROLL for (int d = 0; d < VSLICES; d++)
                wgmma_values(out[d], a[kk], values + d * (KEYS * 128), kk, fresh && kk == 0);
        wgmma_commit();
        wgmma_wait<0>();
        PRAGMA_UNROLL for (int d = 0; d < VSLICES; d++) keep(out[d]);
    };
    auto start = [&]() {
        row0 = group * 64 + ((tid >> 5) & 3) * 16 + (lane >> 2);
        PRAGMA_UNROLL for (int h = 0; h < 2; h++) { top[h] = -INFINITE_F32; sum[h] = 0; }
    };
    auto write = [&]() {
        TY* y = p.y + batch * p.ys.batch + head * p.ys.head;
        const u32 row = ((tid >> 5) & 3) * 16 + (lane >> 2);
        // Nobody multiplies with the queries any more.
        barrier_of<128>(1 + wg);
        PRAGMA_UNROLL for (int h = 0; h < 2; h++) {
            sum[h] += lane_xor(sum[h], 1);
            sum[h] += lane_xor(sum[h], 2);
            const f32 factor = sum[h] > 0 ? 1 / sum[h] : 0.0f;
            PRAGMA_UNROLL for (int d = 0; d < VSLICES; d++)
                PRAGMA_UNROLL for (int j = 0; j < 8; j++) {
                    Pack<TY, 2> two;
                    two.at[0] = put<TY>(out[d][j * 4 + h * 2] * factor);
                    two.at[1] = put<TY>(out[d][j * 4 + h * 2 + 1] * factor);
#if TY_BYTES == 2
                    *(Pack<TY, 2>*)(qt + d * 8192 + (row + h * 8) * 128 + ((j ^ (row & 7)) << 4) + quad * 4) = two;
#else
                    if (row0 + h * 8 < p.queries) *(Pack<TY, 2>*)(y + (row0 + h * 8) * p.ys.row + d * 64 + j * 8 + quad * 2) = two;
#endif
                }
        }
#if TY_BYTES == 2
        // A warp's rows are its own: whole rows leave at once.
        __syncwarp();
        for (u32 i = lane; i < 16 * VSLICES * 8; i += 32) {
            u32 r = ((tid >> 5) & 3) * 16 + i / (VSLICES * 8), c = i % (VSLICES * 8);
            if (group * 64 + (i32)r >= p.queries) continue;
            *(uint4*)(y + (group * 64 + (i32)r) * p.ys.row + c * 8) = *(const uint4*)(qt + (c / 8) * 8192 + r * 128 + (((c & 7) ^ (r & 7)) << 4));
        }
#endif
    };

    bring_queries(group, qt);
    bring_keys(0, 0);
    copy_async_commit();
    bring_values(0, 0);
    copy_async_commit();
#if ONE_TILE
    copy_async_wait<1>();
    fence_async();
    __syncthreads();
    u8* next = qt + Q_BYTES;
    bool first = true;
    auto values_come = [&]() {
        copy_async_wait<0>();
        fence_async();
        __syncthreads();
        first = false;
    };
    const i32 step = gridDim.x * WGS;
    for (; group < groups; group += step) {
        if (!first) {
            copy_async_wait<0>();
            fence_async();
            barrier_of<128>(1 + wg);
        }
        if (group + step < groups) bring_queries(group + step, next);
        copy_async_commit();
        start();
        multiply_keys(kt);
        weigh(0, true);
        if (first) values_come();
        multiply_values(vt, true);
        write();
        u8* last = qt;
        qt = next;
        next = last;
    }
    if (first) values_come();
#else
    // Keys that no query of the block sees are left out.
    i32 keys = p.keys;
    const i64 reach = ((i64)blockIdx.x + 1) * (WGS * 64) + p.shift;
    if (CAUSAL && reach < keys) keys = max((i32)reach, 0);
    const i32 tiles = max((keys + KEYS - 1) / KEYS, 1);
    start();
    for (i32 tile = 0; tile < tiles; tile++) {
        const i32 stage = tile & 1;
        if (tile + 1 < tiles) {
            bring_keys(tile + 1, stage ^ 1);
            bring_values(tile + 1, stage ^ 1);
        }
        copy_async_commit();
        copy_async_wait<1>();
        fence_async();
        __syncthreads();
        multiply_keys(kt + stage * K_BYTES);
        weigh(tile, tile == 0);
        multiply_values(vt + stage * V_BYTES, tile == 0);
        __syncthreads();
    }
    copy_async_wait<0>();
    if (group < groups) write();
#endif
}
