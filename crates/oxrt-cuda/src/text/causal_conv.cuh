// Depthwise convolution that looks at the past only: a thread per element of x behind its state [batch, channels, k - 1 + length].
// It makes the result that ends there, and the next state where it belongs to that.
struct P {
    const T* x; const T* w; const T* bias; const T* past; T* y; T* state;
    u32 count; Divider width, channels; u32 length, k;
    Status status;
};
DEVICE T padded(const P& p, u32 line, u32 at) {
    const u32 before = p.k - 1;
    if (at >= before) return p.x[(i64)line * p.length + (at - before)];
    return p.past ? p.past[(i64)line * before + at] : put<T>(0.0f);
}
KERNEL(256, conv, P) {
    const u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    const u32 line = divide(index, p.width), at = index - line * p.width.divisor, before = p.k - 1;
    const u32 channel = line - divide(line, p.channels) * p.channels.divisor;
    if (p.state && at >= p.length) p.state[(i64)line * before + (at - p.length)] = padded(p, line, at);
    if (at < before) return;
    f32 sum = p.bias ? get<f32>(p.bias[channel]) : 0.0f;
    for (u32 i = 0; i < p.k; i++) sum += get<f32>(p.w[channel * p.k + i]) * get<f32>(padded(p, line, at - before + i));
#if SILU
    sum = sum / (1 + expf(-sum));
#endif
    p.y[(i64)line * p.length + (at - before)] = put<T>(sum);
}
