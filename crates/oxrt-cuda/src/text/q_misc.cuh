// Quantised tensors element by element, and pools of them.
#if LOOKUP
struct P { const u8* x; const E* table; E* y; u32 count; Status status; };
KERNEL(256, each, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index < p.count) p.y[index] = p.table[p.x[index]];
}
#elif BINARY
struct P {
    const TA* a; const TB* b; TY* y;
    u32 count; i32 rank; Divider dims[8]; i32 a_stride[8], b_stride[8];
    i32 whole[5]; f32 number[3];
    Status status;
};
// The operands' elements of V results that lie side by side: side by side as well, or all the same.
template <class T, int V> DEVICE Pack<T, V> operands(const T* at, i32 step) {
    Pack<T, V> pack;
    if (step == 1) return *(const Pack<T, V>*)at;
    PRAGMA_UNROLL for (int e = 0; e < V; e++) pack.at[e] = *at;
    return pack;
}
template <int V> DEVICE void run(const P& p) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    index *= V;
    i64 at_a = 0, at_b = 0;
    u32 rest = index;
    PRAGMA_UNROLL for (int d = 7; d >= 0; d--) {
        if (d < p.rank) {
            u32 high = d == 0 ? 0 : divide(rest, p.dims[d]);
            i32 i = rest - high * p.dims[d].divisor;
            at_a += i * p.a_stride[d];
            at_b += i * p.b_stride[d];
            rest = high;
        }
    }
    const Pack<TA, V> as = operands<TA, V>(p.a + at_a, V == 1 ? 1 : p.a_stride[max(p.rank - 1, 0)]);
    const Pack<TB, V> bs = operands<TB, V>(p.b + at_b, V == 1 ? 1 : p.b_stride[max(p.rank - 1, 0)]);
    Pack<TY, V> y;
    PRAGMA_UNROLL for (int e = 0; e < V; e++) {
        f32 a = (f32)(get<i32>(as.at[e]) - p.whole[0]) * p.number[0], b = (f32)(get<i32>(bs.at[e]) - p.whole[1]) * p.number[1];
        f32 q = rintf((a SIGN b) / p.number[2]);
        i32 i = q > 1e6f ? 1000000 : q < -1e6f ? -1000000 : (i32)q;
        i += p.whole[2];
        y.at[e] = put<TY>(i < p.whole[3] ? p.whole[3] : i > p.whole[4] ? p.whole[4] : i);
    }
    *(Pack<TY, V>*)(p.y + index) = y;
}
KERNEL(256, each, P) { run<1>(p); }
KERNEL(256, by_eight, P) { run<8>(p); }
#else
// The mean of each channel of [images, pixels, channels].
struct P {
    const TX* x; TY* y;
    u32 count; Divider channels; u32 pixels; f32 x_scale; i32 x_zero; i32 whole[12]; f32 number[11];
    Status status;
};
// Threads of a block share 32 channels, those of a warp side by side; warps share the pixels.
KERNEL(256, each, P) {
    DYNAMIC_SHARED(memory);
    i64* const sums = (i64*)memory;
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, index = blockIdx.x * 32 + lane;
    i64 sum = 0;
    if (index < p.count) {
        const u32 image = divide(index, p.channels), c = index - image * p.channels.divisor;
        const TX* x = p.x + (i64)image * p.pixels * p.channels.divisor + c;
        // Several at once, so that no read waits for another.
        for (u32 i = warp; i < p.pixels; i += 64) {
            i32 part = 0;
            PRAGMA_UNROLL for (u32 j = i; j < i + 64; j += 8)
                if (j < p.pixels) part += get<i32>(x[(i64)j * p.channels.divisor]) - p.x_zero;
            sum += part;
        }
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (warp > 0 || index >= p.count) return;
    for (u32 i = 1; i < 8; i++) sum += sums[i * 32 + lane];
    p.y[index] = end(p, (f32)((f64)sum * p.x_scale / p.pixels), (const TR*)0, 0, (const TT*)0, (const TM*)0);
}
#endif
