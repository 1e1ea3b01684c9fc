/* Runs one native kernel in a process of another platform. On its standard input, all numbers 8 bytes: how many
 * regions of memory; each region's size and bytes; how many fields; the fields of the kernel's struct; how many of them
 * are pointers; for each its index, its region and its offset there. Writes the regions back to its standard output. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#include <fcntl.h>
#include <io.h>
#include <malloc.h>
#define aligned_alloc(alignment, bytes) _aligned_malloc(bytes, alignment)
#endif

typedef int Kernel(const void *);
extern Kernel rgbt_fusion_scan_forward, rgbt_fusion_scan_backward, rgbt_fusion_conv_forward, rgbt_fusion_conv_backward;

static void take(void *to, size_t bytes) {
    if (fread(to, 1, bytes, stdin) != bytes) exit(100);
}

static int64_t number(void) {
    int64_t n;
    return take(&n, sizeof n), n;
}

static Kernel *named(const char *name) {
    if (!strcmp(name, "scan_forward")) return rgbt_fusion_scan_forward;
    if (!strcmp(name, "scan_backward")) return rgbt_fusion_scan_backward;
    if (!strcmp(name, "conv_forward")) return rgbt_fusion_conv_forward;
    if (!strcmp(name, "conv_backward")) return rgbt_fusion_conv_backward;
    exit(101);
}

int main(int count, char **arguments) {
    if (count != 2) return 102;
#if defined(_WIN32)
    _setmode(_fileno(stdin), _O_BINARY);
    _setmode(_fileno(stdout), _O_BINARY);
#endif
    int64_t regions = number(), *sizes = calloc(regions, sizeof *sizes);
    char **memory = calloc(regions, sizeof *memory);
    for (int64_t i = 0; i < regions; i++) {
        sizes[i] = number();
        memory[i] = aligned_alloc(64, sizes[i] / 64 * 64 + 64);
        take(memory[i], sizes[i]);
    }
    int64_t fields = number(), *job = calloc(fields, sizeof *job);
    take(job, fields * sizeof *job);
    for (int64_t pointers = number(); pointers > 0; pointers--) {
        int64_t field = number(), region = number(), offset = number();
        job[field] = (int64_t)(memory[region] + offset);
    }
    int failed = named(arguments[1])(job);
    for (int64_t i = 0; i < regions; i++) fwrite(memory[i], 1, sizes[i], stdout);
    return failed;
}
