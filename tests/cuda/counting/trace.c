#include "trace.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int trace_file = -1;
static long failing_launch;
static atomic_long launches, busy;
static atomic_int device_lost;
static _Thread_local int last_error;

static pthread_mutex_t captures_lock = PTHREAD_MUTEX_INITIALIZER;
enum { CAPTURES_MAX = 16 };
static stream *captures[CAPTURES_MAX];
static int capture_count;
static stream default_stream;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("COUNTING_CUDA_TRACE");
    if (path != NULL) {
        trace_file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (trace_file < 0) {
            perror("counting CUDA: COUNTING_CUDA_TRACE");
            abort();
        }
    }
    failing_launch = counting_setting("COUNTING_CUDA_FAIL_LAUNCH", 0);
    busy = counting_setting("COUNTING_CUDA_BUSY", 0);
}

void counting_trace(const char *format, ...) {
    if (trace_file < 0) return;
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length < 0) abort();
    if ((size_t)length > sizeof line - 2) length = sizeof line - 2;
    line[length] = '\n';
    /* One write a line: lines of several threads, and of the program itself, do not mix. */
    if (write(trace_file, line, (size_t)length + 1) != length + 1) abort();
}

long counting_setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtol(text, NULL, 10);
}

int counting_fail(int error) {
    last_error = error;
    return error;
}

int counting_is_busy(void) { return atomic_load(&busy) > 0 && atomic_fetch_sub(&busy, 1) > 0; }

int counting_last_error(int forget) {
    int error = device_lost ? LAUNCH_FAILED : last_error;
    if (forget) last_error = SUCCESS;
    return error;
}

stream *counting_stream(void *handle) {
    return (uintptr_t)handle <= 2 ? &default_stream : handle;
}

static int illegal(const char *call) {
    for (int i = 0; i < capture_count; i++) captures[i]->invalidated = 1;
    counting_trace("illegal %s", call);
    return counting_fail(CAPTURE_UNSUPPORTED);
}

int counting_unsafe(const char *call) {
    pthread_mutex_lock(&captures_lock);
    int error = capture_count > 0 ? illegal(call) : SUCCESS;
    pthread_mutex_unlock(&captures_lock);
    return error;
}

int counting_wait(stream *on, const char *call) {
    pthread_mutex_lock(&captures_lock);
    int error = (on == NULL ? capture_count > 0 : on->capturing) ? illegal(call) : SUCCESS;
    pthread_mutex_unlock(&captures_lock);
    counting_trace("sync %s", call);
    return error == SUCCESS && device_lost ? counting_fail(LAUNCH_FAILED) : error;
}

int counting_enqueue(stream *on, const char *call, int is_kernel) {
    pthread_mutex_lock(&captures_lock);
    int error = on == &default_stream && capture_count > 0 ? illegal(call) : SUCCESS;
    if (on->capturing && is_kernel) on->captured++;
    pthread_mutex_unlock(&captures_lock);
    if (is_kernel && atomic_fetch_add(&launches, 1) + 1 == failing_launch) device_lost = 1;
    return error == SUCCESS && device_lost ? counting_fail(LAUNCH_FAILED) : error;
}

int counting_begin_capture(stream *on, int mode) {
    pthread_mutex_lock(&captures_lock);
    int error = SUCCESS;
    if (on == &default_stream || on->capturing || capture_count == CAPTURES_MAX) {
        error = illegal("cudaStreamBeginCapture");
    } else {
        *on = (stream){.capturing = 1};
        captures[capture_count++] = on;
    }
    pthread_mutex_unlock(&captures_lock);
    counting_trace("capture begin mode %d", mode);
    return error;
}

int counting_end_capture(stream *on, long *captured) {
    pthread_mutex_lock(&captures_lock);
    int error = on->capturing && !on->invalidated ? SUCCESS : counting_fail(CAPTURE_INVALIDATED);
    for (int i = 0; i < capture_count; i++) {
        if (captures[i] == on) captures[i--] = captures[--capture_count];
    }
    *captured = on->captured;
    on->capturing = 0;
    pthread_mutex_unlock(&captures_lock);
    counting_trace("capture end %ld", *captured);
    return error;
}
