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
static inline f32 fast_exp(f32 x) { return expf(x); }
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
