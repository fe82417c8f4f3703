/* What the counting libraries share: the trace, the state of captures, and the faults that a test asks for. */
#ifndef COUNTING_TRACE_H
#define COUNTING_TRACE_H

#include <stddef.h>

/* CUDA's own numbers for what can go wrong here. */
enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    OLD_DRIVER = 35,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    LAUNCH_FAILED = 719,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
};

typedef struct stream {
    int capturing;
    int invalidated;
    long captured; /* kernels and library calls in the graph so far */
} stream;

/* A line of the trace. */
void counting_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A number that the environment gives, else the default. */
long counting_setting(const char *name, long otherwise);

/* Makes `error` the last error of this thread, and returns it. */
int counting_fail(int error);
int counting_last_error(int forget);

/* Whether one of CUDA's own libraries is recording just now, as the environment has it. */
int counting_is_busy(void);

/* Work that a stream is given: part of its capture, or done. Legal on every stream, save the default one in a capture. */
int counting_enqueue(stream *on, const char *call, int is_kernel);

/* A call that no thread may make while a stream captures: it ends the captures. */
int counting_unsafe(const char *call);

/* Waiting for a stream, or for all with NULL: the captured one cannot be waited for. */
int counting_wait(stream *on, const char *call);

int counting_begin_capture(stream *on, int mode);
/* Ends the capture and says how much was captured. */
int counting_end_capture(stream *on, long *captured);

/* The stream behind a handle: NULL and the two reserved handles are the default stream. */
stream *counting_stream(void *handle);

#endif
