// Pools in ONNX's order that say more than the greatest: its place too, or a norm. A thread per element.
struct P {
    const TX* x; TY* y; i64* places;
    u32 count; i32 size[3], kernel[3], stride[3], dilation[3], pad[3]; Divider out[3]; f32 power;
    Status status;
};

KERNEL(256, pool, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 o[3], rest = index;
    PRAGMA_UNROLL for (int d = 2; d >= 0; d--) {
        u32 high = divide(rest, p.out[d]);
        o[d] = rest - high * p.out[d].divisor;
        rest = high;
    }
    const i64 base = (i64)rest * p.size[0] * p.size[1] * p.size[2];
    C best = -(C)INFINITE_F32, sum = 0;
    i64 place = 0;
    bool found = false;
    i32 at[3];
    for (i32 a = 0; a < p.kernel[0]; a++) {
        at[0] = (i32)o[0] * p.stride[0] - p.pad[0] + a * p.dilation[0];
        if ((u32)at[0] >= (u32)p.size[0]) continue;
        for (i32 b = 0; b < p.kernel[1]; b++) {
            at[1] = (i32)o[1] * p.stride[1] - p.pad[1] + b * p.dilation[1];
            if ((u32)at[1] >= (u32)p.size[1]) continue;
            for (i32 e = 0; e < p.kernel[2]; e++) {
                at[2] = (i32)o[2] * p.stride[2] - p.pad[2] + e * p.dilation[2];
                if ((u32)at[2] >= (u32)p.size[2]) continue;
                C v = get<C>(p.x[base + ((i64)at[0] * p.size[1] + at[1]) * p.size[2] + at[2]]);
#if NORM
                sum += POWER(v < 0 ? -v : v, (C)p.power);
#else
                if (!found || v > best || (v != v && best == best)) {
                    best = v;
                    found = true;
#if COLUMNS
                    place = ((i64)at[2] * p.size[1] + at[1]) * p.size[0] + at[0];
#else
                    place = ((i64)at[0] * p.size[1] + at[1]) * p.size[2] + at[2];
#endif
                }
#endif
            }
        }
    }
#if NORM
    p.y[index] = put<TY>(POWER(sum, 1 / (C)p.power));
#else
    if (p.y) p.y[index] = put<TY>(best);
    p.places[index] = base + place;
#endif
}
