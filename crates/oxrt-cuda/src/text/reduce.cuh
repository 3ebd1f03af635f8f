// Reductions: an output's elements lie at steps over up to four axes; so do the outputs.
//
// A is what is carried along: two numbers and a place. The text before this gives start(), take(), join() and end().
struct P {
    const TX* x; TY* y;
    u32 count, n;
    i32 kept_rank, gone_rank;
    Divider kept[4], gone[4];
    i32 kept_step[4], gone_step[4];
    // Parts of what is reduced, for few outputs of many elements; what each block found.
    u32 parts, part; A* found;
};

DEVICE i32 place(u32 index, i32 rank, const Divider (&dims)[4], const i32 (&step)[4]) {
    i32 at = 0;
    PRAGMA_UNROLL for (int d = 3; d >= 0; d--) {
        if (d < rank) {
            u32 high = d == 0 ? 0 : divide(index, dims[d]);
            at += (i32)(index - high * dims[d].divisor) * step[d];
            index = high;
        }
    }
    return at;
}

DEVICE A exchanged(const A& a, int mask) {
    A b;
    b.v = lane_xor(a.v, mask); b.w = lane_xor(a.w, mask); b.at = lane_xor(a.at, mask);
    return b;
}

// A warp per output.
KERNEL(256, warps, P) {
    u32 index = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x & 31;
    if (index >= p.count) return;
    const TX* x = p.x + place(index, p.kept_rank, p.kept, p.kept_step);
    A a = start();
    for (u32 i = lane; i < p.n; i += 32) a = take(a, get<C>(x[place(i, p.gone_rank, p.gone, p.gone_step)]), i);
    PRAGMA_UNROLL for (int m = 16; m; m >>= 1) a = join(a, exchanged(a, m));
    if (lane == 0) p.y[index] = end(a, p.n);
}

// A block per output.
KERNEL(256, blocks, P) {
    __shared__ A parts[8];
    u32 index = blockIdx.x, lane = threadIdx.x & 31;
    const TX* x = p.x + place(index, p.kept_rank, p.kept, p.kept_step);
    A a = start();
    for (u32 i = threadIdx.x; i < p.n; i += 256) a = take(a, get<C>(x[place(i, p.gone_rank, p.gone, p.gone_step)]), i);
    PRAGMA_UNROLL for (int m = 16; m; m >>= 1) a = join(a, exchanged(a, m));
    if (lane == 0) parts[threadIdx.x / 32] = a;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 1; i < 8; i++) a = join(a, parts[i]);
        p.y[index] = end(a, p.n);
    }
}

// 32 neighbouring outputs per block; ROWS threads share the work of one.
template <int ROWS> DEVICE void column(const P& p) {
    __shared__ A parts[ROWS][32];
    u32 column = threadIdx.x & 31, row = threadIdx.x >> 5, index = blockIdx.x * 32 + column;
    A a = start();
    if (index < p.count) {
        const TX* x = p.x + place(index, p.kept_rank, p.kept, p.kept_step);
        for (u32 i = row; i < p.n; i += ROWS) a = take(a, get<C>(x[place(i, p.gone_rank, p.gone, p.gone_step)]), i);
    }
    parts[row][column] = a;
    __syncthreads();
    if (row == 0 && index < p.count) {
        for (int i = 1; i < ROWS; i++) a = join(a, parts[i][column]);
        p.y[index] = end(a, p.n);
    }
}

KERNEL(256, columns, P) { column<8>(p); }
KERNEL(1024, long_columns, P) { column<32>(p); }

// Several blocks share the work of 32 outputs; a second kernel joins what they found.
KERNEL(1024, shared_columns, P) {
    __shared__ A parts[32][32];
    u32 column = threadIdx.x & 31, row = threadIdx.x >> 5, index = blockIdx.x * 32 + column;
    u32 from = blockIdx.y * p.part, to = from + p.part < p.n ? from + p.part : p.n;
    A a = start();
    if (index < p.count) {
        const TX* x = p.x + place(index, p.kept_rank, p.kept, p.kept_step);
        for (u32 i = from + row; i < to; i += 32) a = take(a, get<C>(x[place(i, p.gone_rank, p.gone, p.gone_step)]), i);
    }
    parts[row][column] = a;
    __syncthreads();
    if (row == 0 && index < p.count) {
        for (int i = 1; i < 32; i++) a = join(a, parts[i][column]);
        p.found[(i64)blockIdx.y * p.count + index] = a;
    }
}

KERNEL(256, join_columns, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    A a = p.found[index];
    for (u32 i = 1; i < p.parts; i++) a = join(a, p.found[(i64)i * p.count + index]);
    p.y[index] = end(a, p.n);
}
