// Results that are made of their places: every thread makes one element.
#if TRILU
struct P { const E* x; const K* k; E* y; u32 count; Divider columns, rows; Status status; };
KERNEL(256, fill, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 line = divide(index, p.columns), column = index - line * p.columns.divisor;
    u32 row = line - divide(line, p.rows) * p.rows.divisor;
    i64 ahead = (i64)column - (i64)row, k = p.k ? (i64)*p.k : 0;
    p.y[index] = (UPPER ? ahead >= k : ahead <= k) ? p.x[index] : (E)0;
}
#elif ONE_HOT
struct P { const TI* hot; const void* depth; const E* values; E* y; u32 count; Divider depths, inner; Status status; };
KERNEL(256, fill, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 q = divide(index, p.inner), in = index - q * p.inner.divisor;
    u32 outer = divide(q, p.depths), k = q - outer * p.depths.divisor;
    i64 wanted = put<i64>(get<C>(p.hot[(i64)outer * p.inner.divisor + in]));
    if (wanted < 0) wanted += p.depths.divisor;
    p.y[index] = p.values[wanted == (i64)k ? 1 : 0];
}
#elif RANGE
struct P { const T* start; const T* limit; const T* step; T* y; u32 count; Status status; };
KERNEL(256, fill, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index < p.count) p.y[index] = put<T>((C)(get<C>(*p.start) + (C)index * get<C>(*p.step)));
}
#elif EYE
struct P { const void* x; E* y; u32 count; Divider columns; i32 k; Status status; };
KERNEL(256, fill, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 row = divide(index, p.columns), column = index - row * p.columns.divisor;
    p.y[index] = (i64)column == (i64)row + p.k ? (E)ONE : (E)0;
}
#else
struct P { const void* shape; E* y; u32 count; u32 low, high; Status status; };
KERNEL(256, fill, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index < p.count) p.y[index] = (E)((u64)p.high << 32 | p.low);
}
#endif
