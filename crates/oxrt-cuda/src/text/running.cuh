// Running sums and products along lines of n elements that lie `step` apart.
struct P {
    const T* x; const void* axis; T* y;
    u32 count, n; Divider inner;
    Status status;
};

DEVICE i64 first_of(const P& p, u32 line) {
    u32 outer = divide(line, p.inner);
    return (i64)outer * p.n * p.inner.divisor + (line - outer * p.inner.divisor);
}

// A thread per line: lines are many or lie side by side.
KERNEL(256, lanes, P) {
    u32 line = blockIdx.x * 256 + threadIdx.x;
    if (line >= p.count) return;
    i64 base = first_of(p, line);
    C sum = START;
    for (u32 k = 0; k < p.n; k++) {
        i64 at = base + (i64)(REVERSE ? p.n - 1 - k : k) * p.inner.divisor;
        C next = JOIN(sum, get<C>(p.x[at]));
        p.y[at] = put<T>(EXCLUSIVE ? sum : next);
        sum = next;
    }
}

// A block per line.
KERNEL(256, blocks, P) {
    __shared__ C parts[2][256];
    const u32 tid = threadIdx.x;
    i64 base = first_of(p, blockIdx.x);
    C carried = START;
    for (u32 k0 = 0; k0 < p.n; k0 += 256) {
        u32 k = k0 + tid;
        i64 at = base + (i64)(REVERSE ? p.n - 1 - k : k) * p.inner.divisor;
        parts[0][tid] = k < p.n ? get<C>(p.x[at]) : (C)START;
        int now = 0;
        for (u32 d = 1; d < 256; d *= 2) {
            __syncthreads();
            C v = parts[now][tid];
            if (tid >= d) v = JOIN(parts[now][tid - d], v);
            parts[now ^ 1][tid] = v;
            now ^= 1;
        }
        __syncthreads();
        C before = tid ? parts[now][tid - 1] : (C)START;
        C mine = EXCLUSIVE ? JOIN(carried, before) : JOIN(carried, parts[now][tid]);
        if (k < p.n) p.y[at] = put<T>(mine);
        carried = JOIN(carried, parts[now][255]);
        __syncthreads();
    }
}
