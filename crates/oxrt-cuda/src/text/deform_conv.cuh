// DeformConv: a thread makes eight maps of a pixel; the pixels that a tap meets are looked up once for them.
struct P {
    const TX* x; const TW* w; const TO* offset; const TB* bias; const TM* mask; TY* y;
    u32 count; Divider width_out, height_out; i32 channels, height, width, maps, kernel_w, taps, group_channels, group_maps, shift_channels;
    i32 stride[2], dilation[2], pad[2];
    Status status;
};

KERNEL(256, deform, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 q = divide(index, p.width_out), image = divide(q, p.height_out);
    i32 ox = index - q * p.width_out.divisor, oy = q - image * p.height_out.divisor;
    const i64 positions = (i64)p.width_out.divisor * p.height_out.divisor, here = (i64)oy * p.width_out.divisor + ox;
    // Eight maps of one group.
    const i32 chunks = (p.group_maps + 7) / 8, group = blockIdx.y / chunks, first = blockIdx.y % chunks * 8;
    const i32 shifts = p.channels / p.shift_channels;
    C acc[8];
    PRAGMA_UNROLL for (int j = 0; j < 8; j++) acc[j] = 0;
    for (i32 c = 0; c < p.group_channels; c++) {
        const i32 channel = group * p.group_channels + c, shift = image * shifts + channel / p.shift_channels;
        const TX* plane = p.x + ((i64)image * p.channels + channel) * p.height * p.width;
        for (i32 tap = 0; tap < p.taps; tap++) {
            i32 ky = tap / p.kernel_w, kx = tap - ky * p.kernel_w;
            const i64 from = ((i64)shift * p.taps + tap) * 2 * positions + here;
            C y = (C)(oy * p.stride[0] + ky * p.dilation[0] - p.pad[0]) + get<C>(p.offset[from]);
            C x = (C)(ox * p.stride[1] + kx * p.dilation[1] - p.pad[1]) + get<C>(p.offset[from + positions]);
            C y0 = FLOOR(y), x0 = FLOOR(x), fy = y - y0, fx = x - x0, v = 0;
            PRAGMA_UNROLL for (int corner = 0; corner < 4; corner++) {
                C py = y0 + (corner >> 1), px = x0 + (corner & 1);
                if (py >= 0 && px >= 0 && py < (C)p.height && px < (C)p.width) {
                    C weight = (corner >> 1 ? fy : 1 - fy) * (corner & 1 ? fx : 1 - fx);
                    v += weight * get<C>(plane[(i64)(i32)py * p.width + (i32)px]);
                }
            }
            if (p.mask) v *= get<C>(p.mask[((i64)shift * p.taps + tap) * positions + here]);
            PRAGMA_UNROLL for (int j = 0; j < 8; j++)
                if (first + j < p.group_maps)
                    acc[j] += v * get<C>(p.w[((i64)(group * p.group_maps + first + j) * p.group_channels + c) * p.taps + tap]);
        }
    }
    PRAGMA_UNROLL for (int j = 0; j < 8; j++) {
        if (first + j >= p.group_maps) break;
        i32 map = group * p.group_maps + first + j;
        if (p.bias) acc[j] += get<C>(p.bias[map]);
        p.y[((i64)image * p.maps + map) * positions + here] = put<TY>(acc[j]);
    }
}
