// Reals to integers and back, by a scale for all, for each slice of an axis, or for each block along it.
struct P {
    const TX* x; const TS* scale; const TZ* zero; TY* y;
    u32 count; Divider inner, slices, block; i32 outer_step, slice_step, inner_step;
    Status status;
};

DEVICE i64 parameter(const P& p, u32 index) {
    u32 q = divide(index, p.inner), outer = divide(q, p.slices), slice = q - outer * p.slices.divisor;
    return (i64)outer * p.outer_step + (i64)divide(slice, p.block) * p.slice_step
        + (i64)(index - q * p.inner.divisor) * p.inner_step;
}

DEVICE TY converted(const P& p, TX x, i64 at) {
#if DEQUANTIZE
    C zero = p.zero ? get<C>(p.zero[at]) : (C)0;
    return put<TY>((get<C>(x) - zero) * get<C>(p.scale[at]));
#else
    C quotient = get<C>(put<TP>(get<C>(x) / get<C>(p.scale[at])));
#if FLOATS
    return put<TY>(quotient);
#else
    i64 zero = p.zero ? get<i64>(p.zero[at]) : 0;
#if SMALL
    const f32 rounded = rintf(quotient);
    i32 v = rounded != rounded ? 0 : rounded > 1e6f ? 1000000 : rounded < -1e6f ? -1000000 : (i32)rounded;
    v += (i32)zero;
    return (TY)(v < (i32)LOWEST ? (i32)LOWEST : v > (i32)HIGHEST ? (i32)HIGHEST : v);
#else
    // Far beyond every integer type, and far inside 64 bits.
    f64 whole = rint((f64)quotient);
    i64 v = whole != whole ? 0 : whole > 1e15 ? 1000000000000000ll : whole < -1e15 ? -1000000000000000ll : (i64)whole;
    v += zero;
    return (TY)(v < (i64)LOWEST ? (i64)LOWEST : v > (i64)HIGHEST ? (i64)HIGHEST : v);
#endif
#endif
#endif
}

KERNEL(256, convert, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index < p.count) p.y[index] = converted(p, p.x[index], parameter(p, index));
}

// One scale for all: four elements to a thread, of which there are `count`.
KERNEL(256, convert_four, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    const Pack<TX, 4> x = ((const Pack<TX, 4>*)p.x)[index];
    Pack<TY, 4> y;
    PRAGMA_UNROLL for (int e = 0; e < 4; e++) y.at[e] = converted(p, x.at[e], 0);
    ((Pack<TY, 4>*)p.y)[index] = y;
}
