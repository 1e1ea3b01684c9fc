/* A disk that becomes full: loaded before libc, it lets the first writes to files of one folder through and fails every
 * later one with ENOSPC. Pipes, terminals and other folders are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[4096];
static long writes, left = -1;

/* Count from now on the writes to what lies in `path`; fail all after the first `count`, none if it is below 0. */
void full_disk_begin(const char *path, long count) {
    snprintf(folder, sizeof folder, "%s/", path);
    writes = 0, left = count;
}

long full_disk_writes(void) { return writes; }

static int is_full(int fd) {
    char link[64], target[4096];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    if (strncmp(target, folder, strlen(folder))) return 0;
    writes++;
    if (left < 0 || writes <= left) return 0;
    errno = ENOSPC;
    return 1;
}

#define REPLACE(result, name, parameters, ...)                                          \
    result name parameters {                                                            \
        static result (*real) parameters;                                               \
        if (!real) real = (result(*) parameters)dlsym(RTLD_NEXT, #name);                \
        return is_full(fd) ? -1 : real(__VA_ARGS__);                                    \
    }

REPLACE(ssize_t, write, (int fd, const void *data, size_t bytes), fd, data, bytes)
REPLACE(ssize_t, pwrite, (int fd, const void *data, size_t bytes, off_t at), fd, data, bytes, at)
REPLACE(ssize_t, pwrite64, (int fd, const void *data, size_t bytes, off64_t at), fd, data, bytes, at)
REPLACE(ssize_t, writev, (int fd, const struct iovec *parts, int count), fd, parts, count)
