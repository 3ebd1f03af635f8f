// Pools over windows of one to three axes: a thread per VECTOR channels of a pixel (or one, channels first).
struct P {
    const TX* x; TY* y;
    u32 count;
    i32 size[3], kernel[3], stride[3], dilation[3], pad[3], end[3];
    i64 image_step, step[3];
    Divider inner, out[3];
};

#if BYTES
// The larger of each half: signed or not, as TX is.
DEVICE u32 larger_halves(u32 a, u32 b, i8) { return max_halves_signed(a, b); }
DEVICE u32 larger_halves(u32 a, u32 b, u8) { return max_halves(a, b); }
#endif

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
#if BYTES
    // Bytes are compared as the upper halves of halves; what lies in the lower ones decides only between equal bytes.
    const int WORDS = V < 4 ? 1 : V / 4;
    const u32 least = (TX)-1 < (TX)0 ? 0x80808080u : 0;
    u32 even[WORDS], odd[WORDS];
    PRAGMA_UNROLL for (int j = 0; j < WORDS; j++) even[j] = odd[j] = least;
#endif
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
#if BYTES
                if (V > 1) {
                    Pack<u32, WORDS> words = *(const Pack<u32, WORDS>*)from;
                    PRAGMA_UNROLL for (int j = 0; j < WORDS; j++) {
                        even[j] = larger_halves(even[j], words.at[j] << 8, TX());
                        odd[j] = larger_halves(odd[j], words.at[j], TX());
                    }
                    continue;
                }
#endif
                Pack<TX, V> pack;
                if (V > 1) pack = *(const Pack<TX, V>*)from; else pack.at[0] = *from;
                PRAGMA_UNROLL for (int j = 0; j < V; j++) {
                    C v = get<C>(pack.at[j]);
                    if (MAXIMUM) acc[j] = v > acc[j] || v != v ? v : acc[j]; else acc[j] += v;
                }
            }
        }
    }
#if BYTES
    if (V > 1) {
        Pack<u32, WORDS> words;
        PRAGMA_UNROLL for (int j = 0; j < WORDS; j++) words.at[j] = (even[j] >> 8 & 0x00ff00ffu) | (odd[j] & 0xff00ff00u);
        *(Pack<u32, WORDS>*)(p.y + (i64)index * V) = words;
        return;
    }
#endif
    Pack<TY, V> out;
    PRAGMA_UNROLL for (int j = 0; j < V; j++) out.at[j] = put<TY>(MAXIMUM ? acc[j] : acc[j] / (C)(PADDED ? room : taps));
    if (V > 1) *(Pack<TY, V>*)(p.y + (i64)index * V) = out; else p.y[index] = out.at[0];
}

KERNEL(256, single, P) { pool<1>(p); }
#if CHANNELS_LAST
KERNEL(256, packs, P) { pool<8>(p); }
#if BYTES
KERNEL(256, wide, P) { pool<16>(p); }
#endif
#endif
