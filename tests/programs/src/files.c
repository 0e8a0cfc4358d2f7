/* Files and directories by system call: offsets of 64 bits, vectors, locks, directories, times, errors. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <unistd.h>

#define TRY(expression)                                                                                          \
    do {                                                                                                         \
        errno = 0;                                                                                               \
        long result_ = (long)(expression);                                                                       \
        printf("%s: %ld%s%s\n", #expression, result_, errno ? " " : "", errno ? strerror(errno) : "");           \
    } while (0)

static char *volatile unmapped = (char *)16;

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void offsets(void)
{
    char buffer[16] = {0};
    int file = open("big", O_RDWR | O_CREAT, 0600);
    struct stat status;

    TRY(pwrite(file, "far", 3, 5000000000LL));
    fstat(file, &status);
    printf("size %lld mode %o links %d\n", (long long)status.st_size, status.st_mode, (int)status.st_nlink);
    TRY(lseek(file, 4999999999LL, SEEK_SET) == 4999999999LL);
    TRY(read(file, buffer, 10));
    printf("%d %s\n", buffer[0], buffer + 1);
    TRY(lseek(file, -1, SEEK_SET));
    TRY(lseek(file, 0, SEEK_END) == 5000000003LL);
    TRY(ftruncate(file, 10));
    struct iovec parts[] = {{"one ", 4}, {"", 0}, {"two", 3}};
    TRY(pwritev(file, parts, 3, 2));
    TRY(pread(file, buffer, 10, 0));
    printf("%.5s %d\n", buffer + 2, buffer[0]);
    TRY(flock(file, LOCK_EX | LOCK_NB));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 3000000000LL, .l_len = 1};
    TRY(fcntl(file, F_SETLK, &lock));
    TRY(fcntl(file, F_GETFL) & (O_ACCMODE | O_APPEND));
    TRY(fcntl(file, F_SETFL, O_APPEND));
    TRY(fcntl(file, F_GETFL) & (O_ACCMODE | O_APPEND));
    TRY(fcntl(file, F_DUPFD_CLOEXEC, 50));
    TRY(fcntl(50, F_GETFD));
    TRY(posix_fallocate(file, 0, 100));
    close(file);
    unlink("big");
}

static void errors(void)
{
    char buffer[8];

    TRY(open("missing", O_RDONLY));
    TRY(open(".", O_WRONLY));
    TRY(open("/dev/null/x", O_RDONLY));
    TRY(read(99, buffer, 1));
    TRY(write(1, unmapped, 1));
    TRY(open(unmapped, O_RDONLY));
    TRY(mkdir("d", 0755));
    TRY(mkdir("d", 0755));
    TRY(rmdir("/nothing/here"));
    TRY(symlink("loop", "loop"));
    TRY(open("loop", O_RDONLY));
    TRY(open("loop", O_RDONLY | O_NOFOLLOW));
    TRY(unlink("d"));
    TRY(rename("d", "e"));
    TRY(link("e", "f"));
    TRY(readlink("loop", buffer, 2));
    TRY(chdir("loop"));
    TRY(getxattr("e", "user.none", buffer, 8));
    TRY(dup2(99, 1));
}

static void directories(void)
{
    struct dirent **entries;
    struct stat status;
    struct timespec times[2] = {{1000000000, 123456789}, {2000000000, 987654321}};
    char name[64];

    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "e/file-%03d", i);
        close(open(name, O_CREAT | O_WRONLY, 0644));
    }
    int count = scandir("e", &entries, NULL, by_name);
    printf("%d entries: %s %s ... %s\n", count, entries[0]->d_name, entries[2]->d_name, entries[count - 1]->d_name);
    DIR *directory = opendir("e");
    long place = 0;
    for (int i = 0; i < 100; i++) {
        if (i == 50)
            place = telldir(directory);
        struct dirent *entry = readdir(directory);
        if (i == 50)
            strcpy(name, entry->d_name);
    }
    seekdir(directory, place);
    printf("seekdir returns to the same entry: %d\n", strcmp(readdir(directory)->d_name, name) == 0);
    closedir(directory);
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "e/file-%03d", i);
        if (i > 0)
            unlink(name);
    }
    TRY(utimensat(AT_FDCWD, "e/file-000", times, 0));
    stat("e/file-000", &status);
    printf("%ld.%09ld %ld.%09ld\n", (long)status.st_atim.tv_sec, status.st_atim.tv_nsec, (long)status.st_mtim.tv_sec,
           status.st_mtim.tv_nsec);
    struct statx extended;
    TRY(statx(AT_FDCWD, "e", 0, STATX_BASIC_STATS, &extended));
    printf("%o\n", extended.stx_mode);
    struct statvfs space;
    TRY(statvfs("/", &space));
    printf("%d\n", space.f_bsize > 0 && space.f_blocks >= space.f_bfree);
    struct utsname system;
    uname(&system);
    printf("%s\n", system.sysname);
    char cwd[4096];
    TRY(chdir("e"));
    printf("%s\n", strrchr(getcwd(cwd, sizeof cwd), '/'));
}

static void events(void)
{
    int ends[2], epoll = epoll_create1(0), event = eventfd(3, EFD_NONBLOCK), timer = timerfd_create(CLOCK_MONOTONIC, 0);
    unsigned long long value = 0;
    struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = 0x123456789abcdefULL}, seen = {0};
    fd_set readable;
    int bytes = 0;

    if (pipe(ends) != 0)
        exit(1);
    struct pollfd polled[] = {{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}};
    TRY(poll(polled, 2, 0));
    TRY(write(ends[1], "xyz", 3));
    TRY(poll(polled, 2, 1000));
    printf("%x %x\n", polled[0].revents, polled[1].revents);
    TRY(ioctl(ends[0], FIONREAD, &bytes));
    FD_ZERO(&readable);
    FD_SET(ends[0], &readable);
    TRY(select(ends[0] + 1, &readable, NULL, NULL, &(struct timeval){1, 0}));
    TRY(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &wanted));
    TRY(epoll_wait(epoll, &seen, 1, 1000));
    printf("%d bytes, %x %llx\n", bytes, seen.events, (unsigned long long)seen.data.u64);
    TRY(read(event, &value, 8));
    TRY(read(event, &value, 8));
    printf("%llu\n", value);
    TRY(timerfd_settime(timer, 0, &(struct itimerspec){.it_value = {0, 10000000}}, NULL));
    TRY(read(timer, &value, 8));
    int watcher = inotify_init1(0);
    char notes[512];
    TRY(inotify_add_watch(watcher, ".", IN_CREATE));
    close(open("noticed", O_CREAT | O_WRONLY, 0600));
    TRY(read(watcher, notes, sizeof notes) > 0);
    printf("%s\n", ((struct inotify_event *)notes)->name);
}

/* As many events as there are come with one call. */
static void many_events(void)
{
    enum { MOST = 6000 };
    static struct epoll_event seen[MOST];
    int epoll = epoll_create1(0), watched = 0;
    struct rlimit limit;

    TRY(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max;
    TRY(setrlimit(RLIMIT_NOFILE, &limit));
    while (watched < MOST) {
        struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = (unsigned long long)watched << 32 | watched};
        int event = eventfd(1, 0);
        if (event < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wanted) != 0)
            break;
        watched++;
    }
    int found = epoll_wait(epoll, seen, MOST, 0);
    unsigned long long sum = 0;
    for (int i = 0; i < found; i++)
        sum += seen[i].data.u64;
    printf("all watched seen: %d, sum right: %d\n", found == watched,
           sum == (unsigned long long)watched * (watched - 1) / 2 * 0x100000001ULL);
    for (int fd = epoll; fd <= epoll + watched; fd++)
        close(fd);
}

int main(void)
{
    umask(022);
    offsets();
    errors();
    directories();
    events();
    many_events();
    return 0;
}
