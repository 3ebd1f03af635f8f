// A warp per query; 32 keys at a time, one per lane. Values of up to 32 * WIDE elements.
KERNEL(128, attention, P) {
    const u32 lane = threadIdx.x & 31;
    const i32 query = blockIdx.x * 4 + (threadIdx.x >> 5);
    const u32 head = blockIdx.y, batch = blockIdx.z;
    if (query >= p.queries) return;
    const T* q = p.q + batch * p.qs.batch + head * p.qs.head + query * p.qs.row;
    const T* k = p.k + batch * p.ks.batch + (head / p.share) * p.ks.head;
    const T* v = p.v + batch * p.vs.batch + (head / p.share) * p.vs.head;
    const i64 mask_at = batch * p.mask_step[0] + head * p.mask_step[1] + query * p.mask_step[2];
    const Seen seen = seen_by(p, batch);
    f32 top = -INFINITE_F32, sum = 0, out[WIDE];
    PRAGMA_UNROLL for (int j = 0; j < WIDE; j++) out[j] = 0;
    for (i32 k0 = 0; k0 < seen.keys; k0 += 32) {
        i32 key = k0 + lane;
        f32 s = -INFINITE_F32;
        if (key < seen.keys) {
            f32 dot = 0;
            for (i32 d = 0; d < DIM; d++) dot += get<f32>(q[d]) * get<f32>(k[key * p.ks.row + d]);
            s = score(p, seen, dot, mask_of(p, mask_at, key), query, key);
        }
        f32 highest = fmaxf(top, warp_max(s));
        if (highest == -INFINITE_F32) continue;
        f32 factor = exp2f(top - highest), weight = s == -INFINITE_F32 ? 0.0f : exp2f(s - highest);
        top = highest;
        sum = sum * factor + warp_sum(weight);
        PRAGMA_UNROLL for (int j = 0; j < WIDE; j++) out[j] *= factor;
        for (i32 i = 0; i < 32 && k0 + i < seen.keys; i++) {
            f32 w = lane_get(weight, i);
            PRAGMA_UNROLL for (int j = 0; j < WIDE; j++) {
                i32 d = j * 32 + lane;
                if (d < VDIM) out[j] += w * get<f32>(v[(k0 + i) * p.vs.row + d]);
            }
        }
    }
    TY* y = p.y + batch * p.ys.batch + head * p.ys.head + query * p.ys.row;
    f32 factor = sum > 0 ? 1 / sum : 0.0f;
    PRAGMA_UNROLL for (int j = 0; j < WIDE; j++) if (j * 32 + lane < VDIM) y[j * 32 + lane] = put<TY>(out[j] * factor);
}
