/* Breaks each rule of recordings once, and then keeps them. It fails where a call does not say so. */
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    unsigned x, y, z;
} dimensions;

int cudaMalloc(void **, size_t);
int cudaFree(void *);
int cudaMemcpy(void *, const void *, size_t, int);
int cudaMemcpyAsync(void *, const void *, size_t, int, void *);
int cudaDeviceSynchronize(void);
int cudaStreamCreate(void **);
int cudaStreamSynchronize(void *);
int cudaStreamBeginCapture(void *, int);
int cudaStreamEndCapture(void *, void **);
int cudaGraphInstantiate(void **, void *, unsigned long long);
int cudaGraphLaunch(void *, void *);
int cudaLaunchKernel(const void *, dimensions, dimensions, void **, size_t, void *);

static void expect(const char *what, int is_so) {
    if (is_so) return;
    fprintf(stderr, "not so: %s\n", what);
    exit(1);
}

static void mark(const char *text) {
    FILE *trace = fopen(getenv("COUNTING_CUDA_TRACE"), "a");
    expect("the trace can be written to", trace != NULL);
    fprintf(trace, "mark %s\n", text);
    fclose(trace);
}

int main(void) {
    const dimensions one = {1, 1, 1};
    char host[8] = {1, 2, 3};
    void *stream, *other, *memory, *more, *graph, *recorded;
    expect("streams are made", cudaStreamCreate(&stream) == 0 && cudaStreamCreate(&other) == 0);
    expect("memory is there", cudaMalloc(&memory, 8) == 0);

    mark("forbidden");
    expect("a recording begins", cudaStreamBeginCapture(stream, 0) == 0);
    expect("cudaMalloc", cudaMalloc(&more, 8) != 0);
    expect("cudaFree", cudaFree(memory) != 0);
    expect("cudaMemcpy", cudaMemcpy(memory, host, 8, 1) != 0);
    expect("cudaDeviceSynchronize", cudaDeviceSynchronize() != 0);
    expect("cudaStreamSynchronize", cudaStreamSynchronize(stream) != 0);
    expect("the default stream", cudaLaunchKernel(host, one, one, NULL, 0, NULL) != 0);
    expect("a broken recording", cudaStreamEndCapture(stream, &graph) != 0);

    mark("allowed");
    expect("a recording begins", cudaStreamBeginCapture(stream, 0) == 0);
    expect("a launch", cudaLaunchKernel(host, one, one, NULL, 0, stream) == 0);
    expect("a copy", cudaMemcpyAsync(memory, host, 8, 1, stream) == 0);
    expect("another stream's end", cudaStreamSynchronize(other) == 0);
    expect("a whole recording", cudaStreamEndCapture(stream, &graph) == 0);
    expect("it is made ready", cudaGraphInstantiate(&recorded, graph, 0) == 0);
    expect("a replay", cudaGraphLaunch(recorded, stream) == 0 && cudaStreamSynchronize(stream) == 0);
    expect("memory again", cudaMalloc(&more, 8) == 0 && cudaFree(more) == 0 && cudaFree(memory) == 0);
    return 0;
}
