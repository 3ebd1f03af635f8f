// Scattering that combines: updates of one element are applied in their order, so results do not depend on timing.
//
// Updates are cut into lanes that never meet (positions of the other axes). A lane's targets are shared out among `owners`
// threads by their numbers; each walks over all updates of the lane and applies those of its own.
struct P {
    const T* x; const I* at; const T* updates; T* y;
    u32 count; Divider lanes; u32 owners, length;
    // ScatterElements: sizes of the indices with 1 for the axis that is looked up, distances in updates and in y.
    Divider dims[8]; i32 update_stride[8], target_stride[8]; i32 axis_size, update_step, target_step;
    // ScatterND: tuples of `depth` numbers.
    i32 depth; i32 size[8], tuple_stride[8];
    Status status;
};

DEVICE i64 checked(i64 i, i64 n, const Status& s) {
    if (i < 0) i += n;
    if (i < 0 || i >= n) { report(s, STATUS_INDEX); return -1; }
    return i;
}

KERNEL(256, scatter, P) {
    u32 thread = blockIdx.x * 256 + threadIdx.x;
    if (thread >= p.count) return;
    const u32 me = divide(thread, p.lanes), lane = thread - me * p.lanes.divisor;
#if TUPLES
    const T* updates = p.updates + lane;
    T* y = p.y + lane;
#else
    i64 from = 0, to = 0;
    u32 rest = lane;
    PRAGMA_UNROLL for (int d = 7; d >= 0; d--) {
        u32 high = divide(rest, p.dims[d]);
        i64 i = rest - high * p.dims[d].divisor;
        from += i * p.update_stride[d];
        to += i * p.target_stride[d];
        rest = high;
    }
    const T* updates = p.updates + from;
    const I* indices = p.at + from;
    T* y = p.y + to;
#endif
    for (u32 k = 0; k < p.length; k++) {
#if TUPLES
        i64 target = 0;
        bool valid = true;
        for (i32 d = 0; d < p.depth; d++) {
            i64 i = checked((i64)p.at[(i64)k * p.depth + d], p.size[d], p.status);
            valid = valid && i >= 0;
            target += i * p.tuple_stride[d];
        }
        if (!valid) continue;
#else
        i64 target = checked((i64)indices[(i64)k * p.update_step], p.axis_size, p.status);
        if (target < 0) continue;
#endif
        if ((u32)target % p.owners != me) continue;
        T* place = y + target * p.target_step;
        C a = get<C>(*place), b = get<C>(updates[(i64)k * p.update_step]);
        *place = put<T>(COMBINE(a, b));
    }
}

KERNEL(256, copy, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index < p.count) p.y[index] = p.x[index];
}
