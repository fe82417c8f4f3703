/* Device memory is host memory that is accounted for: what was copied there can be copied back. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "trace.h"

enum { ALIGNMENT = 256, MEMCPY_HOST_TO_DEVICE = 1, MEMCPY_DEVICE_TO_HOST = 2, MEMCPY_DEFAULT = 4 };

/* CUDA's numbers for where memory is. */
enum place { UNREGISTERED = 0, PINNED = 1, DEVICE = 2 };

typedef struct allocation {
    struct allocation *next;
    void *memory; /* what calloc gave */
    char *start;
    size_t size;
    enum place place;
} allocation;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static allocation *allocations;
static size_t device_bytes;

static size_t device_bytes_max(void) {
    return (size_t)counting_setting("COUNTING_CUDA_MEMORY", 80L << 30);
}

static int allocate(void **pointer, size_t size, enum place place) {
    if (pointer == NULL) return counting_fail(INVALID_VALUE);
    allocation *made = malloc(sizeof *made);
    void *memory = calloc(1, size + ALIGNMENT);
    pthread_mutex_lock(&lock);
    int fits = place != DEVICE || (size <= device_bytes_max() && device_bytes <= device_bytes_max() - size);
    if (made == NULL || memory == NULL || !fits) {
        pthread_mutex_unlock(&lock);
        free(made);
        free(memory);
        counting_trace("refused %zu", size);
        return counting_fail(OUT_OF_MEMORY);
    }
    char *start = (char *)memory + ALIGNMENT - (size_t)memory % ALIGNMENT;
    *made = (allocation){allocations, memory, start, size, place};
    allocations = made;
    if (place == DEVICE) device_bytes += size;
    pthread_mutex_unlock(&lock);
    counting_trace("%s %zu", place == DEVICE ? "malloc" : "pin", size);
    *pointer = start;
    return SUCCESS;
}

static int release(void *pointer) {
    if (pointer == NULL) return SUCCESS;
    pthread_mutex_lock(&lock);
    allocation **link = &allocations;
    while (*link != NULL && (*link)->start != pointer) link = &(*link)->next;
    allocation *found = *link;
    if (found != NULL) {
        *link = found->next;
        if (found->place == DEVICE) device_bytes -= found->size;
    }
    pthread_mutex_unlock(&lock);
    if (found == NULL) return counting_fail(INVALID_VALUE);
    free(found->memory);
    free(found);
    return SUCCESS;
}

static enum place place_of(const void *pointer) {
    enum place place = UNREGISTERED;
    pthread_mutex_lock(&lock);
    for (allocation *at = allocations; at != NULL; at = at->next) {
        if ((const char *)pointer >= at->start && (const char *)pointer < at->start + at->size) place = at->place;
    }
    pthread_mutex_unlock(&lock);
    return place;
}

int cudaMalloc(void **pointer, size_t size) {
    int error = counting_unsafe("cudaMalloc");
    return error ? error : allocate(pointer, size, DEVICE);
}

int cudaMallocHost(void **pointer, size_t size) {
    int error = counting_unsafe("cudaMallocHost");
    return error ? error : allocate(pointer, size, PINNED);
}

int cudaHostAlloc(void **pointer, size_t size, unsigned flags) {
    (void)flags;
    int error = counting_unsafe("cudaHostAlloc");
    return error ? error : allocate(pointer, size, PINNED);
}

int cudaFree(void *pointer) {
    int error = counting_unsafe("cudaFree");
    return error ? error : release(pointer);
}

int cudaFreeHost(void *pointer) {
    int error = counting_unsafe("cudaFreeHost");
    return error ? error : release(pointer);
}

int cudaMallocFromPoolAsync(void **pointer, size_t size, void *pool, void *on) {
    (void)pool;
    int error = counting_enqueue(counting_stream(on), "cudaMallocFromPoolAsync", 0);
    return error ? error : allocate(pointer, size, DEVICE);
}

int cudaFreeAsync(void *pointer, void *on) {
    int error = counting_enqueue(counting_stream(on), "cudaFreeAsync", 0);
    return error ? error : release(pointer);
}

int cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    pthread_mutex_lock(&lock);
    *total = device_bytes_max();
    *free_bytes = *total - device_bytes;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

int cudaPointerGetAttributes(void *attributes, const void *pointer) {
    struct {
        int type, device;
        const void *on_device, *on_host;
    } found = {(int)place_of(pointer), 0, NULL, NULL};
    if (found.type != UNREGISTERED) found.on_device = pointer;
    if (found.type == PINNED) found.on_host = pointer;
    memset(attributes, 0, 88);
    memcpy(attributes, &found, sizeof found);
    return SUCCESS;
}

/* `copy h2d|d2h|d2d|h2h BYTES pinned|pageable`; the last word is of the host's side. */
static void note_copy(const void *to, const void *from, size_t size, int kind) {
    int to_device = kind == MEMCPY_DEFAULT ? place_of(to) == DEVICE : kind == MEMCPY_HOST_TO_DEVICE || kind == 3;
    int from_device = kind == MEMCPY_DEFAULT ? place_of(from) == DEVICE : kind == MEMCPY_DEVICE_TO_HOST || kind == 3;
    const char *direction = from_device ? (to_device ? "d2d" : "d2h") : (to_device ? "h2d" : "h2h");
    int pinned = (from_device || place_of(from) == PINNED) && (to_device || place_of(to) == PINNED);
    counting_trace("copy %s %zu %s", direction, size, pinned ? "pinned" : "pageable");
}

static int copy(void *to, const void *from, size_t size, int kind) {
    note_copy(to, from, size, kind);
    memmove(to, from, size);
    return SUCCESS;
}

int cudaMemcpy(void *to, const void *from, size_t size, int kind) {
    int error = counting_unsafe("cudaMemcpy");
    return error ? error : copy(to, from, size, kind);
}

int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *on) {
    int error = counting_enqueue(counting_stream(on), "cudaMemcpyAsync", 0);
    return error ? error : copy(to, from, size, kind);
}

int cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                      int kind, void *on) {
    int error = counting_enqueue(counting_stream(on), "cudaMemcpy2DAsync", 0);
    if (error) return error;
    note_copy(to, from, width * height, kind);
    for (size_t row = 0; row < height; row++) {
        memmove((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width);
    }
    return SUCCESS;
}

int cudaMemcpyFromSymbol(void *to, const void *symbol, size_t size, size_t offset, int kind) {
    (void)symbol, (void)offset, (void)kind;
    int error = counting_unsafe("cudaMemcpyFromSymbol");
    counting_trace("copy d2h %zu pageable", size);
    if (error == SUCCESS) memset(to, 0, size);
    return error;
}

int cudaMemset(void *to, int value, size_t size) {
    int error = counting_unsafe("cudaMemset");
    counting_trace("memset %zu", size);
    if (error == SUCCESS) memset(to, value, size);
    return error;
}

int cudaMemsetAsync(void *to, int value, size_t size, void *on) {
    int error = counting_enqueue(counting_stream(on), "cudaMemsetAsync", 0);
    counting_trace("memset %zu", size);
    if (error == SUCCESS) memset(to, value, size);
    return error;
}
