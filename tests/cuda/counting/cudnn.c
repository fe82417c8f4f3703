/* cuDNN: descriptors are empty boxes, every graph has one plan that takes no memory; what is executed is traced on the
   stream of its handle, and not computed. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "trace.h"

typedef struct {
    stream *on;
} handle;

enum { ALLOCATION_FAILED = 4, EXECUTION_FAILED = 8 };

/* 10000 major + 100 minor + patch. */
size_t cudnnGetVersion(void) { return 92800; }

const char *cudnnGetErrorString(int status) { return status == 0 ? "success" : "the device only counts"; }

void cudnnGetLastErrorString(char *text, size_t size) {
    if (size > 0) *text = '\0';
}

int cudnnCreate(handle **made) {
    *made = malloc(sizeof **made);
    if (*made == NULL) return ALLOCATION_FAILED;
    (*made)->on = counting_stream(NULL);
    return 0;
}

int cudnnDestroy(handle *destroyed) {
    free(destroyed);
    return 0;
}

int cudnnSetStream(handle *used, void *on) {
    used->on = counting_stream(on);
    return 0;
}

int cudnnGetStream(handle *used, void **on) {
    *on = used->on;
    return 0;
}

#define BOX(kind)                                        \
    int cudnnCreate##kind##Descriptor(void **made) {     \
        *made = malloc(1);                               \
        return *made == NULL ? ALLOCATION_FAILED : 0;    \
    }                                                    \
    int cudnnDestroy##kind##Descriptor(void *destroyed) { \
        free(destroyed);                                 \
        return 0;                                        \
    }

BOX(Tensor)
BOX(Filter)
BOX(Convolution)
BOX(Pooling)
BOX(Activation)
BOX(Dropout)
BOX(LRN)
BOX(ReduceTensor)
BOX(RNN)
BOX(RNNData)

#define NOTHING(name) \
    int name(void) { return 0; }

NOTHING(cudnnSetTensorNdDescriptor)
NOTHING(cudnnSetFilterNdDescriptor)
NOTHING(cudnnSetTensor4dDescriptor)
NOTHING(cudnnSetFilter4dDescriptor)
NOTHING(cudnnSetConvolution2dDescriptor)
NOTHING(cudnnSetConvolutionNdDescriptor)
NOTHING(cudnnSetConvolutionGroupCount)
NOTHING(cudnnSetConvolutionMathType)
NOTHING(cudnnSetPoolingNdDescriptor)
NOTHING(cudnnSetActivationDescriptor)
NOTHING(cudnnSetReduceTensorDescriptor)
NOTHING(cudnnDeriveBNTensorDescriptor)

/* The size is the last of `count` arguments. */
#define NO_SPACE(name, ...)                                       \
    int name(__VA_ARGS__, size_t *size) {                         \
        *size = 0;                                                \
        return 0;                                                 \
    }

NO_SPACE(cudnnGetReductionWorkspaceSize, void *a __attribute__((unused)), void *b __attribute__((unused)),
         void *c __attribute__((unused)), void *d __attribute__((unused)))
NO_SPACE(cudnnGetReductionIndicesSize, void *a __attribute__((unused)), void *b __attribute__((unused)),
         void *c __attribute__((unused)), void *d __attribute__((unused)))

/* Callers pass many more arguments than the handle; none of them is looked at. */
#define EXECUTED(name)                                                      \
    int name(handle *used) {                                                \
        counting_trace("cudnn " #name);                                     \
        return counting_enqueue(used->on, #name, 1) ? EXECUTION_FAILED : 0; \
    }

EXECUTED(cudnnAddTensor)
EXECUTED(cudnnActivationForward)
EXECUTED(cudnnBackendExecute)
EXECUTED(cudnnBatchNormalizationForwardInference)
EXECUTED(cudnnConvolutionBackwardFilter)
EXECUTED(cudnnConvolutionForward)
EXECUTED(cudnnConvolutionBiasActivationForward)
EXECUTED(cudnnPoolingForward)
EXECUTED(cudnnReduceTensor)
EXECUTED(cudnnSoftmaxForward)

/* One, which gives the same bits each time and works in some memory. */
int cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle *used, void *image, void *response, void *convolution,
                                                  void *filter, int most, int *count, char *found) {
    const size_t bytes = 1024;
    const int is_deterministic = 1;
    (void)used, (void)image, (void)response, (void)convolution, (void)filter, (void)most;
    memset(found, 0, 48);
    memcpy(found + 16, &bytes, sizeof bytes);
    memcpy(found + 24, &is_deterministic, sizeof is_deterministic);
    *count = 1;
    return 0;
}

/* Graphs of operations. */
int cudnnBackendCreateDescriptor(int kind, void **made) {
    (void)kind;
    *made = malloc(1);
    return *made == NULL ? ALLOCATION_FAILED : 0;
}

int cudnnBackendDestroyDescriptor(void *destroyed) {
    free(destroyed);
    return 0;
}

NOTHING(cudnnBackendFinalize)
NOTHING(cudnnBackendSetAttribute)

/* cuDNN's numbers for the types of attributes. */
enum { INT64 = 3, NUMERICAL_NOTE = 11, DESCRIPTOR = 15, BEHAVIOR_NOTE = 19 };

/* Of whatever is asked there is one, which is nought; a descriptor is the caller's own. Engines have no notes, for which
   callers turn them down. */
int cudnnBackendGetAttribute(void *used, int attribute, int type, int64_t wanted, int64_t *found, void *elements) {
    (void)used, (void)attribute;
    int is_note = type == NUMERICAL_NOTE || type == BEHAVIOR_NOTE;
    if (found != NULL) *found = is_note ? 0 : 1;
    if (!is_note && type != DESCRIPTOR && elements != NULL && wanted > 0) {
        memset(elements, 0, type == INT64 ? sizeof(int64_t) : sizeof(int32_t));
    }
    return 0;
}
