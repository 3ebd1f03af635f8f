// Resizing: an output is a weighted sum of TAPS inputs along each of up to three axes.
struct P {
    const TX* x; TY* y; const i32* place; const f32* weight;
    u32 count; i32 rank;
    Divider dims[5]; i32 stride[5];
    // Where an axis' table starts, or -1 where nothing changes along it.
    i32 table[5];
    i32 axes, axis[3];
};

KERNEL(256, resize, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 rest = index;
    i64 base = 0;
    i32 row[3] = {-1, -1, -1};
    PRAGMA_UNROLL for (int d = 4; d >= 0; d--) {
        if (d >= p.rank) continue;
        u32 high = d == 0 ? 0 : divide(rest, p.dims[d]);
        i32 i = rest - high * p.dims[d].divisor;
        rest = high;
        if (p.table[d] < 0) base += (i64)i * p.stride[d];
        PRAGMA_UNROLL for (int a = 0; a < 3; a++) if (a < p.axes && p.axis[a] == d) row[a] = p.table[d] + i * TAPS;
    }
    C sum = 0;
    for (int a = 0; a < (p.axes > 0 ? TAPS : 1); a++) {
        i64 at_a = base; C wa = 1;
        if (p.axes > 0) { at_a += (i64)p.place[row[0] + a] * p.stride[p.axis[0]]; wa = p.weight[row[0] + a]; }
        if (wa == 0) continue;
        for (int b = 0; b < (p.axes > 1 ? TAPS : 1); b++) {
            i64 at_b = at_a; C wb = wa;
            if (p.axes > 1) { at_b += (i64)p.place[row[1] + b] * p.stride[p.axis[1]]; wb *= p.weight[row[1] + b]; }
            if (wb == 0) continue;
            for (int c = 0; c < (p.axes > 2 ? TAPS : 1); c++) {
                i64 at_c = at_b; C wc = wb;
                if (p.axes > 2) { at_c += (i64)p.place[row[2] + c] * p.stride[p.axis[2]]; wc *= p.weight[row[2] + c]; }
                if (wc == 0) continue;
                C v = get<C>(p.x[at_c]);
                // A single whole tap moves the element, infinite or not.
                sum = wc == 1 ? sum + v : sum + wc * v;
            }
        }
    }
    p.y[index] = put<TY>(sum);
}
