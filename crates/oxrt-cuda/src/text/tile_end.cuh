    if (p.splits > 1) {
        const i64 tile = ((i64)z * gridDim.x + blockIdx.x);
        f32* mine = p.partial + (tile * p.splits + split) * (BM * BN);
        for (u32 q = tid; q < BM * BN / 4; q += THREADS) {
            u32 r = q / (BN / 4), c = q % (BN / 4) * 4;
            *(uint4*)(mine + q * 4) = *(const uint4*)(sums + r * PITCH + c);
        }
        __threadfence();
        __shared__ u32 order;
        __syncthreads();
        if (tid == 0) order = atomicAdd(p.counters + tile, 1u);
        __syncthreads();
        if (order != p.splits - 1) return;
        __threadfence();
        if (tid == 0) p.counters[tile] = 0;
        for (u32 q = tid; q < BM * BN / 4; q += THREADS) {
            u32 r = q / (BN / 4), c = q % (BN / 4) * 4;
            f32* to = sums + r * PITCH + c;
            f32 v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            for (i32 s = 0; s < p.splits; s++) {
                const volatile f32* from = p.partial + (tile * p.splits + s) * (BM * BN) + q * 4;
                PRAGMA_UNROLL for (int j = 0; j < 4; j++) v[j] += from[j];
            }
            PRAGMA_UNROLL for (int j = 0; j < 4; j++) to[j] = v[j];
        }
        __syncthreads();
    }

    const i64 z_y = z1 * p.y_step[1] + z0 * p.y_step[0];
    const f32* bias = p.bias ? p.bias + (CONV ? z * p.n : 0) : p.bias;
    if (p.n % 8 == 0 && p.ldy % 8 == 0) {
        for (u32 q = tid; q < BM * BN / 8; q += THREADS) {
            u32 r = q / (BN / 8), c = q % (BN / 8) * 8;
            i32 row = m0 + r, column = n0 + c;
            if (row >= p.m || column >= p.n) continue;
            i64 at = z_y + (i64)row * p.ldy + column;
            f32 v[8];
            PRAGMA_UNROLL for (int j = 0; j < 8; j++) v[j] = sums[r * PITCH + c + j];
            if (bias) PRAGMA_UNROLL for (int j = 0; j < 8; j++) v[j] += bias[column + j];
            if (p.residual) {
                Pack<TR, 8> add = *(const Pack<TR, 8>*)(p.residual + at);
                PRAGMA_UNROLL for (int j = 0; j < 8; j++) v[j] += get<f32>(add.at[j]);
            }
            Pack<TY, 8> out;
            PRAGMA_UNROLL for (int j = 0; j < 8; j++) out.at[j] = put<TY>(activate(v[j]));
            *(Pack<TY, 8>*)(p.y + at) = out;
        }
    } else {
        for (u32 q = tid; q < BM * BN; q += THREADS) {
            u32 r = q / BN, c = q % BN;
            i32 row = m0 + r, column = n0 + c;
            if (row >= p.m || column >= p.n) continue;
            i64 at = z_y + (i64)row * p.ldy + column;
            f32 v = sums[r * PITCH + c];
            if (bias) v += bias[column];
            if (p.residual) v += get<f32>(p.residual[at]);
            p.y[at] = put<TY>(activate(v));
        }
    }
