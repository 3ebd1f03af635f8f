// Hopper's matrix units: a warpgroup multiplies 64 rows at once. Operands lie in shared memory in rows of 64 elements of T,
// swizzled by 128 bytes; a group of eight rows begins at a multiple of 1024.

#ifdef OXRT_EMULATED
DEVICE T at(const u8* rows, u32 row, u32 column) { return *(const T*)(rows + row * 128 + (((column / 8) ^ (row & 7)) << 4) + column % 8 * 2); }
DEVICE void wgmma_fence() {}
DEVICE void wgmma_commit() {}
template <int N> DEVICE void wgmma_wait() {}
#else
DEVICE u64 describe(const u8* rows) {
    return (u64)((shared_address(rows) & 0x3ffff) >> 4) | (u64)1 << 16 | (u64)64 << 32 | (u64)1 << 62;
}
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> DEVICE void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(N) : "memory"); }
#endif
