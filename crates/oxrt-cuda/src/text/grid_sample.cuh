// GridSample: a thread per point of the result makes eight channels.
struct P {
    const TX* x; const TG* grid; TY* y;
    u32 count; Divider points; u32 channels; i32 size[RANK], stride[RANK]; i32 plane;
    Status status;
};

DEVICE C reflect(C x, C low, C high) {
    C span = high - low;
    if (span <= 0) return low;
    C away = MODULO(x - low, 2 * span);
    if (away < 0) away += 2 * span;
    return low + (away < 2 * span - away ? away : 2 * span - away);
}

// A pixel as an offset; -1 where a zero lies. NaN lands on the first.
DEVICE i32 pixel(C i, i32 size, C low, C high) {
    C last = (C)(size - 1);
#if PADDING == 0
    if (i < 0 || i > last) return -1;
#elif PADDING == 2
    i = TRUNCATE(reflect(i, low, high));
#endif
    if (!(i > 0)) i = 0;
    if (i > last) i = last;
    return (i32)i;
}

DEVICE void taps(C v, i32 size, i32 (&at)[TAPS], C (&w)[TAPS]) {
    C last = (C)(size - 1);
#if CORNERS
    C place = (v + 1) / 2 * last, low = 0, high = last;
#else
    C place = ((v + 1) * (C)size - 1) / 2, low = (C)-0.5, high = last + (C)0.5;
#endif
#if TAPS == 1
    place = NEAREST(place);
#endif
#if TAPS != 4 && PADDING == 1
    if (place < low || place > high) place = place < 0 ? (C)0 : last;
#elif TAPS != 4 && PADDING == 2
    if (place < low || place > high) place = reflect(place, low, high);
#endif
    C first = FLOOR(place), part = place - first;
#if TAPS == 1
    at[0] = pixel(place, size, low, high);
    w[0] = 1;
#elif TAPS == 2
    at[0] = pixel(first, size, low, high);
    at[1] = pixel(first + 1, size, low, high);
    w[0] = 1 - part;
    w[1] = part;
#else
    const C a = (C)-0.75;
    PRAGMA_UNROLL for (int k = 0; k < 4; k++) {
        at[k] = pixel(first + (C)(k - 1), size, low, high);
        C d = k == 0 ? part + 1 : k == 1 ? part : k == 2 ? 1 - part : 2 - part;
        w[k] = k == 1 || k == 2 ? ((a + 2) * d - (a + 3)) * d * d + 1 : ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
    }
#endif
}

KERNEL(256, sample, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 image = divide(index, p.points), point = index - image * p.points.divisor;
    i32 at[RANK][TAPS];
    C w[RANK][TAPS];
    PRAGMA_UNROLL for (int d = 0; d < RANK; d++)
        taps(get<C>(p.grid[(i64)index * RANK + RANK - 1 - d]), p.size[d], at[d], w[d]);
    for (u32 c = blockIdx.y * 8; c < blockIdx.y * 8 + 8 && c < p.channels; c++) {
        const TX* x = p.x + ((i64)image * p.channels + c) * p.plane;
        C sum = 0;
#if RANK == 1
        PRAGMA_UNROLL for (int i = 0; i < TAPS; i++) if (at[0][i] >= 0) sum += w[0][i] * get<C>(x[at[0][i]]);
#else
        PRAGMA_UNROLL for (int i = 0; i < TAPS; i++) {
            if (at[0][i] < 0) continue;
            PRAGMA_UNROLL for (int j = 0; j < TAPS; j++) {
                if (at[1][j] < 0) continue;
                i64 base = (i64)at[0][i] * p.stride[0] + (i64)at[1][j] * p.stride[1];
                C weight = w[0][i] * w[1][j];
#if RANK == 2
                sum += weight * get<C>(x[base]);
#else
                PRAGMA_UNROLL for (int k = 0; k < TAPS; k++)
                    if (at[RANK - 1][k] >= 0) sum += weight * w[RANK - 1][k] * get<C>(x[base + at[RANK - 1][k]]);
#endif
            }
        }
#endif
        p.y[((i64)image * p.channels + c) * p.points.divisor + point] = put<TY>(sum);
    }
}
