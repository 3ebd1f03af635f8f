// Normalisations over any axes, with parameters of any type that broadcast: a block per group of n elements.
struct P {
    const TX* x; const TS* scale; const TB* bias; TY* y; TM* mean; TM* inverse;
    u32 n;
    // Where a group starts, and where its elements lie from there.
    Divider kept[4], gone[4]; i32 kept_step[4], gone_step[4];
    // Where the parameters of an element lie, by its place in x.
    Divider affine[4]; i32 scale_step[4], bias_step[4];
    f32 epsilon;
    Status status;
};

DEVICE i64 place(u32 index, const Divider (&dims)[4], const i32 (&step)[4]) {
    i64 at = 0;
    PRAGMA_UNROLL for (int d = 3; d >= 0; d--) {
        u32 high = divide(index, dims[d]);
        at += (i64)(index - high * dims[d].divisor) * step[d];
        index = high;
    }
    return at;
}

DEVICE C block_sum(C v, C* parts) {
    v = warp_sum(v);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) parts[threadIdx.x >> 5] = v;
    __syncthreads();
    v = 0;
    PRAGMA_UNROLL for (int i = 0; i < 8; i++) v += parts[i];
    return v;
}

KERNEL(256, normalise, P) {
    __shared__ C parts[8];
    const u32 tid = threadIdx.x;
    const i64 base = place(blockIdx.x, p.kept, p.kept_step);
    auto sum = [&](auto f) {
        C v = 0;
        for (u32 i = tid; i < p.n; i += 256) v += f(get<C>(p.x[base + place(i, p.gone, p.gone_step)]));
        return block_sum(v, parts);
    };
    C mean = 0, factor = 1;
#if MODE == LP_1
    C all = sum([](C v) { return v < 0 ? -v : v; });
    bool nothing = all == 0;
#elif MODE == LP_2
    C all = SQUARE_ROOT(sum([](C v) { return v * v; }));
    bool nothing = all == 0;
#elif MODE == MEAN_VARIANCE
    mean = sum([](C v) { return v; }) / p.n;
    C all = SQUARE_ROOT(sum([&](C v) { return (v - mean) * (v - mean); }) / p.n) + (C)1e-9;
    bool nothing = false;
#else
#if MODE == CENTRED
    mean = sum([](C v) { return v; }) / p.n;
#endif
    factor = 1 / SQUARE_ROOT(sum([&](C v) { return (v - mean) * (v - mean); }) / p.n + (C)p.epsilon);
    if (tid == 0 && p.mean) p.mean[blockIdx.x] = put<TM>(mean);
    if (tid == 0 && p.inverse) p.inverse[blockIdx.x] = put<TM>(factor);
#endif
    for (u32 i = tid; i < p.n; i += 256) {
        i64 at = base + place(i, p.gone, p.gone_step);
        C v = get<C>(p.x[at]);
#if MODE == LP_1 || MODE == LP_2 || MODE == MEAN_VARIANCE
        v = nothing ? (C)0 : (v - mean) / all;
#else
        v = (v - mean) * factor;
        if (p.scale) v *= get<C>(p.scale[place((u32)at, p.affine, p.scale_step)]);
        if (p.bias) v += get<C>(p.bias[place((u32)at, p.affine, p.bias_step)]);
#endif
        p.y[at] = put<TY>(v);
    }
}
