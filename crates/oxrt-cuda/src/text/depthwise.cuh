// Depthwise convolution, channels last: a thread makes V channels of WIDE neighbouring pixels of a row.
struct P {
    const TX* x; const T* w; const f32* bias; const TR* residual; TY* y;
    u32 count; i32 channels, height, width, out_h, out_w;
    i32 kernel_h, kernel_w, pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w;
    Divider groups, columns, rows;
#if QUANTA
    const f32* scale; const TT* table; const TM* middle;
    i32 zero;
    i32 whole[12]; f32 number[11];
#endif
};

// Elements as numbers, less a zero point. (Sums of products of bytes are exact in single precision.) The unit that makes numbers of
// integers is slow: bytes become numbers in pairs. (Packs are given by value: by reference each element is loaded by itself.)
template <class E, int V> DEVICE void numbers(Pack<E, V> from, i32 zero, f32 (&to)[V]) {
    PRAGMA_UNROLL for (int j = 0; j < V; j++) to[j] = get<f32>(from.at[j]) - (QUANTA ? (f32)zero : 0.0f);
}
#if QUANTA
template <class E> DEVICE Pair two_numbers(u32 word, i32 zero, E) {
    const bool SIGNED = (E)-1 < (E)0;
    return bytes_less(word ^ (SIGNED ? 0x8080u : 0u), zero + (SIGNED ? 128 : 0));
}
DEVICE Pair two_numbers(u32 word, i32, f8e4m3 e) { return widen_two((u16)word, e); }
template <class E, int V> DEVICE void numbers_by_four(Pack<E, V> from, i32 zero, f32 (&to)[V]) {
    PRAGMA_UNROLL for (int j = 0; j < V; j += 4) {
        const u32 word = *(const u32*)(from.at + j);
        const Pair low = two_numbers(word & 0xffff, zero, E()), high = two_numbers(word >> 16, zero, E());
        to[j] = low.lo; to[j + 1] = low.hi; to[j + 2] = high.lo; to[j + 3] = high.hi;
    }
}
DEVICE void numbers(Pack<T, 4> from, i32 zero, f32 (&to)[4]) { numbers_by_four(from, zero, to); }
DEVICE void numbers(Pack<T, 8> from, i32 zero, f32 (&to)[8]) { numbers_by_four(from, zero, to); }
#if X_IS_NOT_T
DEVICE void numbers(Pack<TX, 4> from, i32 zero, f32 (&to)[4]) { numbers_by_four(from, zero, to); }
DEVICE void numbers(Pack<TX, 8> from, i32 zero, f32 (&to)[8]) { numbers_by_four(from, zero, to); }
#endif
#define ZERO p.zero
#else
#define ZERO 0
#endif

// With ROW, the kernel's width and the stride are those of the text: every pixel that a thread needs is read once, and its
// taps are held in registers for a row.
template <int V, int WIDE, bool ROW> DEVICE void run(const P& p) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 q = divide(index, p.groups), c = (index - q * p.groups.divisor) * V;
    u32 line = divide(q, p.columns), ow0 = (q - line * p.columns.divisor) * WIDE;
    u32 image = divide(line, p.rows), oh = line - image * p.rows.divisor;
    f32 acc[WIDE][V];
    PRAGMA_UNROLL for (int o = 0; o < WIDE; o++)
        PRAGMA_UNROLL for (int j = 0; j < V; j++) acc[o][j] = !QUANTA && p.bias ? p.bias[c + j] : 0.0f;
    for (i32 kh = 0; kh < p.kernel_h; kh++) {
        i32 ih = (i32)oh * p.stride_h - p.pad_h + kh * p.dilation_h;
        if ((u32)ih >= (u32)p.height) continue;
        const TX* row = p.x + ((i64)(image * p.height + ih) * p.width) * p.channels + c;
        if (ROW) {
            f32 taps[KERNEL_W][V];
            PRAGMA_UNROLL for (int kw = 0; kw < KERNEL_W; kw++) {
                numbers(*(const Pack<T, V>*)(p.w + (i64)(kh * KERNEL_W + kw) * p.channels + c), 0, taps[kw]);
            }
            i32 left = (i32)ow0 * STRIDE_W - p.pad_w;
            PRAGMA_UNROLL for (int i = 0; i < (WIDE - 1) * STRIDE_W + KERNEL_W; i++) {
                if ((u32)(left + i) >= (u32)p.width) continue;
                f32 v[V];
                numbers(*(const Pack<TX, V>*)(row + (i64)(left + i) * p.channels), ZERO, v);
                PRAGMA_UNROLL for (int o = 0; o < WIDE; o++) {
                    const int kw = i - o * STRIDE_W;
                    if (kw >= 0 && kw < KERNEL_W) {
                        PRAGMA_UNROLL for (int j = 0; j < V; j++) acc[o][j] += v[j] * taps[kw < 0 || kw >= KERNEL_W ? 0 : kw][j];
                    }
                }
            }
            continue;
        }
        for (i32 kw = 0; kw < p.kernel_w; kw++) {
            Pack<T, V> w = *(const Pack<T, V>*)(p.w + (i64)(kh * p.kernel_w + kw) * p.channels + c);
            PRAGMA_UNROLL for (int o = 0; o < WIDE; o++) {
                i32 iw = (i32)(ow0 + o) * p.stride_w - p.pad_w + kw * p.dilation_w;
                if ((u32)iw >= (u32)p.width) continue;
                f32 v[V];
                numbers(*(const Pack<TX, V>*)(row + (i64)iw * p.channels), ZERO, v);
                PRAGMA_UNROLL for (int j = 0; j < V; j++) acc[o][j] += v[j] * get<f32>(w.at[j]);
            }
        }
    }
    PRAGMA_UNROLL for (int o = 0; o < WIDE; o++) {
        if (ow0 + o >= p.out_w) break;
        i64 at = ((i64)line * p.out_w + ow0 + o) * p.channels + c;
        Pack<TY, V> out;
        PRAGMA_UNROLL for (int j = 0; j < V; j++) {
            f32 v = acc[o][j];
#if QUANTA
            v *= HAS_SCALE ? p.scale[c + j] : p.number[4];
            if (HAS_BIAS) v += p.bias[c + j];
            const i64 residual_at = ROW_RESIDUAL ? c + j : at + j;
            out.at[j] = end(p, v, HAS_RESIDUAL ? p.residual : (const TR*)0, residual_at, HAS_TABLE ? p.table : (const TT*)0,
                HAS_MIDDLE ? p.middle : (const TM*)0);
#else
            if (p.residual) v += get<f32>(p.residual[at + j]);
            out.at[j] = put<TY>(activate(v));
#endif
        }
        *(Pack<TY, V>*)(p.y + at) = out;
    }
}

KERNEL(256, depthwise, P) { run<VECTOR, PIXELS, IN_ROWS>(p); }
KERNEL(256, depthwise_few, P) { run<FEW, 1, false>(p); }
