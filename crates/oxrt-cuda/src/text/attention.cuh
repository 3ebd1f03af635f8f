// Attention without a matrix of scores: softmax(scale q kT + mask) v with running maxima
// (Milakov and Gimelshein 2018; Dao et al., FlashAttention, 2022).
// A row that sees nothing is zeros: so passes have guarded it, and so ONNX defines it.
struct Place { i64 batch, head, row; };
struct P {
    const T* q; const T* k; const T* v; const M* mask; TY* y;
    Place qs, ks, vs, ys;
    i64 mask_step[4];
    i32 heads, share, queries, keys;
    // Key j is seen by query i when i + low <= j <= i + shift; huge when all are. Where batches have their own numbers of
    // valid keys both count from the last query.
    i32 low, shift;
    f32 scale, softcap;
    // Where there are few queries several blocks share the keys of one: results of each, and how many.
    f32* parts; i32 splits;
#if VALID
    const i64* valid;
#endif
#if SCORES
    T* scores; i32 all_keys;
#endif
};

// What the queries of a batch see.
struct Seen { i32 low, shift, keys; };
DEVICE Seen seen_by(const P& p, u32 batch) {
    Seen s = {p.low, p.shift, p.keys};
#if VALID
    i64 n = p.valid[batch];
    n = n < 0 ? 0 : n < (i64)(1 << 29) ? n : (i64)(1 << 29);
    s.low += (i32)n - p.queries;
    s.shift += (i32)n - p.queries;
    if (n < s.keys) s.keys = (i32)n;
#endif
    return s;
}
DEVICE bool is_hidden(const Seen& seen, i32 query, i32 key) {
    return (CAUSAL && key > query + seen.shift) || (WINDOW && key < query + seen.low) || key >= seen.keys;
}

// A score in units of the exponent that is taken of it: times log2(e), so that weights are powers of two.
#define LOG2E 1.4426950408889634f
DEVICE f32 score(const P& p, const Seen& seen, f32 s, M mask, i32 query, i32 key) {
#if SOFTCAP
    s = p.softcap * tanhf(s * p.scale / p.softcap) * LOG2E;
#else
    s *= p.scale * LOG2E;
#endif
#if MASK == 1
    s += get<f32>(mask) * LOG2E;
#elif MASK == 2
    if (!mask) s = -INFINITE_F32;
#endif
#if CAUSAL || WINDOW || VALID
    if (is_hidden(seen, query, key)) s = -INFINITE_F32;
#endif
    return s;
}
// The mask of a score, where there is one.
DEVICE M mask_of(const P& p, i64 row, i32 key) {
#if MASK
    return p.mask[row + key * p.mask_step[3]];
#else
    return M();
#endif
}

// What a block found of a query: its largest score, the sum of its weights, and values not divided by that.
DEVICE f32* part_of(const P& p, u32 batch, u32 head, i32 query, u32 split) {
    return p.parts + ((((i64)batch * p.heads + head) * p.queries + query) * p.splits + split) * (VDIM + 2);
}
// A warp per query puts the parts together.
KERNEL(128, join, P) {
    const i32 query = blockIdx.x * 4 + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    const u32 head = blockIdx.y, batch = blockIdx.z;
    if (query >= p.queries) return;
    const f32* parts = part_of(p, batch, head, query, 0);
    f32 top = -INFINITE_F32, sum = 0;
    for (i32 i = lane; i < p.splits; i += 32) top = fmaxf(top, parts[i * (VDIM + 2)]);
    top = warp_max(top);
    const bool none = top == -INFINITE_F32;
    for (i32 i = 0; i < p.splits; i++) sum += none ? 0.0f : exp2f(parts[i * (VDIM + 2)] - top) * parts[i * (VDIM + 2) + 1];
    const f32 factor = sum > 0 ? 1 / sum : 0.0f;
    TY* y = p.y + batch * p.ys.batch + head * p.ys.head + query * p.ys.row;
    for (i32 d = lane; d < VDIM; d += 32) {
        f32 out = 0;
        for (i32 i = 0; i < p.splits; i++) out += none ? 0.0f : exp2f(parts[i * (VDIM + 2)] - top) * parts[i * (VDIM + 2) + 2 + d];
        y[d] = put<TY>(out * factor);
    }
}

#if APPENDS
// A past and what comes new, one behind the other: [batch, heads, rows, size], some elements at a time.
struct Part { const T* past; const T* fresh; T* to; Place from; u32 count; Divider packs, rows, heads; u32 past_rows; };
struct Append { Part of[2]; };
KERNEL(256, append, Append) {
    const Part& o = p.of[blockIdx.y];
    const u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= o.count) return;
    const u32 q = divide(index, o.packs), c = index - q * o.packs.divisor;
    const u32 r = divide(q, o.rows), row = q - r * o.rows.divisor;
    const u32 batch = divide(r, o.heads), head = r - batch * o.heads.divisor;
    typedef Pack<T, MOVED> Chunk;
    const Chunk* from = row < o.past_rows
        ? (const Chunk*)o.past + ((i64)r * o.past_rows + row) * o.packs.divisor + c
        : (const Chunk*)(o.fresh + batch * o.from.batch + head * o.from.head + (i64)(row - o.past_rows) * o.from.row) + c;
    ((Chunk*)o.to)[index] = *from;
}
#endif

#if SCORES
// The scores as a result: a warp per query. 1 of the product, 2 capped, 3 with what is added, 4 after softmax.
KERNEL(128, scores, P) {
    const i32 query = blockIdx.x * 4 + (threadIdx.x >> 5), lane = threadIdx.x & 31;
    const u32 head = blockIdx.y, batch = blockIdx.z;
    if (query >= p.queries) return;
    const Seen seen = seen_by(p, batch);
    const T* q = p.q + batch * p.qs.batch + head * p.qs.head + query * p.qs.row;
    const T* k = p.k + batch * p.ks.batch + (head / p.share) * p.ks.head;
    const i64 mask_at = batch * p.mask_step[0] + head * p.mask_step[1] + query * p.mask_step[2];
    T* to = p.scores + (((i64)batch * p.heads + head) * p.queries + query) * p.all_keys;
    auto at = [&](i32 key) {
        f32 s = 0;
        for (i32 d = 0; d < DIM; d++) s += get<f32>(q[d]) * get<f32>(k[key * p.ks.row + d]);
        s *= p.scale;
        if (SCORES >= 2 && SOFTCAP) s = p.softcap * tanhf(s / p.softcap);
        if (SCORES >= 3) {
            if (key >= p.keys || is_hidden(seen, query, key)) return -INFINITE_F32;
#if MASK == 1
            s += get<f32>(mask_of(p, mask_at, key));
#elif MASK == 2
            if (!mask_of(p, mask_at, key)) return -INFINITE_F32;
#endif
        }
        return s;
    };
    f32 top = 0, sum = 1;
    if (SCORES == 4) {
        top = -INFINITE_F32;
        for (i32 key = lane; key < p.all_keys; key += 32) top = fmaxf(top, at(key));
        top = warp_max(top);
        sum = 0;
        if (top > -INFINITE_F32) for (i32 key = lane; key < p.all_keys; key += 32) sum += expf(at(key) - top);
        sum = warp_sum(sum);
    }
    for (i32 key = lane; key < p.all_keys; key += 32) {
        f32 s = at(key);
        if (SCORES == 4) s = sum > 0 ? expf(s - top) / sum : 0.0f;
        to[key] = put<T>(s);
    }
}
#endif
