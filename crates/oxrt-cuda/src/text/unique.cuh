// Unique: elements in order (top_k.cuh), of which the first of each value begins a group. Twice what holds is counted: beginnings
// among the sorted elements, and, where groups come as they appear, first elements among the places.
struct U {
    const T* x; const Item* items; u32* counts; u32* groups; u32* firsts; u32* starts; u32* marks; u32* order;
    T* y; i64* places; i64* inverse; i64* sizes; i64* found;
    u32 n, share, blocks, second;
};

DEVICE bool begins(const U& u, u32 i) {
    if (i >= u.n) return false;
    if (u.second) return u.marks[i];
    return i == 0 || u.items[i].key != u.items[i - 1].key;
}

KERNEL(256, count, U) {
    __shared__ u32 parts[8];
    u32 n = 0;
    for (u32 i = threadIdx.x; i < p.share; i += 256) n += begins(p, blockIdx.x * p.share + i);
    n = block_sum(n, parts);
    if (threadIdx.x == 0) p.counts[blockIdx.x] = n;
}

KERNEL(256, group, U) {
    __shared__ u32 parts[8];
    const Counted c = counted(p.counts, p.blocks, blockIdx.x, parts);
    u32 before = c.before;
    if (blockIdx.x == 0 && threadIdx.x == 0) *p.found = c.all;
    for (u32 i0 = 0; i0 < p.share; i0 += 256) {
        const u32 i = blockIdx.x * p.share + i0 + threadIdx.x;
        const bool here = i0 + threadIdx.x < p.share && begins(p, i);
        // How many begin up to this one.
        const u32 at = place_of(here, before, parts) + here;
        if (i0 + threadIdx.x >= p.share || i >= p.n) continue;
        if (p.second) {
            if (here) p.order[p.groups[i]] = at - 1;
            continue;
        }
        const u32 place = p.items[i].at;
        p.groups[place] = at - 1;
        if (p.marks) p.marks[place] = here;
        if (here) { p.firsts[at - 1] = place; p.starts[at - 1] = i; }
    }
}

KERNEL(256, gather, U) {
    const u32 i = blockIdx.x * 256 + threadIdx.x;
    if (i >= p.n) return;
    if (p.inverse) p.inverse[i] = p.order ? p.order[p.groups[i]] : p.groups[i];
    const u32 found = (u32)*p.found;
    if (i >= found) return;
    const u32 to = p.order ? p.order[i] : i;
    p.y[to] = p.x[p.firsts[i]];
    if (p.places) p.places[to] = p.firsts[i];
    if (p.sizes) p.sizes[to] = (i + 1 < found ? p.starts[i + 1] : p.n) - p.starts[i];
}
