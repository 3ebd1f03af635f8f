// Gathering and scattering by index; elements are moved as they lie.
DEVICE i64 checked(i64 i, i64 n, const Status& s) {
    if (i < 0) i += n;
    if (i < 0 || i >= n) { report(s, STATUS_INDEX); return 0; }
    return i;
}

struct P {
    const E* x; const I* at; const E* updates; E* y;
    u32 count; i32 rank;
    // Gather: y[outer][index][inner].
    i32 axis_size; Divider inner, indices;
    // GatherElements, ScatterElements: shape of the indices, distances in x, and the axis that is looked up.
    i32 axis; Divider dims[8]; i32 stride[8];
    // GatherND, ScatterND: tuples of `depth` numbers, each of which picks `inner` elements.
    i32 depth; i32 size[8]; i32 tuple_stride[8]; i32 batch_stride; Divider batch;
    Status status;
};

KERNEL(256, gather, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 q = divide(index, p.inner), in = index - q * p.inner.divisor;
    u32 outer = divide(q, p.indices), k = q - outer * p.indices.divisor;
    i64 i = checked((i64)p.at[k], p.axis_size, p.status);
    p.y[index] = p.x[((i64)outer * p.axis_size + i) * p.inner.divisor + in];
}

DEVICE i64 element(const P& p, u32 index) {
    u32 rest = index;
    i64 at = 0;
    PRAGMA_UNROLL for (int d = 7; d >= 0; d--) {
        if (d < p.rank) {
            u32 high = d == 0 ? 0 : divide(rest, p.dims[d]);
            i64 i = rest - high * p.dims[d].divisor;
            if (d == p.axis) i = checked((i64)p.at[index], p.axis_size, p.status);
            at += i * p.stride[d];
            rest = high;
        }
    }
    return at;
}

KERNEL(256, gather_elements, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index < p.count) p.y[index] = p.x[element(p, index)];
}

KERNEL(256, scatter_elements, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index < p.count) p.y[element(p, index)] = p.updates[index];
}

DEVICE i64 tuple(const P& p, u32 k) {
    i64 at = (i64)divide(k, p.batch) * p.batch_stride;
    for (i32 d = 0; d < p.depth; d++) at += checked((i64)p.at[(i64)k * p.depth + d], p.size[d], p.status) * p.tuple_stride[d];
    return at;
}

KERNEL(256, gather_nd, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 k = divide(index, p.inner);
    p.y[index] = p.x[tuple(p, k) + (index - k * p.inner.divisor)];
}

KERNEL(256, scatter_nd, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 k = divide(index, p.inner);
    p.y[tuple(p, k) + (index - k * p.inner.divisor)] = p.updates[index];
}

KERNEL(256, copy, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index < p.count) p.y[index] = p.x[index];
}
