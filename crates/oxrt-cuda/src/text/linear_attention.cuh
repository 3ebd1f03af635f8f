// Attention by a state per head [DK, values]: each step decays it, takes out what it holds of the key (DELTA), adds the new value, and
// asks it. Columns of the state do not meet: four threads keep one in registers over all steps, a warp eight neighbours.
struct P {
    const T* q; const T* k; const T* v; const S* past; const TD* decay; const TD* rate; T* y; S* state;
    // Key heads, heads of queries of each, steps, sizes of values; numbers of decay and rate of a step.
    u32 heads, share, steps, size, decay_width, rate_width;
    f32 scale;
};
#define ROWS ((DK + 3) / 4)

// Sum over the four threads of a column.
DEVICE f32 column_sum(f32 x) { x += lane_xor(x, 8); return x + lane_xor(x, 16); }

KERNEL(128, attend, P) {
    __shared__ f32 key[2][DK], query[2][DK], decays[2][DK];
    const u32 lane = threadIdx.x & 31, part = lane >> 3, column = blockIdx.x * 32 + (threadIdx.x >> 5) * 8 + (lane & 7);
    const u32 head = blockIdx.y, batch = blockIdx.z;
    const bool there = column < p.size;
    const i64 base = ((i64)batch * p.heads + head) * DK * p.size + column;
    f32 s[ROWS];
    PRAGMA_UNROLL for (int i = 0; i < ROWS; i++) {
        const u32 row = i * 4 + part;
        s[i] = there && p.past && row < DK ? get<f32>(p.past[base + (i64)row * p.size]) : 0.0f;
    }
    u32 turn = 0;
    for (u32 t = 0; t < p.steps; t++) {
        const i64 step = (i64)batch * p.steps + t;
        turn ^= 1;
        for (u32 i = threadIdx.x; i < DK; i += 128) {
            key[turn][i] = get<f32>(p.k[(step * p.heads + head) * DK + i]);
#if GATED
            decays[turn][i] = expf(get<f32>(p.decay[step * p.decay_width + (p.decay_width == p.heads ? head : head * DK + i)]));
#endif
        }
        __syncthreads();
        f32 value = there ? get<f32>(p.v[(step * p.heads + head) * p.size + column]) : 0.0f;
        f32 found = 0;
        PRAGMA_UNROLL for (int i = 0; i < ROWS; i++) {
            const u32 row = i * 4 + part;
            if (row >= DK) continue;
#if GATED
            s[i] *= decays[turn][row];
#endif
            found += s[i] * key[turn][row];
        }
#if DELTA
        value = get<f32>(p.rate[step * p.rate_width + (p.rate_width == 1 ? 0 : head)]) * (value - column_sum(found));
#endif
        PRAGMA_UNROLL for (int i = 0; i < ROWS; i++) if (i * 4 + part < DK) s[i] += key[turn][i * 4 + part] * value;
        for (u32 h = 0; h < p.share; h++) {
            const u32 asks = head * p.share + h, place = h & 1;
            for (u32 i = threadIdx.x; i < DK; i += 128) query[place][i] = get<f32>(p.q[(step * p.heads * p.share + asks) * DK + i]);
            __syncthreads();
            f32 sum = 0;
            PRAGMA_UNROLL for (int i = 0; i < ROWS; i++) if (i * 4 + part < DK) sum += s[i] * query[place][i * 4 + part];
            sum = column_sum(sum);
            if (there && part == 0) p.y[(step * p.heads * p.share + asks) * p.size + column] = put<T>(p.scale * sum);
        }
    }
    if (p.state && there)
        PRAGMA_UNROLL for (int i = 0; i < ROWS; i++) {
            const u32 row = i * 4 + part;
            if (row < DK) p.state[base + (i64)row * p.size] = put<S>(s[i]);
        }
}
