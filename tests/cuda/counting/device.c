/* One or more devices of compute capability 9.0, streams, events, and the parts of the runtime that do nothing here. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "trace.h"

static _Thread_local int current_device;

/* The version that the runtime says it has, as 1000 major + 10 minor. */
enum { RUNTIME_VERSION = 13000 };

static int driver_version(void) {
    return (int)counting_setting("COUNTING_CUDA_DRIVER", RUNTIME_VERSION);
}

int cudaGetDeviceCount(int *count) {
    *count = 0;
    if (driver_version() < RUNTIME_VERSION) return counting_fail(OLD_DRIVER);
    *count = (int)counting_setting("COUNTING_CUDA_DEVICES", 1);
    return *count > 0 ? SUCCESS : counting_fail(NO_DEVICE);
}

static int check_device(int device) {
    int count;
    int error = cudaGetDeviceCount(&count);
    if (error) return error;
    return device >= 0 && device < count ? SUCCESS : counting_fail(INVALID_DEVICE);
}

int cudaGetDevice(int *device) {
    *device = current_device;
    return check_device(current_device);
}

int cudaSetDevice(int device) {
    int error = check_device(device);
    if (error == SUCCESS) current_device = device;
    return error;
}

int cudaDriverGetVersion(int *version) {
    *version = driver_version();
    return SUCCESS;
}

int cudaRuntimeGetVersion(int *version) {
    *version = RUNTIME_VERSION;
    return SUCCESS;
}

/* The layout of cudaDeviceProp in CUDA 13: offsets in bytes. */
enum {
    PROPERTIES_SIZE = 1008,
    TOTAL_MEMORY = 288,
    SHARED_MEMORY_PER_BLOCK = 296,
    REGISTERS_PER_BLOCK = 304,
    WARP_SIZE = 308,
    MEMORY_PITCH = 312,
    THREADS_PER_BLOCK = 320,
    BLOCK_SIZES = 324,
    GRID_SIZES = 336,
    CONSTANT_MEMORY = 352,
    MAJOR = 360,
    MINOR = 364,
    TEXTURE_ALIGNMENT = 368,
    MULTIPROCESSORS = 384,
    CONCURRENT_KERNELS = 560,
    UNIFIED_ADDRESSING = 588,
    L2_CACHE = 596,
    THREADS_PER_MULTIPROCESSOR = 604,
    SHARED_MEMORY_PER_MULTIPROCESSOR = 624,
    REGISTERS_PER_MULTIPROCESSOR = 632,
    COOPERATIVE_LAUNCH = 668,
    SHARED_MEMORY_PER_BLOCK_OPT_IN = 672,
};

static void put(char *properties, int offset, int value) { memcpy(properties + offset, &value, sizeof value); }

static void put_size(char *properties, int offset, size_t value) {
    memcpy(properties + offset, &value, sizeof value);
}

int cudaMemGetInfo(size_t *free_bytes, size_t *total);

int cudaGetDeviceProperties(char *properties, int device) {
    int error = check_device(device);
    if (error) return error;
    const int blocks[] = {1024, 1024, 64}, grid[] = {2147483647, 65535, 65535};
    size_t free_bytes, total;
    cudaMemGetInfo(&free_bytes, &total);
    memset(properties, 0, PROPERTIES_SIZE);
    strcpy(properties, "a device that only counts");
    put_size(properties, TOTAL_MEMORY, total);
    put_size(properties, SHARED_MEMORY_PER_BLOCK, 49152);
    put(properties, REGISTERS_PER_BLOCK, 65536);
    put(properties, WARP_SIZE, 32);
    put_size(properties, MEMORY_PITCH, 2147483647);
    put(properties, THREADS_PER_BLOCK, 1024);
    memcpy(properties + BLOCK_SIZES, blocks, sizeof blocks);
    memcpy(properties + GRID_SIZES, grid, sizeof grid);
    put_size(properties, CONSTANT_MEMORY, 65536);
    put(properties, MAJOR, 9);
    put(properties, MINOR, 0);
    put_size(properties, TEXTURE_ALIGNMENT, 512);
    put(properties, MULTIPROCESSORS, 132);
    put(properties, CONCURRENT_KERNELS, 1);
    put(properties, UNIFIED_ADDRESSING, 1);
    put(properties, L2_CACHE, 50 << 20);
    put(properties, THREADS_PER_MULTIPROCESSOR, 2048);
    put_size(properties, SHARED_MEMORY_PER_MULTIPROCESSOR, 233472);
    put(properties, REGISTERS_PER_MULTIPROCESSOR, 65536);
    put(properties, COOPERATIVE_LAUNCH, 1);
    put_size(properties, SHARED_MEMORY_PER_BLOCK_OPT_IN, 232448);
    return SUCCESS;
}

int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    int error = check_device(device);
    if (error) return error;
    switch (attribute) {
        case 1: case 2: case 3: *value = 1024; break;  /* threads of a block, and its sizes */
        case 4: *value = 64; break;
        case 5: *value = 2147483647; break;  /* sizes of a grid */
        case 6: case 7: *value = 65535; break;
        case 8: *value = 49152; break;  /* shared memory of a block */
        case 10: *value = 32; break;  /* a warp */
        case 12: *value = 65536; break;  /* registers of a block */
        case 16: *value = 132; break;  /* multiprocessors */
        case 38: *value = 50 << 20; break;  /* L2 cache */
        case 39: *value = 2048; break;  /* threads of a multiprocessor */
        case 75: *value = 9; break;  /* compute capability */
        case 76: *value = 0; break;
        case 81: *value = 233472; break;  /* shared memory of a multiprocessor */
        case 97: *value = 232448; break;  /* and of a block, at most */
        default: *value = 1; break;
    }
    return SUCCESS;
}

int cudaStreamCreateWithFlags(void **made, unsigned flags) {
    (void)flags;
    *made = calloc(1, sizeof(stream));
    if (*made == NULL) return counting_fail(OUT_OF_MEMORY);
    counting_trace("stream");
    return SUCCESS;
}

int cudaStreamCreate(void **made) { return cudaStreamCreateWithFlags(made, 0); }

int cudaStreamDestroy(void *destroyed) {
    free(destroyed);
    return SUCCESS;
}

int cudaStreamSynchronize(void *on) { return counting_wait(counting_stream(on), "cudaStreamSynchronize"); }

int cudaDeviceSynchronize(void) {
    if (counting_is_busy()) return counting_fail(CAPTURE_UNSUPPORTED);
    return counting_wait(NULL, "cudaDeviceSynchronize");
}

int cudaStreamIsCapturing(void *on, int *status) {
    stream *asked = counting_stream(on);
    *status = !asked->capturing ? 0 : asked->invalidated ? 2 : 1;
    return SUCCESS;
}

/* An event remembers the stream that it was recorded in. */
typedef struct event {
    stream *recorded_in;
} event;

int cudaEventCreateWithFlags(void **made, unsigned flags) {
    (void)flags;
    *made = calloc(1, sizeof(event));
    return *made == NULL ? counting_fail(OUT_OF_MEMORY) : SUCCESS;
}

int cudaEventCreate(void **made) { return cudaEventCreateWithFlags(made, 0); }

int cudaEventDestroy(void *destroyed) {
    free(destroyed);
    return SUCCESS;
}

int cudaEventRecordWithFlags(event *recorded, void *on, unsigned flags) {
    (void)flags;
    recorded->recorded_in = counting_stream(on);
    return counting_enqueue(recorded->recorded_in, "cudaEventRecord", 0);
}

int cudaEventRecord(event *recorded, void *on) { return cudaEventRecordWithFlags(recorded, on, 0); }

int cudaEventSynchronize(event *awaited) {
    stream *on = awaited->recorded_in;
    return on == NULL ? SUCCESS : counting_wait(on, "cudaEventSynchronize");
}

int cudaEventElapsedTime(float *milliseconds, const event *from, const event *to) {
    (void)from, (void)to;
    *milliseconds = 0.01f;
    return SUCCESS;
}

int cudaStreamWaitEvent(void *on, const event *awaited, unsigned flags) {
    (void)awaited, (void)flags;
    return counting_enqueue(counting_stream(on), "cudaStreamWaitEvent", 0);
}

int cudaLaunchHostFunc(void *on, void (*function)(void *), void *data) {
    stream *given = counting_stream(on);
    int error = counting_enqueue(given, "cudaLaunchHostFunc", 0);
    counting_trace("host function");
    if (error == SUCCESS && !given->capturing) function(data);
    return error;
}

int cudaMemPoolCreate(void **pool, const void *properties) {
    (void)properties;
    *pool = malloc(1);
    return *pool == NULL ? counting_fail(OUT_OF_MEMORY) : SUCCESS;
}

int cudaMemPoolDestroy(void *pool) {
    free(pool);
    return SUCCESS;
}

int cudaMemPoolGetAttribute(void *pool, int attribute, uint64_t *value) {
    (void)pool, (void)attribute;
    *value = 0;
    return SUCCESS;
}

int cudaMemPoolSetAttribute(void *pool, int attribute, void *value) {
    (void)pool, (void)attribute, (void)value;
    return SUCCESS;
}

int cudaMemPoolTrimTo(void *pool, size_t kept) {
    (void)pool, (void)kept;
    return SUCCESS;
}

int cudaGetLastError(void) { return counting_last_error(1); }

int cudaPeekAtLastError(void) { return counting_last_error(0); }

const char *cudaGetErrorName(int error) {
    switch (error) {
        case SUCCESS: return "cudaSuccess";
        case INVALID_VALUE: return "cudaErrorInvalidValue";
        case OUT_OF_MEMORY: return "cudaErrorMemoryAllocation";
        case OLD_DRIVER: return "cudaErrorInsufficientDriver";
        case NO_DEVICE: return "cudaErrorNoDevice";
        case INVALID_DEVICE: return "cudaErrorInvalidDevice";
        case LAUNCH_FAILED: return "cudaErrorLaunchFailure";
        case CAPTURE_UNSUPPORTED: return "cudaErrorStreamCaptureUnsupported";
        case CAPTURE_INVALIDATED: return "cudaErrorStreamCaptureInvalidated";
        default: return "cudaErrorUnknown";
    }
}

/* CUDA's own words: what an agent makes of them is tested. */
const char *cudaGetErrorString(int error) {
    switch (error) {
        case SUCCESS: return "no error";
        case INVALID_VALUE: return "invalid argument";
        case OUT_OF_MEMORY: return "out of memory";
        case OLD_DRIVER: return "CUDA driver version is insufficient for CUDA runtime version";
        case NO_DEVICE: return "no CUDA-capable device is detected";
        case INVALID_DEVICE: return "invalid device ordinal";
        case LAUNCH_FAILED: return "unspecified launch failure";
        case CAPTURE_UNSUPPORTED: return "operation not permitted when stream is capturing";
        case CAPTURE_INVALIDATED: return "operation failed due to a previous error during capture";
        default: return "unknown error";
    }
}
