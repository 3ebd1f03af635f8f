// DynamicQuantizeLinear: the range of all elements in parts, then of the parts, by every block for itself.
struct P { const TX* x; TY* y; f32* scale; TY* zero; f32* parts; u32 count; u32 blocks; };

DEVICE void block_range(f32& low, f32& high) {
    __shared__ f32 lows[8], highs[8];
    low = -warp_max(-low);
    high = warp_max(high);
    if ((threadIdx.x & 31) == 0) { lows[threadIdx.x >> 5] = low; highs[threadIdx.x >> 5] = high; }
    __syncthreads();
    for (int i = 0; i < 8; i++) { low = lows[i] < low ? lows[i] : low; high = highs[i] > high ? highs[i] : high; }
}

KERNEL(256, range, P) {
    // Zero is always in the range.
    f32 low = 0, high = 0;
    for (u64 i = (u64)blockIdx.x * 256 + threadIdx.x; i < p.count; i += (u64)p.blocks * 256) {
        f32 v = get<f32>(p.x[i]);
        low = v < low ? v : low;
        high = v > high ? v : high;
    }
    block_range(low, high);
    if (threadIdx.x == 0) { p.parts[blockIdx.x] = low; p.parts[p.blocks + blockIdx.x] = high; }
}

KERNEL(256, quantise, P) {
    f32 low = threadIdx.x < p.blocks ? p.parts[threadIdx.x] : 0, high = threadIdx.x < p.blocks ? p.parts[p.blocks + threadIdx.x] : 0;
    block_range(low, high);
    f32 scale = (high == low ? 1.0f : high - low) / 255.0f;
    f32 zero = 0 - low / scale;
    zero = rintf(zero < 0 ? 0 : zero > 255 ? 255 : zero);
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index == 0) { if (p.scale) *p.scale = scale; if (p.zero) *p.zero = put<TY>(zero); }
    if (index >= p.count || !p.y) return;
    p.y[index] = put<TY>(rintf(get<f32>(p.x[index]) / scale) + zero);
}
