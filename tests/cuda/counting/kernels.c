/* Kernels are registered, named in the trace when they are launched, and never run. */
#include <stdlib.h>
#include <string.h>

#include "trace.h"

typedef struct {
    unsigned x, y, z;
} dimensions;

typedef struct {
    const void *function;
    const char *name;
} kernel;

static kernel *kernels;
static size_t kernel_count, kernel_room;
static int kernels_sorted;

static int by_function(const void *one, const void *other) {
    const char *a = ((const kernel *)one)->function, *b = ((const kernel *)other)->function;
    return (a > b) - (a < b);
}

/* Libraries register while they are loaded, on one thread. */
void __cudaRegisterFunction(void *module, const char *function, char *device_function, const char *name) {
    (void)module, (void)device_function;
    if (kernel_count == kernel_room) {
        kernel_room = kernel_room == 0 ? 4096 : 2 * kernel_room;
        kernels = realloc(kernels, kernel_room * sizeof *kernels);
        if (kernels == NULL) abort();
    }
    kernels[kernel_count++] = (kernel){function, name};
    kernels_sorted = 0;
}

void **__cudaRegisterFatBinary(void *code) {
    static void *module;
    (void)code;
    return &module;
}

void __cudaRegisterFatBinaryEnd(void **module) {
    (void)module;
    qsort(kernels, kernel_count, sizeof *kernels, by_function);
    kernels_sorted = 1;
}

void __cudaUnregisterFatBinary(void **module) { (void)module; }

void __cudaRegisterVar(void) {}

static const char *name_of(const void *function) {
    kernel key = {function, NULL};
    kernel *found =
        kernels_sorted ? bsearch(&key, kernels, kernel_count, sizeof *kernels, by_function) : NULL;
    return found == NULL ? "?" : found->name;
}

static int launch(const void *function, void *on) {
    counting_trace("launch %s", name_of(function));
    return counting_enqueue(counting_stream(on), "launch", 1);
}

int cudaLaunchKernel(const void *function, dimensions grid, dimensions block, void **arguments, size_t shared, void *on) {
    (void)grid, (void)block, (void)arguments, (void)shared;
    return launch(function, on);
}

int __cudaLaunchKernel(const void *function, dimensions grid, dimensions block, void **arguments, size_t shared,
                       void *on) {
    return cudaLaunchKernel(function, grid, block, arguments, shared, on);
}

int cudaLaunchCooperativeKernel(const void *function, dimensions grid, dimensions block, void **arguments,
                                size_t shared, void *on) {
    return cudaLaunchKernel(function, grid, block, arguments, shared, on);
}

typedef struct {
    dimensions grid, block;
    size_t shared;
    void *on;
    void *attributes;
    unsigned attribute_count;
} launch_configuration;

int cudaLaunchKernelExC(const launch_configuration *configuration, const void *function, void **arguments) {
    (void)arguments;
    return launch(function, configuration->on);
}

int __cudaGetKernel(const void **found, const void *function) {
    *found = function;
    return SUCCESS;
}

static _Thread_local launch_configuration pushed;

unsigned __cudaPushCallConfiguration(dimensions grid, dimensions block, size_t shared, void *on) {
    pushed = (launch_configuration){grid, block, shared, on, NULL, 0};
    return 0;
}

int __cudaPopCallConfiguration(dimensions *grid, dimensions *block, size_t *shared, void **on) {
    *grid = pushed.grid;
    *block = pushed.block;
    *shared = pushed.shared;
    *on = pushed.on;
    return SUCCESS;
}

int cudaFuncGetAttributes(char *attributes, const void *function) {
    const int threads_max = 1024;
    (void)function;
    memset(attributes, 0, 144);
    memcpy(attributes + 24, &threads_max, sizeof threads_max);
    return SUCCESS;
}

int cudaFuncSetAttribute(const void *function, int attribute, int value) {
    (void)function, (void)attribute, (void)value;
    return SUCCESS;
}

int cudaKernelSetAttributeForDevice(const void *function, int attribute, int value, int device) {
    (void)function, (void)attribute, (void)value, (void)device;
    return SUCCESS;
}

int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function, int block, size_t shared,
                                                           unsigned flags) {
    (void)function, (void)block, (void)shared, (void)flags;
    *blocks = 4;
    return SUCCESS;
}

int cudaLibraryLoadData(void **library) {
    *library = NULL;
    return SUCCESS;
}

int cudaLibraryUnload(void *library) {
    (void)library;
    return SUCCESS;
}

int cudaLibraryGetKernel(const void **found, void *library, const char *name) {
    (void)library;
    *found = name;
    return SUCCESS;
}

static int do_nothing(void) { return SUCCESS; }

int cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version, unsigned long long flags,
                                     int *status) {
    (void)symbol, (void)version, (void)flags;
    *function = (void *)do_nothing;
    if (status != NULL) *status = 0;
    return SUCCESS;
}

/* A graph is the number of what was captured. */
int cudaStreamBeginCapture(void *on, int mode) { return counting_begin_capture(counting_stream(on), mode); }

int cudaStreamEndCapture(void *on, long **graph) {
    *graph = malloc(sizeof **graph);
    if (*graph == NULL) return counting_fail(OUT_OF_MEMORY);
    return counting_end_capture(counting_stream(on), *graph);
}

int cudaGraphInstantiate(long **executable, const long *graph, unsigned long long flags) {
    (void)flags;
    *executable = malloc(sizeof **executable);
    if (*executable == NULL) return counting_fail(OUT_OF_MEMORY);
    **executable = *graph;
    return SUCCESS;
}

int cudaGraphLaunch(const long *executable, void *on) {
    counting_trace("replay %ld", *executable);
    return counting_enqueue(counting_stream(on), "cudaGraphLaunch", 0);
}

int cudaGraphDestroy(long *graph) {
    free(graph);
    return SUCCESS;
}

int cudaGraphExecDestroy(long *executable) {
    free(executable);
    return SUCCESS;
}
