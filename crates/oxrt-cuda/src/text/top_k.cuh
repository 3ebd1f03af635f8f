// TopK: sorted runs of 1024 elements, then runs merged in pairs; no run keeps more than k, so little is left of them.
//
// An element is a key whose order is the wanted one, and its place; no two are equal, so every order is the same.
struct Item { K key; u32 at; };
DEVICE bool before(const Item& a, const Item& b) { return a.key < b.key || (a.key == b.key && a.at < b.at); }

struct P {
    const T* x; Item* from; Item* to; T* y; i64* places;
    // Lines of n elements that lie `inner` apart; runs of `span` elements, of which at most k are kept.
    u32 lines, n, k; Divider inner, runs; u32 span, pitch, new_pitch, line_pitch, new_line_pitch;
};

// The order of the bits is that of the numbers, 0 and -0 are one, and NaN is greater than everything.
DEVICE K ordered(T x) {
#if FLOAT
    C v = get<C>(x);
    K bits = v != v ? ~(K)0 : v == 0 ? (K)1 << (sizeof(K) * 8 - 1) : BITS(v);
    if (v == v && v != 0) bits = bits >> (sizeof(K) * 8 - 1) ? ~bits : bits | (K)1 << (sizeof(K) * 8 - 1);
#else
    K bits = (K)(C)x ^ FLIP;
#endif
    return LARGEST ? ~bits : bits;
}

DEVICE i64 first_of(const P& p, u32 line) {
    u32 outer = divide(line, p.inner);
    return (i64)outer * p.n * p.inner.divisor + (line - outer * p.inner.divisor);
}

KERNEL(256, sort, P) {
    __shared__ Item items[1024];
    const u32 line = divide(blockIdx.x, p.runs), run = blockIdx.x - line * p.runs.divisor;
    const i64 base = first_of(p, line);
    for (u32 i = threadIdx.x; i < 1024; i += 256) {
        u32 at = run * 1024 + i;
        Item item;
        item.key = ~(K)0;
        item.at = 0xffffffffu;
        if (at < p.n) { item.key = ordered(p.x[base + (i64)at * p.inner.divisor]); item.at = at; }
        items[i] = item;
    }
    for (u32 size = 2; size <= 1024; size *= 2)
        for (u32 step = size / 2; step > 0; step /= 2) {
            __syncthreads();
            for (u32 i = threadIdx.x; i < 512; i += 256) {
                u32 a = i / step * step * 2 + i % step, b = a + step;
                bool up = (a & size) == 0;
                Item ia = items[a], ib = items[b];
                if (before(ib, ia) == up) { items[a] = ib; items[b] = ia; }
            }
        }
    __syncthreads();
    for (u32 i = threadIdx.x; i < p.pitch; i += 256) p.to[(i64)line * p.line_pitch + run * p.pitch + i] = items[i];
}

// Elements that are there of a run of `span`, at most k.
DEVICE u32 kept(const P& p, u32 run) {
    i64 first = (i64)run * p.span;
    i64 rest = first < (i64)p.n ? (i64)p.n - first : 0;
    rest = rest < (i64)p.span ? rest : (i64)p.span;
    return (u32)(rest < (i64)p.k ? rest : (i64)p.k);
}

// A thread per element finds its place in the merged run by looking it up in the other one.
KERNEL(256, merge, P) {
    const u32 line = blockIdx.y, index = blockIdx.x * 256 + threadIdx.x;
    const u32 run = index / p.pitch, i = index - run * p.pitch;
    if (run >= p.runs.divisor || i >= kept(p, run)) return;
    const Item* own = p.from + (i64)line * p.line_pitch;
    Item item = own[run * p.pitch + i];
    const Item* other = own + (run ^ 1) * p.pitch;
    u32 low = 0, high = (run ^ 1) < p.runs.divisor ? kept(p, run ^ 1) : 0;
    while (low < high) {
        u32 middle = (low + high) / 2;
        if (before(other[middle], item)) low = middle + 1; else high = middle;
    }
    if (i + low < p.new_pitch) p.to[(i64)line * p.new_line_pitch + (run >> 1) * p.new_pitch + i + low] = item;
}

KERNEL(256, finish, P) {
    const u32 index = blockIdx.x * 256 + threadIdx.x, line = index / p.k, j = index - line * p.k;
    if (line >= p.lines) return;
    u32 at = p.from[(i64)line * p.line_pitch + j].at;
    u32 outer = divide(line, p.inner), in = line - outer * p.inner.divisor;
    i64 to = ((i64)outer * p.k + j) * p.inner.divisor + in;
    if (p.y) p.y[to] = p.x[first_of(p, line) + (i64)at * p.inner.divisor];
    if (p.places) p.places[to] = at;
}
