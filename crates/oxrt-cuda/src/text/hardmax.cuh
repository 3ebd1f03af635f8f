// Hardmax: a warp per line finds its first greatest element, and writes a one there.
struct P { const T* x; TY* y; u32 lines, n; Divider inner; };

KERNEL(256, hardmax, P) {
    const u32 line = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x & 31;
    if (line >= p.lines) return;
    u32 outer = divide(line, p.inner);
    const i64 base = (i64)outer * p.n * p.inner.divisor + (line - outer * p.inner.divisor);
    C top = get<C>(p.x[base]);
    i32 best = 0;
    // Nothing is greater than NaN in front.
    for (u32 i = lane; i < p.n; i += 32) {
        C v = get<C>(p.x[base + (i64)i * p.inner.divisor]);
        if (v > top) { top = v; best = i; }
    }
    for (int m = 16; m; m >>= 1) {
        C other = lane_xor(top, m);
        i32 at = lane_xor(best, m);
        if (other > top || (other == top && at < best)) { top = other; best = at; }
    }
    for (u32 i = lane; i < p.n; i += 32) p.y[base + (i64)i * p.inner.divisor] = put<TY>((C)(i == (u32)best ? 1 : 0));
}
