// The end of a product of quantised tensors: activation, a rounding before the residual, the last rounding, tables of bytes.
DEVICE i32 rounded(f32 v, f32 scale, i32 zero, i32 low, i32 high) {
    f32 q = rintf(v / scale);
    // Far outside of every byte; NaN is zero.
    i32 i = q != q ? 0 : q > 1e6f ? 1000000 : q < -1e6f ? -1000000 : (i32)q;
    i += zero;
    return i < low ? low : i > high ? high : i;
}

// `residual_at`: where the second operand lies; null pointers where there is none.
template <class N> DEVICE TY end(const N& p, f32 v, const TR* residual, i64 residual_at, const TT* table, const TM* middle) {
    v = activate(v);
#if QUANTISED
    if (residual) {
        i32 q = rounded(v, p.number[0], p.whole[2], p.whole[3], p.whole[4]);
        f32 own = (f32)(q - p.whole[2]) * p.number[0];
        if (middle) own = (f32)(get<i32>(middle[q & 255]) - p.whole[5]) * p.number[1];
        v = own + (f32)(get<i32>(residual[residual_at]) - p.whole[6]) * p.number[2];
    }
    i32 q = rounded(v, p.number[3], p.whole[7], p.whole[8], p.whole[9]);
    return table ? FROM_TABLE(table[q & 255]) : put<TY>(q);
#else
    return put<TY>(v);
#endif
}
