/* Writes down what a process does to the files below DISK_DIR, in order: LD_PRELOAD before a server.
 *
 * Each record goes to the file DISK_LOG with one write() in append mode, while a lock is held, after the
 * call that it is about has ended. So the log's order is the order of the calls; and whatever somebody
 * appends to it after an answer of the server stands behind all that the server did before it answered.
 *
 * DISK_FAIL=n:errno makes the n-th write, sync or truncation fail with that errno; with a + behind, all
 * from then on. DISK_KILL=n ends the process as kill -9 does, after its n-th such call, just before the first sync of a
 * commit: the worst moment, since what it wrote to SQLite's log is in the kernel's memory and nowhere else. Calls that are
 * not modelled end the process, so that none is missed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, CLOSE, WRITE, TRUNCATE, SYNC, UNLINK, NOTE /* of the clients */, FAILED };
enum { FDS = 4096 };

struct head { uint32_t kind; int32_t fd; uint64_t offset, length; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
enum { OTHER = 1, SQLITE_LOG };
static char watched[FDS], holds_frames[FDS];
static int out = -1;
static const char *dir;
static long fail_at = -1, kill_at = -1, calls;
static int fail_with, fail_on;

__attribute__((constructor)) static void start(void) {
    const char *log = getenv("DISK_LOG"), *fail = getenv("DISK_FAIL");
    if (fail) {
        char more = 0;
        sscanf(fail, "%ld:%d%c", &fail_at, &fail_with, &more);
        fail_on = more == '+';
    }
    if (getenv("DISK_KILL")) kill_at = atol(getenv("DISK_KILL"));
    if (log) out = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (out >= 0) dir = getenv("DISK_DIR");
}

static void die(const char *why) {
    syscall(SYS_write, 2, why, strlen(why));
    abort();
}

static int ends(const char *path, const char *end) {
    size_t a = strlen(path), b = strlen(end);
    return a >= b && strcmp(path + a - b, end) == 0;
}

/* The memory of a WAL is built anew after a crash, and the lock file holds no data. */
static int of_interest(const char *path) {
    return dir && strncmp(path, dir, strlen(dir)) == 0 && !ends(path, "-shm") && !ends(path, ".lock");
}

static int is_watched(int fd) { return fd >= 0 && fd < FDS && watched[fd]; }

static void record(uint32_t kind, int fd, uint64_t offset, const void *data, size_t length) {
    struct head head = {kind, fd, offset, length};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)data, length}};
    if (syscall(SYS_writev, out, parts, 2) != (ssize_t)(sizeof head + length)) die("disk shim: log\n");
}

/* Whether this call is to fail. Called with the lock held. */
static int fails(int fd, uint32_t kind) {
    long n = ++calls;
    if (kill_at >= 0 && n > kill_at && kind == SYNC && holds_frames[fd]) kill(getpid(), SIGKILL);
    if (fail_at < 0 || !(n == fail_at || (fail_on && n > fail_at))) return 0;
    record(FAILED, fd, kind, NULL, 0);
    errno = fail_with;
    return 1;
}

static int open_at(int at, const char *path, int flags, mode_t mode) {
    if (!of_interest(path)) return syscall(SYS_openat, at, path, flags, mode);
    if (flags & O_TRUNC) die("disk shim: O_TRUNC is not modelled\n");
    pthread_mutex_lock(&lock);
    int fd = syscall(SYS_openat, at, path, flags, mode);
    if (fd >= FDS) die("disk shim: too many files\n");
    if (fd >= 0) {
        watched[fd] = ends(path, "-wal") ? SQLITE_LOG : OTHER;
        holds_frames[fd] = 0;
        record(OPEN, fd, flags & O_CREAT ? 1 : 0, path, strlen(path));
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list v; va_start(v, flags); mode = va_arg(v, mode_t); va_end(v); }

int open(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return open_at(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return open_at(at, path, flags, mode); }

int close(int fd) {
    if (!is_watched(fd)) return syscall(SYS_close, fd);
    pthread_mutex_lock(&lock);
    watched[fd] = 0;
    record(CLOSE, fd, 0, NULL, 0);
    int result = syscall(SYS_close, fd);
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    if (!is_watched(fd)) return syscall(SYS_pwrite64, fd, data, length, offset);
    pthread_mutex_lock(&lock);
    ssize_t done = fails(fd, WRITE) ? -1 : syscall(SYS_pwrite64, fd, data, length, offset);
    if (done > 0) record(WRITE, fd, offset, data, done);
    /* Its header is synced by itself, and is 32 bytes long. */
    if (done >= 512 && watched[fd] == SQLITE_LOG) holds_frames[fd] = 1;
    pthread_mutex_unlock(&lock);
    return done;
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) { return pwrite(fd, data, length, offset); }

static int truncated(int fd, off_t length) {
    if (!is_watched(fd)) return syscall(SYS_ftruncate, fd, length);
    pthread_mutex_lock(&lock);
    int result = fails(fd, TRUNCATE) ? -1 : syscall(SYS_ftruncate, fd, length);
    if (result == 0) record(TRUNCATE, fd, length, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int ftruncate(int fd, off_t length) { return truncated(fd, length); }
int ftruncate64(int fd, off64_t length) { return truncated(fd, length); }

static int flushed(int fd, long call) {
    if (!is_watched(fd)) return syscall(call, fd);
    pthread_mutex_lock(&lock);
    int result = fails(fd, SYNC) ? -1 : syscall(call, fd);
    if (result == 0) {
        record(SYNC, fd, 0, NULL, 0);
        holds_frames[fd] = 0;
    }
    pthread_mutex_unlock(&lock);
    return result;
}
int fsync(int fd) { return flushed(fd, SYS_fsync); }
int fdatasync(int fd) { return flushed(fd, SYS_fdatasync); }

static int unlinked(int at, const char *path, int flags) {
    if (!of_interest(path)) return syscall(SYS_unlinkat, at, path, flags);
    pthread_mutex_lock(&lock);
    int result = syscall(SYS_unlinkat, at, path, flags);
    if (result == 0) record(UNLINK, -1, 0, path, strlen(path));
    pthread_mutex_unlock(&lock);
    return result;
}
int unlink(const char *path) { return unlinked(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return unlinked(at, path, flags); }

/* Not modelled, and not used by SQLite and the store after the vault is made. */
static void unmodelled(int yes) { if (yes) die("disk shim: a call that is not modelled\n"); }
ssize_t write(int fd, const void *data, size_t length) {
    unmodelled(is_watched(fd));
    return syscall(SYS_write, fd, data, length);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    unmodelled(is_watched(fd));
    return syscall(SYS_writev, fd, parts, count);
}
int rename(const char *from, const char *to) {
    unmodelled(of_interest(from) || of_interest(to));
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int link(const char *from, const char *to) {
    unmodelled(of_interest(to));
    return syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int fallocate(int fd, int mode, off_t offset, off_t length) {
    unmodelled(is_watched(fd));
    return syscall(SYS_fallocate, fd, mode, offset, length);
}
int posix_fallocate(int fd, off_t offset, off_t length) {
    return fallocate(fd, 0, offset, length) ? errno : 0;
}
void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    unmodelled(fd >= 0 && is_watched(fd) && (flags & MAP_SHARED) && (protection & PROT_WRITE));
    return (void *)syscall(SYS_mmap, at, length, protection, flags, fd, offset);
}
