// Elements that go where lengths and positions say; they are moved as they lie.
#if REVERSE
struct P { const E* x; const I* lengths; E* y; u32 count; Divider batch_step, batch, time_step, time; Status status; };
KERNEL(256, moves, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 qb = divide(index, p.batch_step), b = qb - divide(qb, p.batch) * p.batch.divisor;
    u32 qt = divide(index, p.time_step), t = qt - divide(qt, p.time) * p.time.divisor;
    i64 n = (i64)p.lengths[b];
    if (n < 0 || n > (i64)p.time.divisor) { report(p.status, STATUS_INDEX); n = 0; }
    i64 from = (i64)t < n ? (i64)index + (n - 1 - 2 * (i64)t) * p.time_step.divisor : (i64)index;
    p.y[index] = p.x[from];
}
#elif CACHE
// The element at place a of the axis is that of step s of the update where a = start + s, around the end.
struct P {
    const E* cache; const E* update; const I* starts; E* y;
    u32 count; Divider inner, length, batch_step; u32 steps;
    Status status;
};
KERNEL(256, moves, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 q = divide(index, p.inner), outer = divide(q, p.length), length = p.length.divisor;
    i64 start = p.starts ? (i64)p.starts[divide(index, p.batch_step)] : 0;
#if !CIRCULAR
    if (start < -(i64)length || start + (i64)p.steps > (i64)length) { report(p.status, STATUS_INDEX); start = 0; }
#endif
    i64 s = ((i64)(q - outer * length) - start) % (i64)length;
    if (s < 0) s += length;
    p.y[index] = s < (i64)p.steps ? p.update[((i64)outer * p.steps + s) * p.inner.divisor + (index - q * p.inner.divisor)] : p.cache[index];
}
#elif UNPOOL
struct P { const E* x; const I* places; const void* shape; E* y; u32 count; u32 total; Divider dims[8]; i32 stride[8]; Status status; };
KERNEL(256, clear, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index < p.count) p.y[index] = (E)0;
}
KERNEL(256, moves, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    i64 place = (i64)p.places[index];
    if (place < 0) place += p.total;
    if (place < 0 || place >= (i64)p.total) { report(p.status, STATUS_INDEX); return; }
    u32 rest = (u32)place;
    i64 at = 0;
    PRAGMA_UNROLL for (int d = 7; d >= 0; d--) {
        u32 high = d == 0 ? 0 : divide(rest, p.dims[d]);
        at += (i64)(rest - high * p.dims[d].divisor) * p.stride[d];
        rest = high;
    }
    p.y[at] = p.x[index];
}
#else
struct P { const E* x; E* y; u32 count; Status status; };
KERNEL(256, moves, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index < p.count) p.y[index] = p.x[index];
}
#endif
