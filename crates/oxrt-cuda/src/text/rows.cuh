// Softmax and normalisations along lines of n elements (or, FACTORS, what normalises them): a team of TEAM threads per line.
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

// V elements at once; lines of at most TEAM * V * HELD elements stay in registers (HELD > 0), else they are read again.
template <int TEAM, int V, int HELD> DEVICE void line(const P& p) {
    __shared__ C parts[8];
    u32 index = TEAM == 32 ? blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32 : blockIdx.x;
    u32 me = TEAM == 32 ? threadIdx.x & 31 : threadIdx.x;
    if (index >= p.lines) return;
    u32 outer = divide(index, p.inner), in = index - outer * p.inner.divisor;
    i64 base = (i64)outer * p.inner.divisor * p.n + in;
    const TX* x = p.x + base;
    TY* y = p.y + base;
    // Vectors that no kernel writes are there before the kernels before this one have ended.
    Pack<f32, V> scale[HELD > 0 ? HELD : 1], bias[HELD > 0 ? HELD : 1];
    auto vectors = [&](u32 i, int h) {
        if (p.scale) scale[h] = *(const Pack<f32, V>*)(p.scale + i);
        if (p.bias) bias[h] = *(const Pack<f32, V>*)(p.bias + i);
    };
    if (HELD && VECTORS_FIXED) {
        PRAGMA_UNROLL for (int h = 0; h < HELD; h++) if ((h * TEAM + me) * V < p.n) vectors((h * TEAM + me) * V, h);
    }
    wait_for_kernels_before();
    auto load = [&](u32 i) {
        Pack<TX, V> v;
        if (V > 1) v = *(const Pack<TX, V>*)(x + i);
        else v.at[0] = x[(i64)i * p.step];
        return v;
    };
    Pack<TX, V> held[HELD > 0 ? HELD : 1];
    if (HELD) {
        PRAGMA_UNROLL for (int h = 0; h < HELD; h++) if ((h * TEAM + me) * V < p.n) held[h] = load((h * TEAM + me) * V);
    }
    auto packs = [&](auto f) {
        if (HELD) {
            PRAGMA_UNROLL for (int h = 0; h < HELD; h++) if ((h * TEAM + me) * V < p.n) f(held[h], (h * TEAM + me) * V, h);
        } else {
            for (u32 i = me * V; i < p.n; i += TEAM * V) f(load(i), i, 0);
        }
    };
    auto each = [&](auto f) {
        packs([&](const Pack<TX, V>& v, u32, int) { PRAGMA_UNROLL for (int j = 0; j < V; j++) f(get<C>(v.at[j])); });
    };
    // f gives the j-th result of a pack.
    auto write = [&](const Pack<TX, V>& v, u32 i, auto f) {
        Pack<TY, V> out;
        PRAGMA_UNROLL for (int j = 0; j < V; j++) out.at[j] = put<TY>(f(get<C>(v.at[j]), j));
        if (V > 1) *(Pack<TY, V>*)(y + i) = out;
        else y[(i64)i * p.step] = out.at[0];
    };
#if SOFTMAX
    C top = -(C)INFINITE_F32;
    each([&](C v) { top = v > top || v != v ? v : top; });
    top = team_max<TEAM>(top, parts);
    C sum = 0;
    each([&](C v) { sum += EXP(v - top); });
    sum = team_sum<TEAM>(sum, parts);
#if LOG
    C log = LOGARITHM(sum);
    packs([&](const Pack<TX, V>& v, u32 i, int) { write(v, i, [&](C x, int) { return x - top - log; }); });
#else
    C factor = 1 / sum;
    packs([&](const Pack<TX, V>& v, u32 i, int) { write(v, i, [&](C x, int) { return EXP(x - top) * factor; }); });
#endif
#else
    C mean = 0;
#if CENTER
    each([&](C v) { mean += v; });
    mean = team_sum<TEAM>(mean, parts) / p.n;
#endif
    C square = 0;
    each([&](C v) { square += (v - mean) * (v - mean); });
    square = team_sum<TEAM>(square, parts) / p.n;
    C factor = 1 / SQUARE_ROOT(square + p.epsilon);
#if FACTORS
    // What normalises the line, and not the line.
    if (me == 0) {
        p.y[index * 2] = put<TY>(factor);
        p.y[index * 2 + 1] = put<TY>(-mean * factor);
    }
#else
    packs([&](const Pack<TX, V>& v, u32 i, int h) {
        if (!HELD || !VECTORS_FIXED) vectors(i, h);
        write(v, i, [&](C x, int j) {
            C r = (x - mean) * factor;
            if (p.scale) r *= scale[h].at[j];
            if (p.bias) r += bias[h].at[j];
            return r;
        });
    });
#endif
#endif
}

KERNEL_LATE(256, 1, warp_any, P) { line<32, 1, 0>(p); }
KERNEL_LATE(256, 1, warp_held, P) { line<32, 8, 4>(p); }
KERNEL_LATE(256, 1, block_any, P) { line<256, 1, 0>(p); }
KERNEL_LATE(256, 1, block_packs, P) { line<256, 8, 0>(p); }
KERNEL_LATE(128, 1, block_held, P) { line<128, 8, 1>(p); }
