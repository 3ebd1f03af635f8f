// Runs kernel texts on the host: every thread of a block is a fibre, and a barrier lets the others go on. Slow and
// exact; it knows shared memory, barriers, warp exchanges and the matrix instructions, but not their timing.
#define OXRT_EMULATED 1

extern "C" {
void* malloc(unsigned long);
void* memset(void*, int, unsigned long);
void* memcpy(void*, const void*, unsigned long);
void abort();
float expf(float); float exp2f(float); float logf(float); float tanhf(float); float erff(float); float sinf(float); float cosf(float);
float tanf(float); float asinf(float); float acosf(float); float atanf(float); float sinhf(float); float coshf(float);
float asinhf(float); float acoshf(float); float atanhf(float); float powf(float, float); float fmodf(float, float);
float atan2f(float, float); float floorf(float); float ceilf(float); float rintf(float); float truncf(float);
float fabsf(float); float sqrtf(float); float fmaf(float, float, float); float fmaxf(float, float); float fminf(float, float);
double exp(double); double log(double); double tanh(double); double erf(double); double sin(double); double cos(double);
double tan(double); double asin(double); double acos(double); double atan(double); double sinh(double); double cosh(double);
double asinh(double); double acosh(double); double atanh(double); double pow(double, double); double fmod(double, double);
double atan2(double, double); double floor(double); double ceil(double); double rint(double); double trunc(double);
double fabs(double); double sqrt(double); double fma(double, double, double);
}

namespace emulator {
struct Point { unsigned x, y, z; };
struct Fibre { void* stack; void* base; Point thread; bool done; };
static Point grid_size, block_size, block_at;
static Fibre fibres[1024];
static Fibre* self;
static unsigned count, running;
static void* scheduler;
static unsigned char* dynamic_shared;
static void (*entry)(const void*);
static const void* params;
// Barriers: who waits, and how often all came past.
static unsigned block_waiting, block_turn;
static unsigned warp_waiting[32], warp_turn[32];
static unsigned char slots[32][32][64];

extern "C" void oxrt_switch(void** from, void* to);
asm(R"(
.text
.globl oxrt_switch
.hidden oxrt_switch
.type oxrt_switch,@function
oxrt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

static void yield() { oxrt_switch(&self->stack, scheduler); }
// What a thread that ends leaves to be done.
static void (*at_end)();
static void start() {
    entry(params);
    if (at_end) at_end();
    self->done = true;
    running--;
    for (;;) yield();
}
static unsigned lane() { return self->thread.x & 31; }
static unsigned warp() { return self->thread.x >> 5; }
static unsigned lanes() { unsigned rest = count - warp() * 32; return rest < 32 ? rest : 32; }
// Threads that have ended no longer come to the block's barriers.
static void block_barrier() {
    unsigned turn = block_turn;
    block_waiting++;
    while (turn == block_turn) {
        if (block_waiting >= running) { block_waiting = 0; block_turn++; break; }
        yield();
    }
}
// Barriers of so many threads, by their numbers.
static unsigned some_waiting[16], some_turn[16];
static void barrier_of_some(unsigned id, unsigned many) {
    unsigned turn = some_turn[id];
    if (++some_waiting[id] == many) { some_waiting[id] = 0; some_turn[id]++; return; }
    while (turn == some_turn[id]) yield();
}
static void warp_barrier() {
    unsigned w = warp(), turn = warp_turn[w];
    if (++warp_waiting[w] == lanes()) { warp_waiting[w] = 0; warp_turn[w]++; return; }
    while (turn == warp_turn[w]) yield();
}
}

extern "C" void oxrt_emulate(void (*entry)(const void*), const void* params, const unsigned* grid, unsigned threads, unsigned shared) {
    using namespace emulator;
    const unsigned long STACK = 256 << 10;
    emulator::entry = entry;
    emulator::params = params;
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {threads, 1, 1};
    count = threads;
    if (!dynamic_shared) dynamic_shared = (unsigned char*)(((unsigned long)malloc((256 << 10) + 1024) + 1023) & ~1023ul);
    for (unsigned z = 0; z < grid[2]; z++) for (unsigned y = 0; y < grid[1]; y++) for (unsigned x = 0; x < grid[0]; x++) {
        block_at = {x, y, z};
        // Memory that nobody wrote is full of NaN.
        memset(dynamic_shared, 0xff, shared);
        running = threads;
        block_waiting = 0;
        memset(some_waiting, 0, sizeof some_waiting);
        for (unsigned t = 0; t < threads; t++) {
            Fibre& f = fibres[t];
            if (!f.base) f.base = malloc(STACK);
            f.thread = {t, 0, 0};
            f.done = false;
            void** top = (void**)(((unsigned long)f.base + STACK) & ~63ul);
            *--top = 0;
            *--top = (void*)start;
            for (int i = 0; i < 6; i++) *--top = 0;
            f.stack = top;
        }
        while (running) for (unsigned t = 0; t < threads; t++) {
            if (fibres[t].done) continue;
            self = &fibres[t];
            oxrt_switch(&scheduler, self->stack);
        }
    }
}

#define threadIdx (emulator::self->thread)
#define blockIdx emulator::block_at
#define blockDim emulator::block_size
#define gridDim emulator::grid_size
#define __syncthreads emulator::block_barrier
#define __syncwarp emulator::warp_barrier
#define __shared__ static
#define KERNEL_LATE(threads, blocks, name, P) KERNEL(threads, name, P)
#define KERNEL(threads, name, P) static void name(const P& p); extern "C" void name##_entry(const void* p) { name(*(const P*)p); } static void name(const P& p)
#define DEVICE static inline
#define DYNAMIC_SHARED(name) u8* name = emulator::dynamic_shared
#define PRAGMA_UNROLL

static inline unsigned bits_of(float x) { unsigned y; memcpy(&y, &x, 4); return y; }
static inline float float_of(unsigned x) { float y; memcpy(&y, &x, 4); return y; }
#define INFINITE_F32 __builtin_inff()
#define NAN_F32 __builtin_nanf("")
#define rsqrtf(x) (1.0f / sqrtf(x))
#define rsqrt(x) (1.0 / sqrt(x))
struct uint4 { unsigned x, y, z, w; };
struct uint2 { unsigned x, y; };
static inline unsigned atomicMax(unsigned* p, unsigned v) { unsigned old = *p; if (v > old) *p = v; return old; }
static inline float atomicAdd(float* p, float v) { float old = *p; *p = old + v; return old; }
static inline unsigned atomicAdd(unsigned* p, unsigned v) { unsigned old = *p; *p = old + v; return old; }
static inline void __threadfence() {}
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
