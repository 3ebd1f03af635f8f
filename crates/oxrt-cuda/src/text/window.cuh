// Products over windows: convolutions over one to three axes in any layout, transposed ones, and matrix products (a window of
// one element).
//
// Rows are pixels of the result, columns its maps; the depth runs over channels and taps. A transposed convolution gathers:
// a tap counts where the place it comes from is a pixel of the input.
struct P {
    const TX* x; const TW* w; const void* in[5]; TY* y;
    // Distances: groups (or batches, of two axes), images, channels, maps, taps, pixels.
    i64 x_group[2], w_group[2], y_group[2], x_image, y_image, x_channel, y_channel, w_map, w_channel, w_tap, x_axis[3], y_pixel;
    Divider groups;
    i32 m, n, k, group_maps;
    Divider out[3];
    i32 size[3], dilation[3], pad[3];
    Divider step[3], kernel[2], inner, tiles_m;
    // What the text's own parts read.
    i32 whole[12]; f32 number[11];
    Status status;
};

// Here stands `TY finish(const P& p, C v, i32 map, i64 at)`: from a sum to what is stored; `map` counts over all groups.

struct Pixel { i64 base; i32 at[3]; };

DEVICE Pixel pixel_of(const P& p, i32 row) {
    Pixel pixel;
    u32 r = row < p.m ? row : 0, q = divide(r, p.out[2]), o[3];
    o[2] = r - q * p.out[2].divisor;
    u32 q1 = divide(q, p.out[1]);
    o[1] = q - q1 * p.out[1].divisor;
    u32 image = divide(q1, p.out[0]);
    o[0] = q1 - image * p.out[0].divisor;
    pixel.base = (i64)image * p.x_image;
    PRAGMA_UNROLL for (int d = 0; d < 3; d++) {
#if TRANSPOSED
        pixel.at[d] = (i32)o[d] + p.pad[d];
#else
        pixel.at[d] = (i32)(o[d] * p.step[d].divisor) - p.pad[d];
#endif
    }
    if (row >= p.m) pixel.at[2] = -(1 << 30);
    return pixel;
}

// Channel and taps of a place along the depth.
struct Depth { i32 channel, tap, at[3]; };

DEVICE Depth depth_of(const P& p, i32 k) {
    Depth depth;
    u32 high = divide(k, p.inner), low = k - high * p.inner.divisor;
#if CHANNELS_LAST
    depth.tap = high; depth.channel = low;
#else
    depth.tap = low; depth.channel = high;
#endif
    u32 q = divide(depth.tap, p.kernel[1]);
    depth.at[2] = depth.tap - q * p.kernel[1].divisor;
    depth.at[0] = divide(q, p.kernel[0]);
    depth.at[1] = q - depth.at[0] * p.kernel[0].divisor;
    return depth;
}

// Where the element lies that a pixel meets at a depth; false where there is none.
DEVICE bool locate(const P& p, const Pixel& pixel, const Depth& depth, i64& at) {
    at = pixel.base + (i64)depth.channel * p.x_channel;
    PRAGMA_UNROLL for (int d = 0; d < 3; d++) {
#if TRANSPOSED
        i32 far = pixel.at[d] - depth.at[d] * p.dilation[d];
        if (far < 0) return false;
        i32 i = divide(far, p.step[d]);
        if (i * (i32)p.step[d].divisor != far || i >= p.size[d]) return false;
#else
        i32 i = pixel.at[d] + depth.at[d] * p.dilation[d];
        if ((u32)i >= (u32)p.size[d]) return false;
#endif
        at += i * p.x_axis[d];
    }
    return true;
}
