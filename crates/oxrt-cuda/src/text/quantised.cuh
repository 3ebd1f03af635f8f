// The end of a product of quantised tensors: activation, a rounding before the residual, the last rounding, tables of bytes.
// Adding this leaves an integer in the lowest bits of a number.
#define INTEGERS 12582912.0f

// The nearest integer of v times the inverse of a scale, plus INTEGERS, between bounds that have it too. (NaN becomes the least.)
DEVICE f32 rounded(f32 v, f32 inverse, f32 least, f32 most) { return fminf(fmaxf(fmaf(v, inverse, INTEGERS), least), most); }
DEVICE i32 integer_of(f32 rounded) { return (i32)(bits_of(rounded) - 0x4b400000u); }
// A small integer as a number, and that plus INTEGERS.
DEVICE f32 plus_integers(i32 i) { return float_of((u32)(i + 0x4b400000)); }
DEVICE f32 small(i32 i) { return plus_integers(i) - INTEGERS; }

#if SMALL_FLOATS
// A number between bounds, where they are not those of the type. (NaN stays.)
DEVICE f32 limited(f32 v, f32 least, f32 most) {
    if (LIMITED_LOW) v = max_or_nan(v, least);
    if (LIMITED_HIGH) v = -max_or_nan(-v, -most);
    return v;
}
// The nearest float of 8 bits of v times the inverse of a scale, between bounds.
DEVICE f8e4m3 rounded_small(f32 v, f32 inverse, f32 least, f32 most) { return narrow_f8(limited(v * inverse, least, most)); }
#endif

// `residual_at`: where the second operand lies; null pointers where there is none.
template <class N> DEVICE TY end(const N& p, f32 v, const TR* residual, i64 residual_at, const TT* table, const TM* middle) {
    v = activate(v);
#if SMALL_FLOATS
    if (residual) {
        if (MIDDLE_ROUNDED) v = get<f32>(rounded_small(v, p.number[5], p.number[7], p.number[8])) * p.number[0];
        v += get<f32>(residual[residual_at]) * p.number[2];
    }
    return rounded_small(v, p.number[6], p.number[9], p.number[10]);
#elif QUANTISED
    if (residual) {
        const f32 q = rounded(v, p.number[5], p.number[7], p.number[8]);
        f32 own = (q - INTEGERS) * p.number[0];
        if (middle) own = small(get<i32>(middle[(integer_of(q) + p.whole[2]) & 255]) - p.whole[5]) * p.number[1];
        v = own + small(get<i32>(residual[residual_at]) - p.whole[6]) * p.number[2];
    }
    f32 last = rounded(v, p.number[6], p.number[9], p.number[10]);
#if LINE
    // The table is a line between limits.
    last = rounded(last - INTEGERS, p.number[3], plus_integers(p.whole[8]), plus_integers(p.whole[9]));
    return put<TY>(integer_of(last) + p.whole[7]);
#else
    const i32 q = integer_of(last) + p.whole[7];
    return table ? FROM_TABLE(table[q & 255]) : put<TY>(q);
#endif
#else
    return put<TY>(v);
#endif
}
