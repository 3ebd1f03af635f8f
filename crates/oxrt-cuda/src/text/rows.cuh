// Softmax and normalisations along lines of n elements: a team of TEAM threads per line.
struct P {
    const TX* x; const f32* scale; const f32* bias; TY* y;
    u32 lines, n;
    // Elements of a line lie `step` apart; lines are counted as (outer, inner).
    i32 step; Divider inner;
    f32 epsilon;
};

template <int TEAM> DEVICE C team_sum(C v, C* parts) {
    v = warp_sum(v);
    if (TEAM == 32) return v;
    __syncthreads();
    if ((threadIdx.x & 31) == 0) parts[threadIdx.x >> 5] = v;
    __syncthreads();
    v = parts[0];
    PRAGMA_UNROLL for (int i = 1; i < TEAM / 32; i++) v += parts[i];
    return v;
}
template <int TEAM> DEVICE C team_max(C v, C* parts) {
    v = warp_max(v);
    if (TEAM == 32) return v;
    __syncthreads();
    if ((threadIdx.x & 31) == 0) parts[threadIdx.x >> 5] = v;
    __syncthreads();
    v = parts[0];
    PRAGMA_UNROLL for (int i = 1; i < TEAM / 32; i++) v = parts[i] > v || parts[i] != parts[i] ? parts[i] : v;
    return v;
}

template <int TEAM, int V> DEVICE void line(const P& p) {
    __shared__ C parts[8];
    u32 index = TEAM == 32 ? blockIdx.x * 8 + threadIdx.x / 32 : blockIdx.x;
    u32 me = TEAM == 32 ? threadIdx.x & 31 : threadIdx.x;
    if (index >= p.lines) return;
    u32 outer = divide(index, p.inner), in = index - outer * p.inner.divisor;
    i64 base = (i64)outer * p.inner.divisor * p.n + in;
    const TX* x = p.x + base;
    TY* y = p.y + base;
    auto each = [&](auto f) {
        for (u32 i = me * V; i < p.n; i += TEAM * V) {
            if (V > 1) {
                Pack<TX, V> v = *(const Pack<TX, V>*)(x + i);
                PRAGMA_UNROLL for (int j = 0; j < V; j++) f(get<C>(v.at[j]), i + j);
            } else f(get<C>(x[(i64)i * p.step]), i);
        }
    };
    auto write = [&](auto f) {
        for (u32 i = me * V; i < p.n; i += TEAM * V) {
            if (V > 1) {
                Pack<TX, V> v = *(const Pack<TX, V>*)(x + i);
                Pack<TY, V> out;
                PRAGMA_UNROLL for (int j = 0; j < V; j++) out.at[j] = put<TY>(f(get<C>(v.at[j]), i + j));
                *(Pack<TY, V>*)(y + i) = out;
            } else y[(i64)i * p.step] = put<TY>(f(get<C>(x[(i64)i * p.step]), i));
        }
    };
#if SOFTMAX
    C top = -(C)INFINITE_F32;
    each([&](C v, u32) { top = v > top || v != v ? v : top; });
    top = team_max<TEAM>(top, parts);
    C sum = 0;
    each([&](C v, u32) { sum += EXP(v - top); });
    sum = team_sum<TEAM>(sum, parts);
#if LOG
    C log = LOGARITHM(sum);
    write([&](C v, u32) { return v - top - log; });
#else
    C factor = 1 / sum;
    write([&](C v, u32) { return EXP(v - top) * factor; });
#endif
#else
    C mean = 0;
#if CENTER
    each([&](C v, u32) { mean += v; });
    mean = team_sum<TEAM>(mean, parts) / p.n;
#endif
    C square = 0;
    each([&](C v, u32) { square += (v - mean) * (v - mean); });
    square = team_sum<TEAM>(square, parts) / p.n;
    C factor = 1 / SQUARE_ROOT(square + p.epsilon);
    write([&](C v, u32 i) {
        C r = (v - mean) * factor;
        if (p.scale) r *= p.scale[i];
        if (p.bias) r += p.bias[i];
        return r;
    });
#endif
}

KERNEL(256, warp_any, P) { line<32, 1>(p); }
KERNEL(256, warp_packs, P) { line<32, 8>(p); }
KERNEL(256, block_any, P) { line<256, 1>(p); }
KERNEL(256, block_packs, P) { line<256, 8>(p); }
