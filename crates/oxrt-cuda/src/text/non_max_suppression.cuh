// NonMaxSuppression. A line is a batch and a class: its boxes above the threshold are sorted by score, in runs of 1024 that are
// merged in pairs; then a block per line takes them a tile at a time, first against the boxes that were kept before, then
// against each other, 32 at a time.
//
// Candidates are one number: a key that falls as scores rise, above the place. No two are equal, so there is one order.
struct P {
    const f32* boxes; const f32* scores; const i64* most; const f32* limit; const f32* least;
    // Candidates and lengths of their runs, before and after a level of merging.
    const u64* from; u64* to; const u32* lengths; u32* new_lengths;
    // Places of the boxes kept, room for `pitch` in a line, and how many.
    u32* kept; u32* kept_counts;
    i64* y; i64* found;
    u32 n, classes, lines, pitch, runs, new_runs;
    Divider blocks;
};

KERNEL(256, sort, P) {
    __shared__ u64 items[1024];
    __shared__ u32 taken;
    const u32 line = divide(blockIdx.x, p.blocks), run = blockIdx.x - line * p.blocks.divisor;
    if (threadIdx.x == 0) taken = 0;
    __syncthreads();
    const f32* scores = p.scores + (i64)line * p.n;
    for (u32 i = run * 1024 + threadIdx.x; i < run * 1024 + 1024 && i < p.n; i += 256) {
        const f32 s = scores[i];
        if (p.least && !(s > *p.least)) continue;
        const u32 bits = bits_of(s);
        const u32 key = ~(bits ^ ((u32)((i32)bits >> 31) | 0x80000000u));
        items[atomicAdd(&taken, 1u)] = (u64)key << 32 | i;
    }
    __syncthreads();
    const u32 n = taken;
    u32 room = 2;
    while (room < n) room *= 2;
    for (u32 i = n + threadIdx.x; i < room; i += 256) items[i] = ~(u64)0;
    for (u32 size = 2; size <= room; size *= 2)
        for (u32 step = size / 2; step > 0; step /= 2) {
            __syncthreads();
            for (u32 i = threadIdx.x; i < room / 2; i += 256) {
                u32 a = i / step * step * 2 + i % step, b = a + step;
                u64 x = items[a], y = items[b];
                if ((y < x) == ((a & size) == 0)) { items[a] = y; items[b] = x; }
            }
        }
    __syncthreads();
    for (u32 i = threadIdx.x; i < n; i += 256) p.to[(i64)line * p.n + run * 1024 + i] = items[i];
    if (threadIdx.x == 0) p.new_lengths[line * p.new_runs + run] = n;
}

// A thread per candidate finds its place in the merged run by looking it up in the other one. Runs begin `span` apart.
KERNEL(256, merge, P) {
    const u32 line = divide(blockIdx.x, p.blocks), index = (blockIdx.x - line * p.blocks.divisor) * 256 + threadIdx.x;
    const u32 span = p.pitch, run = index / span, i = index - run * span;
    if (run >= p.runs) return;
    const u32* lengths = p.lengths + line * p.runs;
    const u32 length = lengths[run], others = (run ^ 1) < p.runs ? lengths[run ^ 1] : 0;
    if (i == 0 && (run & 1) == 0) p.new_lengths[line * p.new_runs + (run >> 1)] = length + others;
    if (i >= length) return;
    const u64* own = p.from + (i64)line * p.n;
    const u64* other = own + (run ^ 1) * span;
    const u64 item = own[run * span + i];
    u32 low = 0, high = others;
    while (low < high) {
        u32 middle = (low + high) / 2;
        if (other[middle] < item) low = middle + 1; else high = middle;
    }
    p.to[(i64)line * p.n + (run >> 1) * span * 2 + i + low] = item;
}

// Corners, lower first, and the area.
struct Box { f32 y0, y1, x0, x1, area; };
DEVICE Box box_at(const P& p, u32 batch, u32 place) {
    const f32* b = p.boxes + ((i64)batch * p.n + place) * 4;
    Box box;
#if CENTRED
    box.y0 = b[0] - b[2] / 2; box.y1 = b[0] + b[2] / 2;
    box.x0 = b[1] - b[3] / 2; box.x1 = b[1] + b[3] / 2;
#else
    box.y0 = fminf(b[0], b[2]); box.y1 = fmaxf(b[0], b[2]);
    box.x0 = fminf(b[1], b[3]); box.x1 = fmaxf(b[1], b[3]);
#endif
    box.area = rounded_product(box.y1 - box.y0, box.x1 - box.x0);
    return box;
}
// Whether the share of two boxes is more than the limit, with the roundings of the evaluator: it may be the limit exactly.
DEVICE bool overlap(const Box& a, const Box& b, f32 limit) {
    const f32 h = fmaxf(fminf(a.y1, b.y1) - fmaxf(a.y0, b.y0), 0.0f), w = fmaxf(fminf(a.x1, b.x1) - fmaxf(a.x0, b.x0), 0.0f);
    const f32 common = rounded_product(h, w);
    const bool apart = common <= 0 || a.area <= 0 || b.area <= 0;
    return !((apart ? 0.0f : common / (a.area + b.area - common)) <= limit);
}

#define TILE 512
KERNEL(TILE, suppress, P) {
    __shared__ Box tile[TILE];
    __shared__ u32 verdicts[TILE / 32];
    const u32 tid = threadIdx.x, lane = tid & 31, warp = tid >> 5, line = blockIdx.x, batch = line / p.classes;
    const u64* list = p.from + (i64)line * p.n;
    u32* places = p.kept + (i64)line * p.pitch;
    const u32 count = p.lengths[line];
    const i64 wanted = p.most ? *p.most : 0;
    const u32 most = wanted < 0 ? 0 : wanted < (i64)p.pitch ? (u32)wanted : p.pitch;
    const f32 limit = p.limit ? *p.limit : 0.0f;
    u32 kept = 0;
    for (u32 from = 0; from < count && kept < most; from += TILE) {
        const bool there = from + tid < count;
        const u32 place = there ? (u32)list[from + tid] : 0;
        const Box own = box_at(p, batch, place);
        bool alive = there;
        for (u32 k0 = 0; k0 < kept; k0 += TILE) {
            __syncthreads();
            if (k0 + tid < kept) tile[tid] = box_at(p, batch, places[k0 + tid]);
            __syncthreads();
            const u32 many = kept - k0 < TILE ? kept - k0 : TILE;
            for (u32 i = 0; i < many && alive; i++) alive = !overlap(tile[i], own, limit);
        }
        __syncthreads();
        tile[tid] = own;
        __syncthreads();
        // Better ones of the same 32 that overlap.
        u32 over = 0;
        if (alive) for (u32 i = 0; i < lane; i++) over |= (u32)overlap(tile[warp * 32 + i], own, limit) << i;
        for (u32 g = 0; g < TILE / 32; g++) {
            if (warp == g) {
                u32 left = warp_votes(alive), keep = 0;
                while (left) {
                    const u32 best = lowest_bit(left);
                    keep |= 1u << best;
                    left &= ~(warp_votes(over >> best & 1) | 1u << best);
                }
                alive = keep >> lane & 1;
                if (lane == 0) verdicts[g] = keep;
            }
            __syncthreads();
            if (warp > g)
                for (u32 keep = verdicts[g]; keep && alive; keep &= keep - 1) alive = !overlap(tile[g * 32 + lowest_bit(keep)], own, limit);
        }
        u32 at = kept + count_bits(verdicts[warp] & ((1u << lane) - 1));
        for (u32 w = 0; w < TILE / 32; w++) {
            if (w < warp) at += count_bits(verdicts[w]);
            kept += count_bits(verdicts[w]);
        }
        if (alive && at < most) places[at] = place;
        kept = kept < most ? kept : most;
    }
    if (tid == 0) p.kept_counts[line] = kept;
}

// Lines one after the other.
KERNEL(256, finish, P) {
    __shared__ u32 parts[8];
    const Counted c = counted(p.kept_counts, p.lines, blockIdx.x, parts);
    if (blockIdx.x == 0 && threadIdx.x == 0) *p.found = c.all;
    if (blockIdx.x >= p.lines) return;
    const u32 line = blockIdx.x, batch = line / p.classes, kept = p.kept_counts[line];
    for (u32 i = threadIdx.x; i < kept; i += 256) {
        i64* row = p.y + (i64)(c.before + i) * 3;
        row[0] = batch; row[1] = line - batch * p.classes; row[2] = p.kept[(i64)line * p.pitch + i];
    }
}
