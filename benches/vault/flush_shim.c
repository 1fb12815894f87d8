/* Makes every flush take as long as a real disk's, and counts them: LD_PRELOAD before a server whose
 * database lies in memory. FLUSHES: a file that is mapped, shared with whoever measures. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static struct flushes {
    _Atomic uint64_t count;        /* of all files */
    _Atomic uint64_t nanos;        /* that they took together */
    _Atomic uint64_t log_started;  /* of SQLite's log: what a commit waits for */
    _Atomic uint64_t log_finished; /* the latest start of those that have finished: two may overlap */
    _Atomic uint64_t micros;       /* how long each takes; set from outside */
} * flushes;

__attribute__((constructor)) static void start(void) {
    const char *file = getenv("FLUSHES");
    int fd = file ? open(file, O_RDWR) : -1;
    if (fd < 0) return;
    void *map = mmap(NULL, sizeof *flushes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    flushes = map == MAP_FAILED ? NULL : map;
    close(fd);
}

static int is_log(int fd) {
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path);
    return size > 4 && memcmp(path + size - 4, "-wal", 4) == 0;
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int flush(int fd) {
    if (!flushes) return 0;
    int log = is_log(fd);
    uint64_t own = log ? atomic_fetch_add(&flushes->log_started, 1) + 1 : 0;
    uint64_t micros = atomic_load(&flushes->micros), begun = now();
    struct timespec wait = {(time_t)(micros / 1000000), (long)(micros % 1000000) * 1000};
    if (micros) nanosleep(&wait, NULL);
    atomic_fetch_add(&flushes->nanos, now() - begun);
    atomic_fetch_add(&flushes->count, 1);
    uint64_t latest = atomic_load(&flushes->log_finished);
    while (latest < own && !atomic_compare_exchange_weak(&flushes->log_finished, &latest, own)) {}
    return 0;
}

int fsync(int fd) { return flush(fd); }
int fdatasync(int fd) { return flush(fd); }
