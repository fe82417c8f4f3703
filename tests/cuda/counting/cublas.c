/* cuBLAS: matrix products are traced on the stream of their handle, and not computed. */
#include <stdlib.h>

#include "trace.h"

typedef struct {
    stream *on;
} handle;

enum { ALLOCATION_FAILED = 3, EXECUTION_FAILED = 13 };

int cublasCreate_v2(handle **made) {
    *made = malloc(sizeof **made);
    if (*made == NULL) return ALLOCATION_FAILED;
    (*made)->on = counting_stream(NULL);
    return 0;
}

int cublasDestroy_v2(handle *destroyed) {
    free(destroyed);
    return 0;
}

int cublasSetStream_v2(handle *used, void *on) {
    used->on = counting_stream(on);
    return 0;
}

int cublasSetMathMode(handle *used, int mode) {
    (void)used;
    counting_trace("math mode %d", mode);
    return 0;
}

int cublasGetMathMode(handle *used, int *mode) {
    (void)used;
    *mode = 0;
    return 0;
}

const char *cublasGetStatusName(int status) {
    return status == ALLOCATION_FAILED ? "CUBLAS_STATUS_ALLOC_FAILED" : "CUBLAS_STATUS_EXECUTION_FAILED";
}

const char *cublasGetStatusString(int status) {
    return status == ALLOCATION_FAILED ? "the resource allocation failed" : "the function failed to launch on the GPU";
}

/* Callers pass many more arguments than the handle; none of them is looked at. */
#define PRODUCT(name)                                                          \
    int name(handle *used) {                                                   \
        counting_trace("gemm " #name);                                         \
        return counting_enqueue(used->on, #name, 1) ? EXECUTION_FAILED : 0;    \
    }

PRODUCT(cublasSgemm_v2)
PRODUCT(cublasDgemm_v2)
PRODUCT(cublasGemmEx)
PRODUCT(cublasSgemmBatched)
PRODUCT(cublasDgemmBatched)
PRODUCT(cublasGemmBatchedEx)
PRODUCT(cublasSgemmStridedBatched)
PRODUCT(cublasDgemmStridedBatched)
PRODUCT(cublasGemmStridedBatchedEx)
PRODUCT(cublasSgeam)
PRODUCT(cublasDgeam)
PRODUCT(cublasScopy_v2)
PRODUCT(cublasSscal_v2)
PRODUCT(cublasSgetrfBatched)
PRODUCT(cublasDgetrfBatched)
PRODUCT(cublasSgetriBatched)
PRODUCT(cublasDgetriBatched)
