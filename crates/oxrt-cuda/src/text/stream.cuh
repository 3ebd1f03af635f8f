// Products on Hopper's units. One warp asks the copy engine for slices of both operands (windows of an image are found by the
// engine itself), warpgroups multiply what has come, and barriers in shared memory tell one side of the other.
// (The engine counts along channels in units of 16 bits, whatever T is.)
// Blocks stay and take one tile after the other, so that slices of the next tile come while the last one is written.
//
// Warpgroups share a tile, or (IN_TURN) each takes every other one: then one multiplies while the other writes.
//
// y[m][n] = act(sum_k x[m][k] w[n][k] + bias[n] + residual[m][n]). With splits, blocks of one tile take a part of k each, and
// the last to end sums up.
//
// Rows can be normalised on the way (NORMED): what x is multiplied by and what is added to it are the same along a row, so the sums can make up
// for it: factor * sum + shift * (sum of the column's weights).
//
// Products of quantised operands (QUANTA: bytes, summed in 32 bits, or floats of 8 bits) have a scale for each column before the bias, and end as
// quantised.cuh says.
#define CONSUMERS (WGS * 128)
// Where a block has a multiprocessor for itself, the asking warp comes with three idle ones: whole warpgroups can pass registers on.
#define ASKERS (BLOCKS == 1 && WGS > 1 ? 128 : 32)
#define WG_M (IN_TURN ? BM : BM / WGS)
#define MT (WG_M / 64)
#define NR (BN / 2)
#define SLICE_X (BM * 128)
#define SLICE_W (BN * 128)
// Results go out by the copy engine too, in pieces of 64 rows of 128 bytes by way of shared memory; the residual comes in the same way, to
// the same place. (Results in single precision are written as they lie in registers; bytes of narrow tiles, and in rows that are no
// multiple of 16 bytes, by way of shared memory which each warp has for itself.)
#if TY_BYTES == 1 && BN % 128 == 0 && WHOLE_CHUNKS
#define STAGED_BYTES 1
#define WIDE 128
#else
#define STAGED_BYTES 0
#define WIDE 64
#endif
#define STAGED (TY_BYTES == 2 || STAGED_BYTES)
#define PIECES (MT * (BN / WIDE))
#define PIECE (64 * 128)
// Groups of eight columns of a piece that registers hold at once.
#define AT_ONCE (BLOCKS > 1 || MT * NR > 128 ? 2 : 8)
#define BYTES_AT_ONCE (MT * NR > 96 ? 2 : 4)
// Whether the residual comes by the copy engine.
#if QUANTA
#define RESIDUAL_COMES (p.residual && !ROW_RESIDUAL)
#else
#define RESIDUAL_COMES p.residual
#endif

struct Row { f32 factor, shift; };

struct P {
    TensorMap x, w, out, add;
    const f32* bias; const TR* residual; TY* y;
    S* partial; u32* counters;
    i32 m, n, ldy, items, splits;
    // Slices of 128 bytes of channels: of a tap, of all taps, of a split.
    i32 tap_slices, slices, split_slices;
    i32 low_h, low_w, stride_h, stride_w, dilation_h, dilation_w, kernel_w;
    Divider out_w, out_pixels, by_splits, tiles_n;
#if NORMED
    // Of rows of x; of columns (CENTERED).
    const Row* rows; const f32* sums;
#endif
#if QUANTA
    // Scales of columns (HAS_SCALE, or one for all); the zero point of x times the weights, summed over all taps and (in the rows behind)
    // over each (HAS_ZERO, where it is not zero); tables of bytes.
    const f32* scale; const i32* sums; const TT* table; const TM* middle;
    // Whether windows may leave the image; its size.
    i32 padded, in_h, in_w;
    i32 whole[12]; f32 number[11];
#endif
    Status status;
};

#if QUANTA
#define STAGED_RESIDUAL (HAS_RESIDUAL && !ROW_RESIDUAL)
#define TABLE (HAS_TABLE ? p.table : (const TT*)0)
#define MIDDLE (HAS_MIDDLE ? p.middle : (const TM*)0)
// Taps that lie outside of the image in a row's window, a bit each.
DEVICE u64 outside(const P& p, i32 row) {
    if (!HAS_ZERO || !p.padded) return 0;
    const u32 image = divide(row, p.out_pixels), pixel = row - image * p.out_pixels.divisor;
    const u32 oh = divide(pixel, p.out_w), ow = pixel - oh * p.out_w.divisor;
    const i32 taps = p.slices / p.tap_slices;
    u64 bits = 0;
    for (i32 tap = 0, kh = 0, kw = 0; tap < taps; tap++) {
        const i32 y = (i32)oh * p.stride_h + p.low_h + kh * p.dilation_h, x = (i32)ow * p.stride_w + p.low_w + kw * p.dilation_w;
        if ((u32)y >= (u32)p.in_h || (u32)x >= (u32)p.in_w) bits |= 1ull << tap;
        if (++kw == p.kernel_w) { kw = 0; kh++; }
    }
    return bits;
}

// What the ends of two columns' sums know of them.
struct Columns { Pack<f32, 2> scale, bias; Pack<i32, 2> sums; };
DEVICE Columns columns(const P& p, i32 column) {
    Columns c;
    if (HAS_SCALE) c.scale = *(const Pack<f32, 2>*)(p.scale + column);
    if (HAS_BIAS) c.bias = *(const Pack<f32, 2>*)(p.bias + column);
    if (HAS_ZERO) c.sums = *(const Pack<i32, 2>*)(p.sums + column);
    return c;
}

// The number that a sum stands for. Outside of the image is the zero point, for which the engine gave zeros.
DEVICE f32 real(const P& p, const Columns& c, int e, S sum, i32 column, u64 out) {
    if (HAS_ZERO) {
        sum -= c.sums.at[e];
        for (i32 tap = 1; out; tap++, out >>= 1)
            if (out & 1) sum += p.sums[tap * p.n + column + e];
    }
    f32 v = (f32)sum * (HAS_SCALE ? c.scale.at[e] : p.number[4]);
    return HAS_BIAS ? v + c.bias.at[e] : v;
}

#if TY_BYTES == 1
// Two results that lie side by side, as `end` makes them one by one; `residual`: the two bytes of the other operand. Bounds are left out where
// packing keeps them, and no sum leaves what `rounded` takes (BOUNDED).
DEVICE u16 end_two(const P& p, f32 v0, f32 v1, u16 residual) {
#if SMALL_FLOATS
    Pair v = {activate(v0), activate(v1)};
    auto rounded_two = [&](f32 inverse, f32 least, f32 most) {
        return narrow_two(limited(v.lo * inverse, least, most), limited(v.hi * inverse, least, most), TY());
    };
    if (HAS_RESIDUAL) {
        if (MIDDLE_ROUNDED) {
            v = widen_two(rounded_two(p.number[5], p.number[7], p.number[8]), TY());
            v.lo *= p.number[0];
            v.hi *= p.number[0];
        }
        const Pair r = widen_two(residual, TY());
        v.lo += r.lo * p.number[2];
        v.hi += r.hi * p.number[2];
    }
    return rounded_two(p.number[6], p.number[9], p.number[10]);
#elif HAS_MIDDLE || (HAS_TABLE && !LINE)
    union { u16 bits; TR at[2]; } r;
    union { u16 bits; TY at[2]; } y;
    r.bits = residual;
    y.at[0] = end(p, v0, HAS_RESIDUAL ? r.at : (const TR*)0, 0, TABLE, MIDDLE);
    y.at[1] = end(p, v1, HAS_RESIDUAL ? r.at : (const TR*)0, 1, TABLE, MIDDLE);
    return y.bits;
#else
    // Signed bytes are moved up by 128, and their zero point with them.
    const bool SIGNED = (TR)-1 < (TR)0;
    const Pair r = bytes_less(residual ^ (SIGNED ? 0x8080u : 0u), p.whole[6] + (SIGNED ? 128 : 0));
    i32 q[2];
    PRAGMA_UNROLL for (int e = 0; e < 2; e++) {
        f32 v = activate(e ? v1 : v0);
        if (HAS_RESIDUAL) {
            const f32 own = (rounded(v, p.number[5], p.number[7], p.number[8]) - INTEGERS) * p.number[0];
            v = own + (e ? r.hi : r.lo) * p.number[2];
        }
        v = fmaf(v, p.number[6], INTEGERS);
        if (!BOUNDED || LOWEST) v = fmaxf(v, p.number[9]);
        if (!BOUNDED || HIGHEST) v = fminf(v, p.number[10]);
        if (LINE) {
            v = fmaf(v - INTEGERS, p.number[3], INTEGERS);
            if (LINE_LOWEST) v = fmaxf(v, plus_integers(p.whole[8]));
            if (LINE_HIGHEST) v = fminf(v, plus_integers(p.whole[9]));
        }
        q[e] = integer_of(v) + p.whole[7];
    }
    return pack_bytes(q[0], q[1], TY());
#endif
}

// Ends JS pairs of columns of a thread's two rows, from `column` on, of which `left` are there (with those of the thread's neighbours). Where
// a pair goes lies the residual's, where it is not a row.
template <int JS, class At> DEVICE void end_bytes(const P& p, const S* sums, i32 column, i32 left, const u64 (&out)[2], At pair_at) {
    // What lies behind the last column is computed from nothing, and not written.
    auto there = [&](int j) { return j * 8 < left; };
    // What some columns need is read before any of their results is written, so that none waits for another.
    PRAGMA_UNROLL for (int j0 = 0; j0 < JS; j0 += BYTES_AT_ONCE) {
        Columns c[BYTES_AT_ONCE];
        u16 pairs[BYTES_AT_ONCE][2];
        PRAGMA_UNROLL for (int j = 0; j < BYTES_AT_ONCE; j++) {
            if (there(j0 + j)) c[j] = columns(p, column + (j0 + j) * 8);
            PRAGMA_UNROLL for (int h = 0; h < 2; h++) {
                if (STAGED_RESIDUAL) pairs[j][h] = *pair_at(j0 + j, h);
                if (HAS_RESIDUAL && ROW_RESIDUAL && there(j0 + j)) pairs[j][h] = *(const u16*)(p.residual + column + (j0 + j) * 8);
            }
        }
        PRAGMA_UNROLL for (int j = 0; j < BYTES_AT_ONCE; j++)
            PRAGMA_UNROLL for (int h = 0; h < 2; h++) {
                const S* two = sums + (j0 + j) * 4 + h * 2;
                const i32 known = HAS_ZERO ? min(column + (j0 + j) * 8, p.n - 2) : 0;
                const f32 v0 = real(p, c[j], 0, two[0], known, out[h]), v1 = real(p, c[j], 1, two[1], known, out[h]);
                pairs[j][h] = end_two(p, v0, v1, pairs[j][h]);
            }
        PRAGMA_UNROLL for (int j = 0; j < BYTES_AT_ONCE; j++)
            PRAGMA_UNROLL for (int h = 0; h < 2; h++) *pair_at(j0 + j, h) = pairs[j][h];
    }
}
#endif
#endif

// d[64][BN] = (fresh ? 0 : d) + a[64][32 bytes] b[BN][32 bytes], operands at bytes 32 kk of a slice.
DEVICE void wgmma(S (&d)[NR], const u8* a, const u8* b, int kk, bool fresh) {
#ifdef OXRT_EMULATED
    wgmma_rows<TW>(d, a, b, kk, fresh);
#else
    u64 da = describe(a) + kk * 2, db = describe(b) + kk * 2;
    u32 add = fresh ? 0 : 1;
    WGMMA_ASM
#endif
}

KERNEL_LATE(CONSUMERS + ASKERS, BLOCKS, product, P) {
    DYNAMIC_SHARED(memory);
    u8* const xs = memory;
    u8* const ws = memory + STAGES * SLICE_X;
    u8* const pieces = ws + STAGES * SLICE_W;
    u64* const full = (u64*)(pieces + (TY_BYTES <= 2 ? WGS * BUFFERS * PIECE : 0));
    u64* const empty = full + STAGES;
    u64* const added = empty + STAGES;
    u64* const turns = added + WGS * BUFFERS;
    u32* const order = (u32*)(turns + WGS);
    const u32 tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    if (tid == 0) {
        for (int s = 0; s < STAGES; s++) {
            barrier_init(full + s, 1);
            barrier_init(empty + s, IN_TURN ? 4 : WGS * 4);
        }
        for (int b = 0; b < WGS * BUFFERS; b++) barrier_init(added + b, 1);
        for (int w = 0; w < WGS; w++) barrier_init(turns + w, 4);
        barrier_init_done();
    }
    __syncthreads();

    // A tile's place, and its slices.
    auto place = [&](u32 item, i32& m0, i32& n0, i32& first, i32& last) {
        u32 tile = divide(item, p.by_splits), split = item - tile * p.by_splits.divisor;
        u32 tile_m = divide(tile, p.tiles_n);
        m0 = tile_m * BM;
        n0 = (tile - tile_m * p.tiles_n.divisor) * BN;
        first = split * p.split_slices;
        last = min(first + p.split_slices, p.slices);
    };

    if (warp >= WGS * 4) {
        if (ASKERS == 128) registers_down<WGS == 2 ? 40 : 32>();
        if (tid != CONSUMERS) return;
        i32 stage = 0, phase = 1, ahead = 0;
        i32 m0, n0, first, last;
        // Weights wait for no kernel before this one.
        place(blockIdx.x, m0, n0, first, last);
        for (; ahead < STAGES && first + ahead < last; ahead++) {
            i32 slice = first + ahead, tap = slice / p.tap_slices;
            barrier_expect(full + ahead, SLICE_X + SLICE_W);
            copy_tile_3(ws + ahead * SLICE_W, &p.w, (slice - tap * p.tap_slices) * 64, n0, tap, full + ahead);
        }
        wait_for_kernels_before();
        for (u32 item = blockIdx.x; item < p.items; item += gridDim.x) {
            place(item, m0, n0, first, last);
            i32 tap = first / p.tap_slices, part = first - tap * p.tap_slices;
#if CONV
            u32 image = divide(m0, p.out_pixels), pixel = m0 - image * p.out_pixels.divisor;
            u32 oh = divide(pixel, p.out_w), ow = pixel - oh * p.out_w.divisor;
            const i32 left = (i32)ow * p.stride_w + p.low_w, top = (i32)oh * p.stride_h + p.low_h;
            i32 kh = tap / p.kernel_w, kw = tap - kh * p.kernel_w;
#endif
            for (i32 slice = first; slice < last; slice++) {
                if (ahead > 0) {
                    ahead--;
                } else {
                    barrier_wait(empty + stage, phase);
                    barrier_expect(full + stage, SLICE_X + SLICE_W);
                    copy_tile_3(ws + stage * SLICE_W, &p.w, part * 64, n0, tap, full + stage);
                }
#if CONV
                copy_windows(xs + stage * SLICE_X, &p.x, part * 64, left, top, image, kw * p.dilation_w, kh * p.dilation_h, full + stage);
#else
                copy_tile_2(xs + stage * SLICE_X, &p.x, part * 64, m0, full + stage);
#endif
                if (++part == p.tap_slices) {
                    part = 0;
                    tap++;
#if CONV
                    if (++kw == p.kernel_w) { kw = 0; kh++; }
#endif
                }
                if (++stage == STAGES) { stage = 0; phase ^= 1; }
            }
        }
        return;
    }

    if (ASKERS == 128) registers_up<WGS == 2 ? 232 : 160>();
    wait_for_kernels_before();
    const u32 wg = warp >> 2, q = lane & 3;
    auto release = [&](i32 stage) {
        __syncwarp();
        if (lane == 0) barrier_arrive(empty + stage);
    };
    const bool leads = (tid & 127) == 0;
    u8* const my_pieces = pieces + wg * BUFFERS * PIECE;
    u64* const my_added = added + wg * BUFFERS;
    // First row of this warpgroup's part of a tile.
    const i32 row0 = IN_TURN ? 0 : (i32)wg * WG_M;
    // Pieces that this warpgroup has written, which take its places in turn.
    u32 written = 0;
    // Asks for the residual of a piece.
    auto ask = [&](i32 m0, i32 n0, int piece, u32 place) {
        u64* b = my_added + place;
        barrier_expect(b, PIECE);
        copy_tile_2(my_pieces + place * PIECE, &p.add, (n0 + piece % (BN / WIDE) * WIDE) * TY_BYTES / 2, m0 + row0 + piece / (BN / WIDE) * 64, b);
    };
    // The same of the piece that comes next, in this tile or (where no other block may end it) in the next.
    auto ask_next = [&](u32 item, i32 m0, i32 n0, int piece, u32 place_of) {
        do piece++; while (piece < PIECES && n0 + piece % (BN / WIDE) * WIDE >= p.n);
        if (piece >= PIECES) {
            item += gridDim.x * (IN_TURN ? WGS : 1);
            if (p.splits > 1 || item >= p.items) return;
            i32 first, last;
            place(item, m0, n0, first, last);
            piece = 0;
        }
        ask(m0, n0, piece, place_of);
    };
    i32 stage = 0, phase = 0;
    // The threads that share a tile.
    const u32 worker = IN_TURN ? tid & 127 : tid;
    const int WORKERS = IN_TURN ? 128 : CONSUMERS;
    u32 turn = 0, mine = 0;
    if (STAGED && RESIDUAL_COMES && leads && p.splits == 1) {
        const u32 item = blockIdx.x + (IN_TURN ? wg * gridDim.x : 0);
        i32 m0, n0, first, last;
        place(item, m0, n0, first, last);
        if (item < p.items) ask(m0, n0, 0, 0);
    }
    for (u32 item = blockIdx.x; item < p.items; item += gridDim.x) {
        i32 m0, n0, first, last;
        place(item, m0, n0, first, last);
        if (IN_TURN && turn++ % WGS != wg) {
            // Slices of another warpgroup's tile.
            for (stage += last - first; stage >= STAGES; stage -= STAGES) phase ^= 1;
            continue;
        }
        // Where a piece of this warpgroup's part of the tile lies.
        auto row_of = [&](int piece) { return m0 + row0 + piece / (BN / WIDE) * 64; };
        auto column_of = [&](int piece) { return n0 + piece % (BN / WIDE) * WIDE; };
        // What the end reads of columns is fetched while the units multiply.
        f32 touched[1] = {0};
        if ((i32)lane < BN / 32 && n0 + (i32)lane * 32 < p.n) {
            if (p.bias) touched[0] = p.bias[n0 + lane * 32];
#if NORMED
            if (CENTERED) touched[0] += p.sums[n0 + lane * 32];
#endif
        }
#if NORMED
        auto row_of_memory = [&](int i, int h) {
            const i32 m = m0 + row0 + i * 64 + (warp & 3) * 16 + (lane >> 2) + h * 8;
            return m < p.m ? p.rows[m] : Row{0, 0};
        };
        Row rows[MT][2];
        // Where there are registers for them beside the sums.
        if (MT * NR <= 128) {
            PRAGMA_UNROLL for (int i = 0; i < MT; i++)
                PRAGMA_UNROLL for (int h = 0; h < 2; h++) rows[i][h] = row_of_memory(i, h);
        }
        auto row_at = [&](int i, int h) { return MT * NR <= 128 ? rows[i][h] : row_of_memory(i, h); };
#endif
        // A phase is told by its parity, so nobody may wait for slices before those of the last tile have come. (Turn t of a
        // warpgroup follows turn t of those before it, and turn t - 1 of those behind.)
        if (IN_TURN && turn > 1) {
            const u32 before = wg ? wg - 1 : WGS - 1;
            barrier_wait(turns + before, (wg ? mine : mine - 1) & 1);
        }
        mine++;
#if TY_BYTES == 1 && !STAGED_BYTES
        // A warp's chunks of the residual of its sixteen rows of part i, zeros where there are none.
        uint4 ahead[BN / 32];
        auto ask_ahead = [&](int i) {
            PRAGMA_UNROLL for (int c = 0; c < BN / 32; c++) {
                const u32 row = (lane + c * 32) / (BN / 16), chunk = (lane + c * 32) % (BN / 16);
                const i32 m = m0 + row0 + i * 64 + (warp & 3) * 16 + row, n = n0 + chunk * 16;
                ahead[c] = uint4{0, 0, 0, 0};
                if (m >= p.m || n >= p.n) continue;
                const u8* from = (const u8*)p.residual + (i64)m * p.ldy + n;
                if (WHOLE_CHUNKS) {
                    ahead[c] = *(const uint4*)from;
                } else {
                    *(uint2*)&ahead[c].x = *(const uint2*)from;
                    if (n + 8 < p.n) *(uint2*)&ahead[c].z = *(const uint2*)(from + 8);
                }
            }
        };
        if (STAGED_RESIDUAL) ask_ahead(0);
#endif
        S acc[MT][NR];
        i32 before = 0;
        for (i32 slice = first; slice < last; slice++) {
            barrier_wait(full + stage, phase);
            u8* const xt = xs + stage * SLICE_X + row0 * 128;
            if (sizeof(T) == 4) {
                // Weights were rounded when they were packed.
                for (u32 i = tid & 127; i < WG_M * 8; i += 128) {
                    uint4 four = *(const uint4*)(xt + i * 16);
                    u32 factors[4] = {four.x, four.y, four.z, four.w};
                    round_factors(factors, f32());
                    four.x = factors[0]; four.y = factors[1]; four.z = factors[2]; four.w = factors[3];
                    *(uint4*)(xt + i * 16) = four;
                }
                fence_async();
                barrier_of<128>(2 + wg);
            }
            const u8* wt = ws + stage * SLICE_W;
            wgmma_fence();
            PRAGMA_UNROLL for (int kk = 0; kk < 4; kk++)
                PRAGMA_UNROLL for (int i = 0; i < MT; i++) wgmma(acc[i], xt + i * 64 * 128, wt, kk, slice == first && kk == 0);
            wgmma_commit();
            wgmma_wait<1>();
            if (slice > first) release(before);
            before = stage;
            if (++stage == STAGES) { stage = 0; phase ^= 1; }
        }
        if (IN_TURN) {
            __syncwarp();
            if (lane == 0) barrier_arrive(turns + wg);
        }
        wgmma_wait<0>();
        PRAGMA_UNROLL for (int i = 0; i < MT; i++) keep(acc[i]);
        keep(touched);
        release(before);

        if (p.splits > 1) {
            const u32 tile = divide(item, p.by_splits), split = item - tile * p.by_splits.divisor;
            S* all = p.partial + (i64)tile * p.splits * (BM * BN);
            S* own = all + (i64)split * (BM * BN);
            PRAGMA_UNROLL for (int i = 0; i < MT; i++)
                PRAGMA_UNROLL for (int e = 0; e < NR; e++) own[(i * NR + e) * WORKERS + worker] = acc[i][e];
            __threadfence();
            const u32 together = IN_TURN ? 2 + wg : 1;
            volatile u32* const turn_of = order + (IN_TURN ? wg : 0);
            barrier_of<WORKERS>(together);
            if (worker == 0) *turn_of = atomicAdd(p.counters + tile, 1u);
            barrier_of<WORKERS>(together);
            bool ends = *turn_of == p.splits - 1;
            if (!ends) continue;
            __threadfence();
            if (worker == 0) p.counters[tile] = 0;
            // In the order of splits, whoever is last.
            PRAGMA_UNROLL for (int i = 0; i < MT; i++)
                PRAGMA_UNROLL for (int e = 0; e < NR; e++) acc[i][e] = 0;
            for (i32 s = 0; s < p.splits; s++)
                PRAGMA_UNROLL for (int i = 0; i < MT; i++)
                    PRAGMA_UNROLL for (int e = 0; e < NR; e++)
                        acc[i][e] += load_l2(all + (i64)s * (BM * BN) + (i * NR + e) * WORKERS + worker);
        }

#if STAGED
        if (RESIDUAL_COMES && p.splits > 1 && leads) {
            store_wait_read<0>();
            ask(m0, n0, 0, written % BUFFERS);
        }
        PRAGMA_UNROLL for (int piece = 0; piece < PIECES; piece++) {
            const int i = piece / (BN / WIDE), g0 = piece % (BN / WIDE) * (WIDE / 8);
            const u32 buffer = written % BUFFERS;
            const i32 column0 = column_of(piece);
            if (column0 >= p.n) continue;
            u8* const base = my_pieces + buffer * PIECE;
            const u32 place0 = ((warp & 3) * 16 + (lane >> 2)) * 128 + ((lane >> 2) << 4) + q * 2 * TY_BYTES;
            if (RESIDUAL_COMES) {
                barrier_wait(my_added + buffer, written / BUFFERS & 1);
                // While this piece is ended the next one's comes to the other place, which the last piece has left.
                if (BUFFERS > 1 && leads) {
                    store_wait_read<0>();
                    ask_next(item, m0, n0, piece, (written + 1) % BUFFERS);
                }
            } else {
                // The place was taken BUFFERS pieces ago.
                if (leads) store_wait_read<BUFFERS - 1>();
                barrier_of<128>(2 + wg);
            }
#if QUANTA
            u64 out[2];
            PRAGMA_UNROLL for (int h = 0; h < 2; h++) out[h] = outside(p, row_of(piece) + (warp & 3) * 16 + (lane >> 2) + h * 8);
#endif
#if STAGED_BYTES
            auto pair_at = [&](int j, int h) { return (u16*)(base + ((place0 ^ (j >> 1 << 4)) + (j & 1) * 8 + h * 8 * 128)); };
            end_bytes<WIDE / 8>(p, acc[i] + g0 * 4, column0 + q * 2, p.n - column0, out, pair_at);
#else
#if NORMED
            Row row[2];
            PRAGMA_UNROLL for (int h = 0; h < 2; h++) row[h] = row_at(i, h);
#endif
            auto word = [&](int h, int j) { return (u32*)(base + ((place0 ^ (j << 4)) + h * 8 * 128)); };
            PRAGMA_UNROLL for (int j0 = 0; j0 < 8; j0 += AT_ONCE) {
            // What is read is read before anything is written: the compiler cannot know that they do not meet.
            u32 add[2][AT_ONCE];
            PRAGMA_UNROLL for (int h = 0; h < 2; h++)
                PRAGMA_UNROLL for (int j = 0; j < AT_ONCE; j++) add[h][j] = p.residual ? *word(h, j0 + j) : 0;
            Pack<f32, 2> bias[AT_ONCE], weights[AT_ONCE];
            PRAGMA_UNROLL for (int j = 0; j < AT_ONCE; j++) {
                const i32 column = column0 + (j0 + j) * 8 + q * 2;
                bias[j].at[0] = bias[j].at[1] = 0;
#if NORMED
                weights[j].at[0] = weights[j].at[1] = 0;
                if (CENTERED && column < p.n) weights[j] = *(const Pack<f32, 2>*)(p.sums + column);
#endif
                if (!QUANTA && p.bias && column < p.n) bias[j] = *(const Pack<f32, 2>*)(p.bias + column);
            }
            PRAGMA_UNROLL for (int j = 0; j < AT_ONCE; j++)
                PRAGMA_UNROLL for (int h = 0; h < 2; h++) {
                    const S s0 = acc[i][(g0 + j0 + j) * 4 + h * 2], s1 = acc[i][(g0 + j0 + j) * 4 + h * 2 + 1];
#if QUANTA
                    const i32 column = column0 + (j0 + j) * 8 + q * 2;
                    if (column >= p.n) continue;
                    const Columns c = columns(p, column);
                    f32 v0 = real(p, c, 0, s0, column, out[h]), v1 = real(p, c, 1, s1, column, out[h]);
#elif NORMED
                    f32 v0 = fmaf(row[h].factor, s0, fmaf(row[h].shift, weights[j].at[0], bias[j].at[0]));
                    f32 v1 = fmaf(row[h].factor, s1, fmaf(row[h].shift, weights[j].at[1], bias[j].at[1]));
#else
                    f32 v0 = s0 + bias[j].at[0], v1 = s1 + bias[j].at[1];
#endif
                    // A residual is of 16 bits, or there is none.
                    if (sizeof(TR) == 2) {
                        union { u32 bits; Pack<TR, 2> two; } r;
                        r.bits = add[h][j];
                        v0 += get<f32>(r.two.at[0]);
                        v1 += get<f32>(r.two.at[1]);
                    }
                    add[h][j] = pack_two(activate(v0), activate(v1), TY());
                }
            PRAGMA_UNROLL for (int j = 0; j < AT_ONCE; j++)
                PRAGMA_UNROLL for (int h = 0; h < 2; h++) *word(h, j0 + j) = add[h][j];
            }
#endif
            fence_async();
            barrier_of<128>(2 + wg);
            if (leads) {
                store_tile_2(&p.out, column0 * TY_BYTES / 2, row_of(piece), my_pieces + buffer * PIECE);
                store_commit();
                if (RESIDUAL_COMES && BUFFERS == 1) {
                    store_wait_read<0>();
                    ask_next(item, m0, n0, piece, 0);
                }
            }
            written++;
        }
#elif TY_BYTES == 1
        u8* const rows = my_pieces + (warp & 3) * (16 * BN);
        // 16 bytes of a row, so turned that eight rows' are in different banks.
        auto chunk_at = [&](u32 row, u32 chunk) { return rows + row * BN + ((chunk ^ (BN % 128 ? row >> 1 & 3 : row & 7)) << 4); };
        PRAGMA_UNROLL for (int i = 0; i < MT; i++) {
            const i32 top = m0 + row0 + i * 64 + (warp & 3) * 16;
            // It was asked for while the units multiplied; the next rows' comes while these are ended.
            if (STAGED_RESIDUAL) {
                PRAGMA_UNROLL for (int c = 0; c < BN / 32; c++) *(uint4*)chunk_at((lane + c * 32) / (BN / 16), (lane + c * 32) % (BN / 16)) = ahead[c];
                __syncwarp();
                if (i + 1 < MT) ask_ahead(i + 1);
            }
            u64 out[2];
            PRAGMA_UNROLL for (int h = 0; h < 2; h++) out[h] = outside(p, top + (lane >> 2) + h * 8);
            auto pair_at = [&](int j, int h) { return (u16*)(chunk_at((lane >> 2) + h * 8, j >> 1) + (j & 1) * 8 + q * 2); };
            end_bytes<BN / 8>(p, acc[i], n0 + q * 2, p.n - n0, out, pair_at);
            __syncwarp();
            // Rows are multiples of 16 bytes, or (not WHOLE_CHUNKS) of 8.
            for (u32 c = lane; c < BN; c += 32) {
                const i32 row = c / (BN / 16), chunk = c % (BN / 16), n = n0 + chunk * 16;
                if (top + row >= p.m || n >= p.n) continue;
                const u8* here = chunk_at(row, chunk);
                u8* to = (u8*)p.y + (i64)(top + row) * p.ldy + n;
                if (WHOLE_CHUNKS) {
                    *(uint4*)to = *(const uint4*)here;
                } else {
                    *(uint2*)to = *(const uint2*)here;
                    if (n + 8 < p.n) *(uint2*)(to + 8) = *(const uint2*)(here + 8);
                }
            }
            __syncwarp();
        }
#else
        PRAGMA_UNROLL for (int i = 0; i < MT; i++)
            PRAGMA_UNROLL for (int h = 0; h < 2; h++) {
                const i32 row = m0 + row0 + i * 64 + (warp & 3) * 16 + (lane >> 2) + h * 8;
                if (row >= p.m) continue;
                const i64 at = (i64)row * p.ldy + n0 + q * 2;
#if QUANTA
                const u64 out_of = outside(p, row);
#endif
                PRAGMA_UNROLL for (int j = 0; j < BN / 8; j++) {
                    if (n0 + j * 8 >= p.n) break;
                    Pack<TY, 2> out;
#if QUANTA
                    const i32 column = n0 + j * 8 + q * 2;
                    const Columns c = columns(p, column);
#endif
                    PRAGMA_UNROLL for (int e = 0; e < 2; e++) {
#if QUANTA
                        const i64 residual_at = ROW_RESIDUAL ? column + e : at + j * 8 + e;
                        const f32 v = real(p, c, e, acc[i][j * 4 + h * 2 + e], column, out_of);
                        out.at[e] = end(p, v, HAS_RESIDUAL ? p.residual : (const TR*)0, residual_at, TABLE, MIDDLE);
#else
                        f32 v = acc[i][j * 4 + h * 2 + e];
#if NORMED
                        const Row of = row_at(i, h);
                        v = v * of.factor + (CENTERED ? of.shift * p.sums[n0 + j * 8 + q * 2 + e] : 0);
#endif
                        if (p.bias) v += p.bias[n0 + j * 8 + q * 2 + e];
                        if (p.residual) v += get<f32>(p.residual[at + j * 8 + e]);
                        out.at[e] = put<TY>(activate(v));
#endif
                    }
                    *(Pack<TY, 2>*)(p.y + at + j * 8) = out;
                }
            }
#endif
    }
    if (STAGED && leads) store_wait_read<0>();
}
