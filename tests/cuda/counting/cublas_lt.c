/* cuBLASLt: descriptors are empty boxes; products are traced on the stream that they are given. */
#include <stdlib.h>
#include <string.h>

#include "trace.h"

enum { ALLOCATION_FAILED = 3, EXECUTION_FAILED = 13 };

#define BOX(create, destroy)                                \
    int create(void **made) {                               \
        *made = malloc(1);                                  \
        return *made == NULL ? ALLOCATION_FAILED : 0;       \
    }                                                       \
    int destroy(void *destroyed) {                          \
        free(destroyed);                                    \
        return 0;                                           \
    }

BOX(cublasLtCreate, cublasLtDestroy)
BOX(cublasLtMatmulDescCreate, cublasLtMatmulDescDestroy)
BOX(cublasLtMatmulPreferenceCreate, cublasLtMatmulPreferenceDestroy)
BOX(cublasLtMatrixLayoutCreate, cublasLtMatrixLayoutDestroy)
BOX(cublasLtMatrixTransformDescCreate, cublasLtMatrixTransformDescDestroy)

#define NOTHING(name) \
    int name(void) { return 0; }

NOTHING(cublasLtMatmulAlgoConfigSetAttribute)
NOTHING(cublasLtMatmulAlgoInit)
NOTHING(cublasLtMatmulDescSetAttribute)
NOTHING(cublasLtMatmulPreferenceSetAttribute)
NOTHING(cublasLtMatrixLayoutSetAttribute)

/* One way, of 96 bytes. */
int cublasLtMatmulAlgoGetHeuristic(void *used, void *product, void *a, void *b, void *c, void *d, void *preference,
                                   int wanted, void *results, int *found) {
    (void)used, (void)product, (void)a, (void)b, (void)c, (void)d, (void)preference;
    *found = wanted > 0;
    if (*found) memset(results, 0, 96);
    return 0;
}

int cublasLtMatmul(void *used, void *product, const void *alpha, const void *a, void *a_layout, const void *b,
                   void *b_layout, const void *beta, const void *c, void *c_layout, void *d, void *d_layout,
                   const void *way, void *workspace, size_t workspace_size, void *on) {
    (void)used, (void)product, (void)alpha, (void)a, (void)a_layout, (void)b, (void)b_layout, (void)beta, (void)c;
    (void)c_layout, (void)d, (void)d_layout, (void)way, (void)workspace, (void)workspace_size;
    counting_trace("gemm cublasLtMatmul");
    return counting_enqueue(counting_stream(on), "cublasLtMatmul", 1) ? EXECUTION_FAILED : 0;
}

int cublasLtMatrixTransform(void *used, void *transform, const void *alpha, const void *a, void *a_layout,
                            const void *beta, const void *b, void *b_layout, void *c, void *c_layout, void *on) {
    (void)used, (void)transform, (void)alpha, (void)a, (void)a_layout, (void)beta, (void)b, (void)b_layout, (void)c;
    (void)c_layout;
    counting_trace("gemm cublasLtMatrixTransform");
    return counting_enqueue(counting_stream(on), "cublasLtMatrixTransform", 1) ? EXECUTION_FAILED : 0;
}
