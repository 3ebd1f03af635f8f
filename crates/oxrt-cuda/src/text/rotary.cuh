// RotaryEmbedding: a thread per element turns its pair by the angle of its position.
struct P {
    const TX* x; const TC* cosines; const TC* sines; const I* positions; TY* y;
    u32 count; Divider size, heads, length; u32 half, rows;
    Status status;
};

KERNEL(256, rotate, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 q = divide(index, p.size), d = index - q * p.size.divisor;
    if (d >= 2 * p.half) { p.y[index] = put<TY>(get<C>(p.x[index])); return; }
#if HEADS_FIRST
    u32 above = divide(q, p.length), token = divide(above, p.heads) * p.length.divisor + (q - above * p.length.divisor);
#else
    u32 token = divide(q, p.heads);
#endif
    i64 row = token;
    if (p.positions) {
        row = (i64)p.positions[token];
        if (row < 0) row += p.rows;
        if (row < 0 || row >= p.rows) { report(p.status, STATUS_INDEX); row = 0; }
    }
#if INTERLEAVED
    u32 k = d >> 1;
    bool second = d & 1;
    i64 other = second ? (i64)index - 1 : (i64)index + 1;
#else
    bool second = d >= p.half;
    u32 k = second ? d - p.half : d;
    i64 other = second ? (i64)index - p.half : (i64)index + p.half;
#endif
    C c = get<C>(p.cosines[row * p.half + k]), s = get<C>(p.sines[row * p.half + k]);
    C mine = get<C>(p.x[index]), pair = get<C>(p.x[other]);
    p.y[index] = put<TY>(second ? s * pair + c * mine : c * mine - s * pair);
}
