// RoiAlign: a thread per element of the result. Points are placed in double precision, as counts of them depend on it.
struct P {
    const TX* x; const TR* rois; const I* batch; TY* y;
    u32 count; Divider columns, rows, channels; i32 images, height, width; f32 half_pixel, scale; i32 samples;
    Status status;
};

DEVICE void between(f64 v, i32 n, i32& low, i32& high, C& part) {
    v = v > 0 ? v : 0;
    low = v < (f64)(n - 1) ? (i32)v : n - 1;
    high = low < n - 1 ? low + 1 : low;
    part = low < n - 1 ? (C)(v - low) : (C)0;
}

KERNEL(256, roi_align, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 q = divide(index, p.columns), px = index - q * p.columns.divisor;
    u32 q2 = divide(q, p.rows), py = q - q2 * p.rows.divisor;
    u32 roi = divide(q2, p.channels), c = q2 - roi * p.channels.divisor;
    i64 image = (i64)p.batch[roi];
    if (image < 0) image += p.images;
    if (image < 0 || image >= p.images) { report(p.status, STATUS_INDEX); return; }
    f64 corner[4];
    PRAGMA_UNROLL for (int i = 0; i < 4; i++) corner[i] = get<f64>(p.rois[(i64)roi * 4 + i]) * (f64)p.scale - (f64)p.half_pixel;
    f64 w = corner[2] - corner[0], h = corner[3] - corner[1];
    if (p.half_pixel == 0) { w = w > 1 ? w : 1; h = h > 1 ? h : 1; }
    f64 bin_h = h / p.rows.divisor, bin_w = w / p.columns.divisor;
    f64 gh = p.samples > 0 ? p.samples : ceil(bin_h), gw = p.samples > 0 ? p.samples : ceil(bin_w);
    gh = gh > 0 ? gh : 0;
    gw = gw > 0 ? gw : 0;
    if (gh * gw * p.channels.divisor * p.rows.divisor * p.columns.divisor > 67108864.0) { report(p.status, STATUS_INDEX); return; }
    const TX* x = p.x + (image * p.channels.divisor + c) * p.height * p.width;
    C result = MAXIMUM ? -(C)INFINITE_F32 : (C)0;
    i32 rows = (i32)gh, columns = (i32)gw;
    for (i32 i = 0; i < rows; i++) {
        f64 v = corner[1] + py * bin_h + (i + 0.5) * bin_h / rows;
        for (i32 j = 0; j < columns; j++) {
            f64 u = corner[0] + px * bin_w + (j + 0.5) * bin_w / columns;
            C value = 0;
            if (!(v < -1 || v > p.height || u < -1 || u > p.width)) {
                i32 y0, y1, x0, x1;
                C fy, fx;
                between(v, p.height, y0, y1, fy);
                between(u, p.width, x0, x1, fx);
                C a = get<C>(x[(i64)y0 * p.width + x0]) * ((1 - fy) * (1 - fx)), b = get<C>(x[(i64)y0 * p.width + x1]) * ((1 - fy) * fx);
                C d = get<C>(x[(i64)y1 * p.width + x0]) * (fy * (1 - fx)), e = get<C>(x[(i64)y1 * p.width + x1]) * (fy * fx);
#if MAXIMUM
                value = a > b ? a : b;
                value = d > value ? d : value;
                value = e > value ? e : value;
#else
                value = a + b + d + e;
#endif
            }
#if MAXIMUM
            result = value > result ? value : result;
#else
            result += value;
#endif
        }
    }
    i32 points = rows * columns;
#if MAXIMUM
    if (points == 0) result = 0;
#else
    result /= (C)(points > 0 ? points : 1);
#endif
    p.y[index] = put<TY>(result);
}
