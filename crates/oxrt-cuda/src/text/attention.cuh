// Attention without a matrix of scores: softmax(scale q kT + mask) v with running maxima
// (Milakov and Gimelshein 2018; Dao et al., FlashAttention, 2022).
// A row that sees nothing is zeros: so passes have guarded it, and so ONNX defines it.
struct Place { i64 batch, head, row; };
struct P {
    const T* q; const T* k; const T* v; const M* mask; TY* y;
    Place qs, ks, vs, ys;
    i64 mask_step[4];
    i32 heads, share, queries, keys;
    // Key j is seen by query i when j <= i + shift; huge when all are.
    i32 shift;
    f32 scale, softcap;
};

// A score in units of the exponent that is taken of it: times log2(e), so that weights are powers of two.
#define LOG2E 1.4426950408889634f
DEVICE f32 score(const P& p, f32 s, M mask, i32 query, i32 key) {
#if SOFTCAP
    s = p.softcap * tanhf(s * p.scale / p.softcap) * LOG2E;
#else
    s *= p.scale * LOG2E;
#endif
#if MASK == 1
    s += get<f32>(mask) * LOG2E;
#elif MASK == 2
    if (!mask) s = -INFINITE_F32;
#endif
#if CAUSAL
    if (key > query + p.shift) s = -INFINITE_F32;
#endif
    return s;
}
// The mask of a score, where there is one.
DEVICE M mask_of(const P& p, i64 row, i32 key) {
#if MASK
    return p.mask[row + key * p.mask_step[3]];
#else
    return M();
#endif
}
