// Places among what is counted, for blocks of 256 threads: blocks count their shares, then each finds its place among the counts.

// Sum over a block; everybody gets it. `parts` holds a number of each warp.
DEVICE u32 block_sum(u32 v, u32* parts) {
    v = warp_sum((i32)v);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) parts[threadIdx.x >> 5] = v;
    __syncthreads();
    u32 sum = 0;
    for (u32 w = 0; w < 8; w++) sum += parts[w];
    return sum;
}
// Sums of the counts before number `own`, and of all.
struct Counted { u32 before, all; };
DEVICE Counted counted(const u32* counts, u32 n, u32 own, u32* parts) {
    Counted c = {0, 0};
    for (u32 i = threadIdx.x; i < n; i += 256) {
        c.all += counts[i];
        if (i < own) c.before += counts[i];
    }
    c.before = block_sum(c.before, parts);
    c.all = block_sum(c.all, parts);
    return c;
}
// How many of the threads before this one are `here`, behind `before`; that grows by all who are.
DEVICE u32 place_of(bool here, u32& before, u32* parts) {
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, votes = warp_votes(here);
    __syncthreads();
    if (lane == 0) parts[warp] = count_bits(votes);
    __syncthreads();
    u32 at = before + count_bits(votes & ((1u << lane) - 1));
    for (u32 w = 0; w < 8; w++) {
        if (w < warp) at += parts[w];
        before += parts[w];
    }
    return at;
}
