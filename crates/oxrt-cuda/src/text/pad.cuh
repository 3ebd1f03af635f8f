// Pad: every element of the result looks up where it comes from, axis by axis.
struct P {
    const E* x; const i64* pads; const E* fill; E* y;
    u32 count; i32 rank; Divider dims[8];
    // Per axis: elements that are left of the input, those in front of them, where they start, and their distance.
    i32 left[8], before[8], start[8], stride[8];
    Status status;
};

KERNEL(256, pad, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 rest = index;
    i64 at = 0;
    bool inside = true;
    PRAGMA_UNROLL for (int d = 7; d >= 0; d--) {
        if (d < p.rank) {
            u32 high = d == 0 ? 0 : divide(rest, p.dims[d]);
            i32 i = (i32)(rest - high * p.dims[d].divisor) - p.before[d], n = p.left[d];
            if ((u32)i >= (u32)n) {
#if MODE == 0
                inside = false;
#elif MODE == 1
                i = i < 0 ? 0 : n - 1;
#elif MODE == 2
                i %= n;
                if (i < 0) i += n;
#else
                i32 period = n == 1 ? 1 : 2 * (n - 1);
                i %= period;
                if (i < 0) i += period;
                i = i < n ? i : period - i;
#endif
            }
            at += (i64)(p.start[d] + i) * p.stride[d];
            rest = high;
        }
    }
    if (inside) p.y[index] = p.x[at];
    else p.y[index] = p.fill ? *p.fill : (E)0;
}
