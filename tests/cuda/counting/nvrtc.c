/* A compiler that takes everything for good. What the agent has compiled is checked by the host's compiler elsewhere. */
#include <stdlib.h>
#include <string.h>

int nvrtcCreateProgram(char **program, const char *source) {
    *program = strdup(source);
    return 0;
}

int nvrtcCompileProgram(char *program) { return strstr(program, "__global__") == NULL; }

int nvrtcDestroyProgram(char **program) {
    free(*program);
    return 0;
}

int nvrtcGetCUBINSize(char *program, size_t *size) {
    *size = strlen(program) + 1;
    return 0;
}

int nvrtcGetCUBIN(char *program, char *code) {
    strcpy(code, program);
    return 0;
}

int nvrtcGetProgramLogSize(char *program, size_t *size) { return nvrtcGetCUBINSize(program, size); }

int nvrtcGetProgramLog(char *program, char *log) { return nvrtcGetCUBIN(program, log); }
