// Normalisation of channels by what is known of them, and by their neighbours.
#if NEIGHBOURS
struct P {
    const TX* x; TY* y; u32 count; Divider plane, channels;
    i32 before, after; f32 alpha, beta, bias;
    Status status;
};
KERNEL(256, channels, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 q = divide(index, p.plane);
    i32 c = q - divide(q, p.channels) * p.channels.divisor, n = p.channels.divisor;
    i32 low = c < p.before ? -c : -p.before, high = c + p.after < n ? p.after : n - 1 - c;
    C sum = 0;
    for (i32 k = low; k <= high; k++) {
        C v = get<C>(p.x[(i64)index + (i64)k * p.plane.divisor]);
        sum += v * v;
    }
    p.y[index] = put<TY>(get<C>(p.x[index]) / POWER((C)p.bias + (C)p.alpha * sum, (C)p.beta));
}
#else
struct P {
    const TX* x; const TS* scale; const TB* bias; const TM* mean; const TV* variance; TY* y;
    u32 count; Divider plane, channels; f32 epsilon;
    Status status;
};
KERNEL(256, channels, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 q = divide(index, p.plane), c = q - divide(q, p.channels) * p.channels.divisor;
    C factor = get<C>(p.scale[c]) / SQUARE_ROOT(get<C>(p.variance[c]) + (C)p.epsilon);
    p.y[index] = put<TY>((get<C>(p.x[index]) - get<C>(p.mean[c])) * factor + get<C>(p.bias[c]));
}
#endif
