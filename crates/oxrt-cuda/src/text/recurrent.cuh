// Recurrent layers, step by step: the input's part of the gates is there; a warp makes one hidden unit of four sequences.
//
// States are in single precision and twice there: a step reads one and writes the other. Gates lie as [direction][place of
// the input][gate][unit], with the biases of the input in them.
struct P {
    const f32* gates; const TR* r; const TB* b; const TP* peepholes; const i32* lengths; const f32* h; f32* next; f32* c;
    const TH* h_start; const TC* c_start; TY* y; TY* h_end; TY* c_end;
    // What comes between the two halves of a step of GRU: update gates, and states that were reset.
    f32* update; f32* reset;
    u32 directions, batch, hidden, steps, step, backwards;
    // Distances of steps and sequences in x, of steps, directions and sequences in y, and of the latter two in states.
    i32 x_step, x_batch, y_step, y_direction, y_batch, s_direction, s_batch;
    f32 clip;
};

DEVICE f32 limited(const P& p, f32 x) { return x < -p.clip ? -p.clip : x > p.clip ? p.clip : x; }

ACTIVATIONS

// Sums over the hidden state for one unit: rows `unit` of G gates from `first` on, for up to 4 sequences.
template <int G> DEVICE void recur(const P& p, const f32* state, u32 d, u32 unit, u32 b0, u32 first, f32 (&sum)[G][4]) {
    const u32 lane = threadIdx.x & 31;
    const u64 rows = (u64)GATES * p.hidden;
    PRAGMA_UNROLL for (int g = 0; g < G; g++) PRAGMA_UNROLL for (int b = 0; b < 4; b++) sum[g][b] = 0;
    const f32* h = state + ((u64)d * p.batch + b0) * p.hidden;
    for (u32 k = lane; k < p.hidden; k += 32) {
        f32 v[4];
        PRAGMA_UNROLL for (int b = 0; b < 4; b++) v[b] = b0 + b < p.batch ? h[(u64)b * p.hidden + k] : 0.0f;
        PRAGMA_UNROLL for (int g = 0; g < G; g++) {
            f32 w = get<f32>(p.r[(d * rows + (u64)(first + g) * p.hidden + unit) * p.hidden + k]);
            PRAGMA_UNROLL for (int b = 0; b < 4; b++) sum[g][b] += w * v[b];
        }
    }
    PRAGMA_UNROLL for (int g = 0; g < G; g++) {
        f32 bias = p.b ? get<f32>(p.b[d * 2 * rows + rows + (u64)(first + g) * p.hidden + unit]) : 0.0f;
        PRAGMA_UNROLL for (int b = 0; b < 4; b++) sum[g][b] = warp_sum(sum[g][b]) + bias;
    }
}

struct Place { u32 d, unit, b0; bool valid; };

DEVICE Place place(const P& p) {
    Place place;
    u32 warp = blockIdx.x * 8 + threadIdx.x / 32, chunks = (p.batch + 3) / 4;
    place.unit = warp % p.hidden;
    u32 q = warp / p.hidden;
    place.b0 = q % chunks * 4;
    place.d = q / chunks;
    place.valid = place.d < p.directions;
    return place;
}

// The step of the sequence, or -1 when it is over.
DEVICE i32 time_of(const P& p, u32 d, u32 b) {
    u32 n = p.lengths ? (u32)p.lengths[b] : p.steps;
    if (n > p.steps) n = p.steps;
    if (p.step >= n) return -1;
    return p.backwards >> d & 1 ? n - 1 - p.step : p.step;
}

DEVICE f32 from_input(const P& p, u32 d, i32 t, u32 b, u32 gate, u32 unit) {
    i64 row = (i64)t * p.x_step + (i64)b * p.x_batch;
    return p.gates[(((i64)d * p.steps * p.batch + row) * GATES + gate) * p.hidden + unit];
}

DEVICE void write(const P& p, u32 d, i32 t, u32 b, u32 unit, f32 h) {
    p.next[((u64)d * p.batch + b) * p.hidden + unit] = h;
    if (t >= 0 && p.y) p.y[(i64)t * p.y_step + (i64)d * p.y_direction + (i64)b * p.y_batch + unit] = put<TY>(h);
}

KERNEL(256, step, P) {
    const Place at = place(p);
    if (!at.valid) return;
    const u32 lane = threadIdx.x & 31;
    f32 sum[GATES][4];
    recur<GATES>(p, p.h, at.d, at.unit, at.b0, 0, sum);
    // Lane b finishes sequence b.
    if (lane >= 4 || at.b0 + lane >= p.batch) return;
    const u32 b = at.b0 + lane, d = at.d, unit = at.unit;
    const u64 own = ((u64)d * p.batch + b) * p.hidden + unit;
    f32 r[GATES];
    PRAGMA_UNROLL for (int g = 0; g < GATES; g++) {
        r[g] = 0;
        PRAGMA_UNROLL for (int i = 0; i < 4; i++) if (i == (int)lane) r[g] = sum[g][i];
    }
    const i32 t = time_of(p, d, b);
    if (t < 0) { write(p, d, t, b, unit, p.h[own]); return; }
    f32 x[GATES];
    PRAGMA_UNROLL for (int g = 0; g < GATES; g++) x[g] = from_input(p, d, t, b, g, unit);
#if GATES == 4
    f32 c = p.c[own], pi = 0, po = 0, pf = 0;
    if (p.peepholes) {
        const TP* peep = p.peepholes + (u64)d * 3 * p.hidden + unit;
        pi = get<f32>(peep[0]); po = get<f32>(peep[p.hidden]); pf = get<f32>(peep[2 * p.hidden]);
    }
    f32 in = act0(d, limited(p, x[0] + r[0] + pi * c));
    f32 forget = FLAG ? 1 - in : act0(d, limited(p, x[2] + r[2] + pf * c));
    c = forget * c + in * act1(d, limited(p, x[3] + r[3]));
    p.c[own] = c;
    write(p, d, t, b, unit, act0(d, limited(p, x[1] + r[1] + po * c)) * act2(d, limited(p, c)));
#elif GATES == 3
    f32 update = act0(d, limited(p, x[0] + r[0])), reset = act0(d, limited(p, x[1] + r[1]));
    write(p, d, t, b, unit, (1 - update) * act1(d, limited(p, x[2] + r[2] * reset)) + update * p.h[own]);
#else
    write(p, d, t, b, unit, act0(d, limited(p, x[0] + r[0])));
#endif
}

#if GATES == 3
// GRU whose states are reset before the product: update gates and reset states, then the rest of the step.
KERNEL(256, step_gates, P) {
    const Place at = place(p);
    if (!at.valid) return;
    const u32 lane = threadIdx.x & 31;
    f32 sum[2][4];
    recur<2>(p, p.h, at.d, at.unit, at.b0, 0, sum);
    if (lane >= 4 || at.b0 + lane >= p.batch) return;
    const u32 b = at.b0 + lane, d = at.d;
    const u64 own = ((u64)d * p.batch + b) * p.hidden + at.unit;
    f32 r[2];
    PRAGMA_UNROLL for (int g = 0; g < 2; g++) {
        r[g] = 0;
        PRAGMA_UNROLL for (int i = 0; i < 4; i++) if (i == (int)lane) r[g] = sum[g][i];
    }
    const i32 t = time_of(p, d, b);
    if (t < 0) { p.reset[own] = 0; p.update[own] = 0; return; }
    p.update[own] = act0(d, limited(p, from_input(p, d, t, b, 0, at.unit) + r[0]));
    p.reset[own] = p.h[own] * act0(d, limited(p, from_input(p, d, t, b, 1, at.unit) + r[1]));
}

KERNEL(256, step_rest, P) {
    const Place at = place(p);
    if (!at.valid) return;
    const u32 lane = threadIdx.x & 31;
    f32 sum[1][4];
    recur<1>(p, p.reset, at.d, at.unit, at.b0, 2, sum);
    if (lane >= 4 || at.b0 + lane >= p.batch) return;
    const u32 b = at.b0 + lane, d = at.d;
    const u64 own = ((u64)d * p.batch + b) * p.hidden + at.unit;
    f32 r = 0;
    PRAGMA_UNROLL for (int i = 0; i < 4; i++) if (i == (int)lane) r = sum[0][i];
    const i32 t = time_of(p, d, b);
    if (t < 0) { write(p, d, t, b, at.unit, p.h[own]); return; }
    f32 update = p.update[own];
    f32 fresh = act1(d, limited(p, from_input(p, d, t, b, 2, at.unit) + r));
    write(p, d, t, b, at.unit, (1 - update) * fresh + update * p.h[own]);
}
#endif

// First states, and zeros behind the ends of short sequences.
KERNEL(256, begin, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x, unit = index % p.hidden, q = index / p.hidden;
    u32 b = q % p.batch, d = q / p.batch;
    if (d >= p.directions) return;
    i64 from = (i64)d * p.s_direction + (i64)b * p.s_batch + unit;
    p.next[index] = p.h_start ? get<f32>(p.h_start[from]) : 0.0f;
    p.c[index] = p.c_start ? get<f32>(p.c_start[from]) : 0.0f;
    if (!p.lengths || !p.y) return;
    for (i64 t = p.lengths[b] < 0 ? 0 : p.lengths[b]; t < (i64)p.steps; t++)
        p.y[t * p.y_step + (i64)d * p.y_direction + (i64)b * p.y_batch + unit] = put<TY>(0.0f);
}

KERNEL(256, end, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x, unit = index % p.hidden, q = index / p.hidden;
    u32 b = q % p.batch, d = q / p.batch;
    if (d >= p.directions) return;
    i64 to = (i64)d * p.s_direction + (i64)b * p.s_batch + unit;
    if (p.h_end) p.h_end[to] = put<TY>(p.h[index]);
    if (p.c_end) p.c_end[to] = put<TY>(p.c[index]);
}
