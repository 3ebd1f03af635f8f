// Group (and instance) normalisation: a block per image and group.
struct P {
    const TX* x; const f32* scale; const f32* bias; TY* y;
    i32 groups, members, pixels, channels;
    Divider member;
    f32 epsilon;
};

DEVICE f32 block_sum(f32 v, f32* parts) {
    v = warp_sum(v);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) parts[threadIdx.x >> 5] = v;
    __syncthreads();
    v = parts[0];
    PRAGMA_UNROLL for (int i = 1; i < 16; i++) v += parts[i];
    return v;
}

KERNEL(512, normalise, P) {
    __shared__ f32 parts[16];
    u32 image = blockIdx.x / p.groups, group = blockIdx.x % p.groups;
    i32 n = p.members * p.pixels;
    // Element i: member and pixel, in the order in which they lie.
    auto at = [&](i32 i, u32& c) -> i64 {
#if CHANNELS_LAST
        u32 pixel = divide(i, p.member); c = group * p.members + (i - pixel * p.member.divisor);
        return ((i64)image * p.pixels + pixel) * p.channels + c;
#else
        u32 m = divide(i, p.member); c = group * p.members + m;
        return ((i64)image * p.channels + group * p.members) * p.pixels + i;
#endif
    };
    u32 c;
    f32 sum = 0;
    for (i32 i = threadIdx.x; i < n; i += 512) sum += get<f32>(p.x[at(i, c)]);
    f32 mean = block_sum(sum, parts) / n;
    f32 square = 0;
    for (i32 i = threadIdx.x; i < n; i += 512) { f32 d = get<f32>(p.x[at(i, c)]) - mean; square += d * d; }
    f32 factor = 1 / sqrtf(block_sum(square, parts) / n + p.epsilon);
    for (i32 i = threadIdx.x; i < n; i += 512) {
        i64 o = at(i, c);
        f32 v = (get<f32>(p.x[o]) - mean) * factor;
        if (p.scale) v *= p.scale[c];
        if (p.bias) v += p.bias[c];
        p.y[o] = put<TY>(activate(v));
    }
}
