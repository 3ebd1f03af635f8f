// What products on matrix units have in common: parameters, how operands come to shared memory, how sums leave it.
//
// y[m][n] = activation(sum over k of x[m][k] w[n][k] + bias[n] + residual[m][n])
//
// A block makes a tile of BM x BN, its warps tiles of WM x WN. Both operands come through shared memory in slices of BK k,
// STAGES of them on their way at a time. A row of a slice is 128 bytes in 8 chunks of EC elements, which lie at chunk ^ (row % 8): so
// neither the copies nor the loads of 8x8 matrices meet twice in a bank. With CONV the rows of x are windows of an image
// [N, H, W, C] that is never laid out: k counts (tap, channel). Several blocks may share a tile, each with a part of k;
// the last to end sums up.
#define EC (16 / (i32)sizeof(T))
#define BK (8 * EC)
#define ROWS_X (BM * 8 / THREADS)
#define PITCH (BN + 4)

struct P {
    const TX* x; const T* w; const f32* bias; const TR* residual; TY* y;
    f32* partial; u32* counters;
    i64 x_step[2], w_step[2], y_step[2];
    Divider batch;
    i32 m, n, k, ldx, ldw, ldy, slices, splits, stages;
    i32 height, width, pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w;
    Divider out_w, out_pixels, cin, kernel_w;
    Divider tiles_m;
    Status status;
};

// A chunk of elements.
template <class E> DEVICE void put_chunk(void* at, const f32 (&v)[8]) {
    uint4 r;
    r.x = pack_two(v[0], v[1], E()); r.y = pack_two(v[2], v[3], E()); r.z = pack_two(v[4], v[5], E()); r.w = pack_two(v[6], v[7], E());
    *(uint4*)at = r;
}
template <class E> DEVICE void put_chunk(void* at, const f32 (&v)[4]) {
    Pack<E, 4> r;
    PRAGMA_UNROLL for (int j = 0; j < 4; j++) r.at[j] = v[j];
    *(Pack<f32, 4>*)at = r;
}
