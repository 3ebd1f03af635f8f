// Col2Im: every pixel gathers the columns that fall on it.
struct P {
    const TX* x; const void* image; const void* block; TY* y;
    u32 count; i32 rank; Divider size[4]; i32 kernel[4], dilation[4], pad[4], out[4]; Divider step[4]; Divider plane; i32 taps, positions;
    Status status;
};

KERNEL(256, gather, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 channel = divide(index, p.plane), rest = index - channel * p.plane.divisor;
    i32 at[4];
    PRAGMA_UNROLL for (int d = 3; d >= 0; d--) {
        u32 high = divide(rest, p.size[d]);
        at[d] = (i32)(rest - high * p.size[d].divisor) + p.pad[d];
        rest = high;
    }
    const TX* x = p.x + (i64)channel * p.taps * p.positions;
    C sum = 0;
    for (i32 tap = 0; tap < p.taps; tap++) {
        i32 left = tap, position = 0, scale = 1;
        bool valid = true;
        PRAGMA_UNROLL for (int d = 3; d >= 0; d--) {
            i32 k = left % p.kernel[d], far = at[d] - k * p.dilation[d];
            left /= p.kernel[d];
            i32 o = far < 0 ? -1 : (i32)divide(far, p.step[d]);
            valid = valid && o >= 0 && o * (i32)p.step[d].divisor == far && o < p.out[d];
            position += o * scale;
            scale *= p.out[d];
        }
        if (valid) sum += get<C>(x[(i64)tap * p.positions + position]);
    }
    p.y[index] = put<TY>(sum);
}
