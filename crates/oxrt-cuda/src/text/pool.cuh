// Pools over windows of one to three axes: a thread per VECTOR channels of a pixel (or one, channels first).
struct P {
    const TX* x; TY* y;
    u32 count;
    i32 size[3], kernel[3], stride[3], dilation[3], pad[3], end[3];
    i64 image_step, step[3];
    Divider inner, out[3];
};

template <int V> DEVICE void pool(const P& p) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 c, pixel, o[3];
#if CHANNELS_LAST
    pixel = divide(index, p.inner); c = (index - pixel * p.inner.divisor) * V;
#else
    pixel = index; c = 0;
#endif
    u32 high = divide(pixel, p.out[2]); o[2] = pixel - high * p.out[2].divisor; pixel = high;
    high = divide(pixel, p.out[1]); o[1] = pixel - high * p.out[1].divisor; pixel = high;
    high = divide(pixel, p.out[0]); o[0] = pixel - high * p.out[0].divisor;
    u32 image = high;
    const TX* x = p.x + image * p.image_step + c;
    C acc[V];
    PRAGMA_UNROLL for (int j = 0; j < V; j++) acc[j] = MAXIMUM ? (C)LOWEST : (C)0;
    i32 taps = 0, room = 1;
    i32 at[3];
#if !MAXIMUM && PADDED
    // Pads count, what lies behind them does not.
    PRAGMA_UNROLL for (int d = 0; d < 3; d++) {
        i32 n = 0;
        for (i32 k = 0; k < p.kernel[d]; k++) n += (i32)o[d] * p.stride[d] - p.pad[d] + k * p.dilation[d] < p.size[d] + p.end[d];
        room *= n;
    }
#endif
    for (i32 a = 0; a < p.kernel[0]; a++) {
        at[0] = (i32)o[0] * p.stride[0] - p.pad[0] + a * p.dilation[0];
        if ((u32)at[0] >= (u32)p.size[0]) continue;
        for (i32 b = 0; b < p.kernel[1]; b++) {
            at[1] = (i32)o[1] * p.stride[1] - p.pad[1] + b * p.dilation[1];
            if ((u32)at[1] >= (u32)p.size[1]) continue;
            for (i32 e = 0; e < p.kernel[2]; e++) {
                at[2] = (i32)o[2] * p.stride[2] - p.pad[2] + e * p.dilation[2];
                if ((u32)at[2] >= (u32)p.size[2]) continue;
                taps++;
                const TX* from = x + at[0] * p.step[0] + at[1] * p.step[1] + at[2] * p.step[2];
                Pack<TX, V> pack;
                if (V > 1) pack = *(const Pack<TX, V>*)from; else pack.at[0] = *from;
                PRAGMA_UNROLL for (int j = 0; j < V; j++) {
                    C v = get<C>(pack.at[j]);
                    if (MAXIMUM) acc[j] = v > acc[j] || v != v ? v : acc[j]; else acc[j] += v;
                }
            }
        }
    }
    Pack<TY, V> out;
    PRAGMA_UNROLL for (int j = 0; j < V; j++) out.at[j] = put<TY>(MAXIMUM ? acc[j] : acc[j] / (C)(PADDED ? room : taps));
    if (V > 1) *(Pack<TY, V>*)(p.y + (i64)index * V) = out; else p.y[index] = out.at[0];
}

KERNEL(256, single, P) { pool<1>(p); }
#if CHANNELS_LAST
KERNEL(256, packs, P) { pool<8>(p); }
#endif
