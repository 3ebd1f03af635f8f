// Fourier transforms of lines, or of windows of a signal: a thread per number of a spectrum, roots of unity from a table.
struct P {
    const T* x; const T* window; C* roots; T* y;
    u32 count; Divider kept, low;
    // Elements of a transform, and those of them that are given.
    u32 n, given;
    // A line is (high, low); distances of both and of neighbours, in numbers, where they come from and go to.
    i32 from_high, from_low, from_step, to_high, to_low, to_step;
};

KERNEL(256, table, P) {
    const u32 i = blockIdx.x * 256 + threadIdx.x;
    if (i >= p.n) return;
    const f64 angle = 6.283185307179586477 * i / p.n;
    p.roots[2 * i] = (C)cos(angle);
    p.roots[2 * i + 1] = (C)(INVERSE ? sin(angle) : -sin(angle));
}

KERNEL(256, transform, P) {
    const u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    const u32 line = divide(index, p.kept), k = index - line * p.kept.divisor;
    const u32 high = divide(line, p.low), low = line - high * p.low.divisor;
    const T* x = p.x + ((i64)high * p.from_high + (i64)low * p.from_low) * PARTS;
    C re = 0, im = 0;
    for (u32 i = 0, turn = 0; i < p.n; i++) {
#if MIRRORED
        // The other half mirrors the first; frequency 0 and the middle one are real.
        const u32 at = i < p.n - i ? i : p.n - i;
        const bool there = at < p.given;
#else
        const u32 at = i;
        const bool there = i < p.given;
#endif
        C a = 0, b = 0;
        if (there) {
            const T* from = x + (i64)at * p.from_step * PARTS;
            a = get<C>(from[0]);
            if (PARTS == 2) b = get<C>(from[PARTS - 1]);
        }
#if MIRRORED
        if (i == 0 || 2 * i == p.n) b = 0;
        else if (2 * i > p.n) b = -b;
#endif
#if WINDOWED
        const C w = get<C>(p.window[i]);
        a *= w;
        b *= w;
#endif
        const C c = p.roots[2 * turn], s = p.roots[2 * turn + 1];
        re += a * c - b * s;
        im += a * s + b * c;
        turn += k;
        if (turn >= p.n) turn -= p.n;
    }
    T* y = p.y + ((i64)high * p.to_high + (i64)low * p.to_low + (i64)k * p.to_step) * WIDTH;
    const C unit = INVERSE ? (C)1 / (C)p.n : (C)1;
    y[0] = put<T>(re * unit);
    if (WIDTH == 2) y[WIDTH - 1] = put<T>(im * unit);
}
