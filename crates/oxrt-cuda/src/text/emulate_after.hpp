// The emulator's instructions that need the element types.
static float half_to_float(unsigned short h) {
    unsigned sign = (unsigned)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    if (exponent == 31) return float_of(sign | 0x7f800000 | fraction << 13);
    if (exponent == 0) { float x = (float)fraction * 5.9604644775390625e-8f; return sign ? -x : x; }
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}
static unsigned short double_to_half(double x) {
    unsigned short sign = __builtin_signbit(x) ? 0x8000 : 0;
    if (x != x) return 0x7e00;
    double a = fabs(x);
    if (a >= 65520.0) return sign | 0x7c00;
    if (a < 6.103515625e-5) return sign | (unsigned short)rint(a * 16777216.0);
    int e; double m = __builtin_frexp(a, &e);
    unsigned q = (unsigned)rint(m * 2048.0);
    if (q == 2048) { q = 1024; e++; }
    return sign | (unsigned short)((e + 14) << 10 | (q & 1023));
}
static unsigned short float_to_bfloat(float x) {
    unsigned b = bits_of(x);
    if (x != x) return 0x7fff;
    return (unsigned short)((b + 0x7fff + (b >> 16 & 1)) >> 16);
}
static inline f32 widen(f16 x) { return half_to_float(x.bits); }
static inline f32 widen(bf16 x) { return float_of((u32)x.bits << 16); }
static inline f16 narrow_f16(f64 x) { return f16{double_to_half(x)}; }
static inline f16 narrow_f16(f32 x) { return f16{double_to_half((f64)x)}; }
static inline bf16 narrow_bf16(f32 x) { return bf16{float_to_bfloat(x)}; }
static inline u32 pack_f16(f32 lo, f32 hi) { return narrow_f16(lo).bits | (u32)narrow_f16(hi).bits << 16; }
static inline u32 pack_bf16(f32 lo, f32 hi) { return narrow_bf16(lo).bits | (u32)narrow_bf16(hi).bits << 16; }
static inline u32 high_product(u32 a, u32 b) { return (u32)((u64)a * b >> 32); }
template <class H> static inline u32 max_of_halves(u32 a, u32 b) {
    u32 y = 0;
    for (int i = 0; i < 32; i += 16) {
        H x = (H)(a >> i), z = (H)(b >> i);
        y |= (u32)(u16)(x > z ? x : z) << i;
    }
    return y;
}
static inline u32 max_halves(u32 a, u32 b) { return max_of_halves<u16>(a, b); }
static inline u32 max_halves_signed(u32 a, u32 b) { return max_of_halves<i16>(a, b); }
static inline f32 fast_exp(f32 x) { return expf(x); }
static inline f32 fast_recip(f32 x) { return 1 / x; }
static inline f32 short_tanh(f32 x) { return tanhf(x); }
static inline f32 fast_exp2(f32 x) { return exp2f(x); }
// A GPU takes no other addresses.
static inline void aligned(const void* a, const void* b, unsigned to) { if (((unsigned long)a | (unsigned long)b) & (to - 1)) abort(); }
static inline void copy_async(void* to, const void* from, bool valid) { aligned(to, valid ? from : to, 16); if (valid) memcpy(to, from, 16); else memset(to, 0, 16); }
static inline void copy_async_8(void* to, const void* from, bool valid) { aligned(to, valid ? from : to, 8); if (valid) memcpy(to, from, 8); else memset(to, 0, 8); }
static inline void copy_async_commit() {}
template <int N> static inline void copy_async_wait() {}
template <class T> static T exchange(T x, unsigned from) {
    using namespace emulator;
    memcpy(slots[warp()][lane()], &x, sizeof(T));
    warp_barrier();
    T y; memcpy(&y, slots[warp()][from], sizeof(T));
    warp_barrier();
    return y;
}
template <class T> static T lane_xor(T x, int mask) { return exchange(x, emulator::lane() ^ mask); }
static f32 lane_get(f32 x, int lane) { return exchange(x, lane & 31); }
static u32 warp_votes(bool vote) {
    using namespace emulator;
    slots[warp()][lane()][0] = vote;
    warp_barrier();
    u32 votes = 0;
    for (unsigned l = 0; l < lanes(); l++) votes |= (u32)slots[warp()][l][0] << l;
    warp_barrier();
    return votes;
}
static inline u32 count_bits(u32 x) { return __builtin_popcount(x); }
static inline u32 lowest_bit(u32 x) { return __builtin_ctz(x); }
static inline f32 rounded_product(f32 x, f32 y) { return x * y; }
static void load_matrices_by(u32 (&r)[4], const void* row, bool turned) {
    using namespace emulator;
    memcpy(slots[warp()][lane()], &row, 8);
    warp_barrier();
    for (int m = 0; m < 4; m++) {
        u16 pair[2];
        for (int i = 0; i < 2; i++) {
            int r8 = turned ? (lane() % 4) * 2 + i : lane() / 4, c8 = turned ? lane() / 4 : (lane() % 4) * 2 + i;
            const u16* address; memcpy(&address, slots[warp()][m * 8 + r8], 8);
            pair[i] = address[c8];
        }
        r[m] = pair[0] | (u32)pair[1] << 16;
    }
    warp_barrier();
}
static inline void load_matrices(u32 (&r)[4], const void* row) { load_matrices_by(r, row, false); }
static inline void load_matrices_turned(u32 (&r)[4], const void* row) { load_matrices_by(r, row, true); }
template <class T> static void multiply_add_bytes(i32 (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, T) {
    using namespace emulator;
    u32 mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    memcpy(slots[warp()][lane()], mine, 24);
    warp_barrier();
    auto byte = [](int lane, int word, int i) { return slots[warp()][lane][4 * word + i]; };
    for (int i = 0; i < 4; i++) {
        int row = lane() / 4 + (i >> 1) * 8, column = (lane() % 4) * 2 + (i & 1);
        // a: lane holds rows lane/4 (+8), bytes 4(lane%4) on (+16); b: column lane/4, bytes 4(lane%4) on (+16).
        for (int k = 0; k < 32; k++) {
            int from = k % 16 / 4;
            T x = (T)byte(row % 8 * 4 + from, (row >= 8) + 2 * (k >= 16), k & 3);
            i8 y = (i8)byte(column * 4 + from, 4 + (k >= 16), k & 3);
            d[i] += (i32)x * (i32)y;
        }
    }
    warp_barrier();
}
static inline u32 rounded_factor(u32 x) { return (x & 0x7fffffffu) > 0x7f800000u ? x : (x + 0x1000u) & 0xffffe000u; }
// A factor as matrix units take it: of single precision the upper bits alone.
template <class T> static f32 factor(T x) { return widen(x); }
static inline f32 factor(f32 x) { u32 bits; memcpy(&bits, &x, 4); bits &= 0xffffe000u; memcpy(&x, &bits, 4); return x; }
template <class T> static void multiply_add(f32 (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, T) {
    using namespace emulator;
    u32 mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    memcpy(slots[warp()][lane()], mine, 24);
    warp_barrier();
    auto word = [](int lane, int i) { u32 w; memcpy(&w, slots[warp()][lane] + 4 * i, 4); return w; };
    auto half = [](u32 w, int i) { T x; x.bits = (u16)(w >> 16 * i); return widen(x); };
    for (int i = 0; i < 4; i++) {
        int row = lane() / 4 + (i >> 1) * 8, column = (lane() % 4) * 2 + (i & 1);
        f32 sum = d[i];
        for (int k = 0; k < 16; k++) {
            // a: lane holds rows lane/4 (+8), columns 2(lane%4) (+1, +8); b: column lane/4, rows 2(lane%4) (+1, +8).
            u32 wa = word(row % 8 * 4 + k % 8 / 2, (row >= 8) + 2 * (k >= 8));
            u32 wb = word(column * 4 + k % 8 / 2, 4 + (k >= 8));
            sum = fmaf(half(wa, k & 1), half(wb, k & 1), sum);
        }
        d[i] = sum;
    }
    warp_barrier();
}
// d[16][8] += a[16][8] b[8][8] of single precision.
static inline void multiply_add(f32 (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, f32) {
    using namespace emulator;
    u32 mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    memcpy(slots[warp()][lane()], mine, 24);
    warp_barrier();
    auto number = [](int lane, int i) { f32 x; memcpy(&x, slots[warp()][lane] + 4 * i, 4); return factor(x); };
    for (int i = 0; i < 4; i++) {
        int row = lane() / 4 + (i >> 1) * 8, column = (lane() % 4) * 2 + (i & 1);
        // a: lane holds rows lane/4 (+8), column lane%4 (+4); b: column lane/4, row lane%4 (+4).
        for (int k = 0; k < 8; k++) d[i] = fmaf(number(row % 8 * 4 + k % 4, (row >= 8) + 2 * (k >= 4)), number(column * 4 + k % 4, 4 + (k >= 4)), d[i]);
    }
    warp_barrier();
}
static inline void let_next_start() {}
static inline void wait_for_kernels_before() {}
static inline u32 shared_address(const void* p) { return (u32)(u64)p; }
template <class T> static inline T load_l2(const T* p) { return *p; }
template <int N> static inline void barrier_of(u32 id) { emulator::barrier_of_some(id, N); }
template <int N> static inline void registers_up() {}
template <int N> static inline void registers_down() {}
static inline void fence_async() {}
// A barrier's word: arrivals of a phase, those still missing, bytes still missing, and the phase's parity.
struct BarrierWord { u16 count, missing; i32 bytes : 31; u32 parity : 1; };
static void barrier_moves(BarrierWord* b) {
    if (b->missing == 0 && b->bytes == 0) { b->missing = b->count; b->parity ^= 1; }
}
static inline void barrier_init(u64* b, u32 count) { *(BarrierWord*)b = BarrierWord{(u16)count, (u16)count, 0, 0}; }
static inline void barrier_init_done() {}
static inline void barrier_arrive(u64* b) { auto w = (BarrierWord*)b; w->missing--; barrier_moves(w); }
static inline void barrier_expect(u64* b, u32 bytes) { ((BarrierWord*)b)->bytes += bytes; barrier_arrive(b); }
static inline void barrier_wait(u64* b, u32 parity) { while (((volatile BarrierWord*)b)->parity == parity) emulator::yield(); }
// What the emulator's driver writes into a TensorMap (gpu.rs).
struct TensorPath { u64 base; u32 dims[4]; u64 strides[3]; u16 box[3]; i16 low[2], high[2]; u16 steps[2]; u16 pixels; };
static void copied(u64* b, u32 bytes) { ((BarrierWord*)b)->bytes -= bytes; barrier_moves((BarrierWord*)b); }
// One row of 64 elements to its swizzled place.
static void copy_row(void* to, u32 row, const TensorPath& t, i64 offset, i32 x, bool inside) {
    for (int i = 0; i < 64; i++) {
        u16* at = (u16*)((u8*)to + row * 128 + (((i / 8) ^ (row & 7)) << 4) + i % 8 * 2);
        *at = inside && x + i >= 0 && x + i < (i32)t.dims[0] ? ((const u16*)(t.base + offset))[x + i] : 0;
    }
}
static inline void copy_tile_3(void* to, const TensorMap* map, i32 x, i32 y, i32 z, u64* b) {
    const TensorPath& t = *(const TensorPath*)map;
    u32 row = 0;
    for (i32 k = 0; k < t.box[2]; k++) for (i32 j = 0; j < t.box[1]; j++) {
        bool inside = y + j >= 0 && y + j < (i32)t.dims[1] && z + k >= 0 && z + k < (i32)t.dims[2];
        copy_row(to, row++, t, (i64)(y + j) * t.strides[0] + (i64)(z + k) * t.strides[1], x, inside);
    }
    copied(b, row * 128);
}
static inline void copy_tile_2(void* to, const TensorMap* map, i32 x, i32 y, u64* b) { copy_tile_3(to, map, x, y, 0, b); }
static inline void copy_windows(void* to, const TensorMap* map, i32 c, i32 w, i32 h, i32 n, i32 move_w, i32 move_h, u64* b) {
    const TensorPath& t = *(const TensorPath*)map;
    for (u32 row = 0; row < t.pixels; row++) {
        i32 x = w + move_w, y = h + move_h;
        bool inside = x >= 0 && x < (i32)t.dims[1] && y >= 0 && y < (i32)t.dims[2] && n < (i32)t.dims[3];
        copy_row(to, row, t, (i64)x * t.strides[0] + (i64)y * t.strides[1] + (i64)n * t.strides[2], c, inside);
        w += t.steps[0];
        if (w > (i32)t.dims[1] - 1 + t.high[0]) {
            w = t.low[0];
            h += t.steps[1];
            if (h > (i32)t.dims[2] - 1 + t.high[1]) { h = t.low[1]; n++; }
        }
    }
    copied(b, t.pixels * 128);
}
static void store_now(const TensorMap* map, i32 x, i32 y, const void* from) {
    const TensorPath& t = *(const TensorPath*)map;
    for (u32 row = 0; row < t.box[1] && y + row < t.dims[1]; row++)
        for (u32 i = 0; i < 64 && x + i < t.dims[0]; i++)
            ((u16*)(t.base + (u64)(y + row) * t.strides[0]))[x + i] = *(const u16*)((const u8*)from + row * 128 + (((i / 8) ^ (row & 7)) << 4) + i % 8 * 2);
}
// Stores read shared memory as late as they may: when somebody waits for them, or the thread ends. Whoever writes there too
// early shows in the result.
struct Store { const TensorMap* map; i32 x, y; const void* from; u32 group; };
static struct Stores { Store list[64]; u32 first, end, group; } stores[1024];
static void store_until(u32 group) {
    Stores& s = stores[threadIdx.x];
    for (; s.first != s.end && s.list[s.first % 64].group < group; s.first++) {
        const Store& one = s.list[s.first % 64];
        store_now(one.map, one.x, one.y, one.from);
    }
}
static inline void store_tile_2(const TensorMap* map, i32 x, i32 y, const void* from) {
    Stores& s = stores[threadIdx.x];
    if (s.end - s.first == 64) abort();
    s.list[s.end++ % 64] = Store{map, x, y, from, s.group};
    emulator::at_end = [] { store_until(~0u); };
}
static inline void store_commit() { stores[threadIdx.x].group++; }
template <int N> static inline void store_wait_read() { u32 group = stores[threadIdx.x].group; store_until(group > N ? group - N : 0); }
