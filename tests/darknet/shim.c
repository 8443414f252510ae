/* A library that looks like Darknet's from outside and answers from a recording, for test_library.py.

   SHIM_FOLDER holds `input`, what the network must be fed with; `0`, `1`, ..., the outputs of its sections, all
   bare float32; and `sizes`, how many bytes the weights file of each part of it has.
   SHIM_FAULT names a way to fail. A network that ends with section SHIM_AT fails, or all.
   Compiled with -DALEXEYAB, -DPJREDDIE, or as what must be refused: -DOLD, -DNO_PREDICT, -DNO_LOAD. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct {
    long version_specific[7];
    int sections, cost;
} network;

static void fail(const char *why) {
    fprintf(stderr, "%s\n", why);
    exit(EXIT_FAILURE);
}

static FILE *recorded(const char *name, long *size) {
    char path[4096];
    struct stat status;
    snprintf(path, sizeof path, "%s/%s", getenv("SHIM_FOLDER"), name);
    FILE *file = fopen(path, "rb");
    if (!file || stat(path, &status)) fail("nothing was recorded");
    *size = status.st_size;
    return file;
}

static void perhaps_fail(const char *moment, int section) {
    const char *fault = getenv("SHIM_FAULT"), *at = getenv("SHIM_AT");
    if (!fault || strncmp(fault, moment, strlen(moment)) || (at && atoi(at) != section)) return;
    fprintf(stderr, "   layer   filters  size\n   %d conv\n\n", section);
    printf("first line\n");
    if (strstr(fault, "abort")) {
        fprintf(stderr, "Darknet error location: ./src/utils.c\nLayer\tbefore must output image.\n");
        abort();
    }
    if (strstr(fault, "exit0")) {
        printf("Error: l.outputs == params.inputs\n");
        exit(0);
    }
    if (strstr(fault, "exit1")) fail("CUDA Error: out of memory\x1b[31m");
    if (strstr(fault, "segfault")) *(volatile int *)8 = 1;
}

#ifndef NO_LOAD
network *load_network(char *cfg, char *weights, int clear) {
    char line[4096], name[64];
    int batch = 0, subdivisions = 0;
    long size, expected = -1;
    network *net = calloc(1, sizeof *net);
    FILE *file = fopen(cfg, "r");
    if (!file || clear) fail("bad arguments");
    net->sections = -1;
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '[') {
            ++net->sections;
            net->cost = !strncmp(line, "[cost]", 6);
            if (!net->sections && batch) fail("an option before [net]");
        } else if (!net->sections) { /* the first of equal keys counts */
            if (!batch) sscanf(line, "batch=%d", &batch);
            if (!subdivisions) sscanf(line, "subdivisions=%d", &subdivisions);
        }
    }
    fclose(file);
    if (batch != 1 || subdivisions != 1) fail("more than one picture");
    file = recorded("sizes", &size);
    for (int i = 0; i < net->sections; ++i)
        if (fscanf(file, "%ld", &expected) != 1) fail("nothing was recorded");
    fclose(file);
    struct stat status;
    if (stat(weights, &status) || status.st_size != expected) fail("the weights do not fit the cfg");
    printf("Loading %s\n", weights);
    fprintf(stderr, "Done! Loaded %d layers\n", net->sections);
    perhaps_fail("load", net->sections - 1);
    return getenv("SHIM_FAULT") && !strcmp(getenv("SHIM_FAULT"), "null") ? 0 : net;
}
#endif

static float *predicted(network *net, float *input) {
    char name[16];
    long size;
    perhaps_fail("predict", net->sections - 1);
    FILE *file = recorded("input", &size);
    char *expected = malloc(size);
    if (fread(expected, 1, size, file) != (size_t)size || memcmp(expected, input, size)) fail("another input");
    fclose(file);
    snprintf(name, sizeof name, "%d", net->sections - 1 - net->cost);
    file = recorded(name, &size);
    float *output = malloc(size);
    if (fread(output, 1, size, file) != (size_t)size) fail("nothing was recorded");
    fclose(file);
    return output;
}

#ifdef PJREDDIE
float *network_predict(network *net, float *input) { return predicted(net, input); }
#endif

#ifdef ALEXEYAB
float *network_predict_ptr(network *net, float *input) { return predicted(net, input); }
#endif

#if defined ALEXEYAB || defined OLD
float *network_predict(network net, float *input) { abort(); }
network *load_network_custom(char *cfg, char *weights, int clear, int batch) { abort(); }
#endif
