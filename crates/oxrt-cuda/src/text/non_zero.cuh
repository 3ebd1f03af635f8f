// What holds, in order: blocks count their shares, then every block finds its place among the counts.
// One axis of a result follows from the data: results are written as tensors of the size that was found.
struct P {
    const T* x; const E* from; u32* counts; u32* places; E* to; i64* found;
    // Elements asked, elements of a block, and blocks; elements that may be taken.
    u32 n, share, blocks, most;
#if COMPRESS
    // Of the slices that are taken: elements of the result if all were, and how many slices are neighbours of it.
    u32 all, slices; Divider inner, room;
#else
    u32 rank; Divider dims[8];
#endif
    Status status;
};

DEVICE bool holds(const P& p, u32 i) { return i < p.n && get<C>(p.x[i]) != (C)0; }

KERNEL(256, count, P) {
    __shared__ u32 parts[8];
    const u32 first = blockIdx.x * p.share;
    u32 n = 0;
    for (u32 i = threadIdx.x; i < p.share; i += 256) n += holds(p, first + i);
    n = block_sum(n, parts);
    if (threadIdx.x == 0) p.counts[blockIdx.x] = n;
}

KERNEL(256, find, P) {
    __shared__ u32 parts[8];
    const Counted c = counted(p.counts, p.blocks, blockIdx.x, parts);
    const u32 all = c.all;
    u32 before = c.before;
    if (blockIdx.x == 0 && threadIdx.x == 0) *p.found = all < p.most ? all : p.most;
    const u32 first = blockIdx.x * p.share;
    for (u32 i0 = 0; i0 < p.share; i0 += 256) {
        const u32 i = first + i0 + threadIdx.x;
        const bool here = i0 + threadIdx.x < p.share && holds(p, i);
        const u32 at = place_of(here, before, parts);
        if (!here) continue;
#if COMPRESS
        // More than there are slices.
        if (i >= p.slices) report(p.status, STATUS_INDEX);
        else p.places[at] = i;
#else
        u32 rest = i;
        PRAGMA_UNROLL for (int d = 7; d >= 0; d--) {
            if (d >= (int)p.rank) continue;
            u32 high = d == 0 ? 0 : divide(rest, p.dims[d]);
            p.to[(i64)d * all + at] = rest - high * p.dims[d].divisor;
            rest = high;
        }
#endif
    }
}

#if COMPRESS
KERNEL(256, take, P) {
    const u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.all) return;
    const u32 q = divide(index, p.inner), in = index - q * p.inner.divisor;
    const u32 outer = divide(q, p.room), at = q - outer * p.room.divisor, found = (u32)*p.found;
    if (at >= found) return;
    p.to[((i64)outer * found + at) * p.inner.divisor + in] = p.from[((i64)outer * p.slices + p.places[at]) * p.inner.divisor + in];
}
#endif
