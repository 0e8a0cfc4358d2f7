/* Processes: fork, exec in its forms, statuses, pipes, shared memory, groups. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const char *describe(int status)
{
    static char text[40];

    if (WIFEXITED(status))
        snprintf(text, sizeof text, "exit %d", WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "signal %d", WTERMSIG(status));
    else if (WIFSTOPPED(status))
        snprintf(text, sizeof text, "stopped by %d", WSTOPSIG(status));
    else
        snprintf(text, sizeof text, "continued %d", WIFCONTINUED(status));
    return text;
}

static void wait_for(const char *what, pid_t child)
{
    int status = 0;

    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    printf("%s: %s\n", what, describe(status));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int status, ends[2];
    pid_t child;
    char text[100];

    if (argc > 1 && strcmp(argv[1], "child") == 0) {
        printf("child: %d arguments, last %s, VARIABLE=%s, name %s\n", argc, argv[argc - 1],
               getenv("VARIABLE") ? getenv("VARIABLE") : "unset", strrchr(argv[0], '/') ? "path" : argv[0]);
        return argc;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);

    if ((child = fork()) == 0)
        _exit(42);
    wait_for("fork", child);
    if ((child = fork()) == 0)
        kill(getpid(), SIGKILL);
    wait_for("killed", child);
    if ((child = fork()) == 0) {
        execl("/proc/self/exe", "renamed", "child", "with execl", (char *)NULL);
        _exit(99);
    }
    wait_for("execl", child);
    if ((child = vfork()) == 0) {
        execve(argv[0], (char *[]){argv[0], "child", NULL}, (char *[]){"VARIABLE=set", NULL});
        _exit(99);
    }
    wait_for("vfork and execve", child);
    if (posix_spawn(&child, argv[0], NULL, NULL, (char *[]){argv[0], "child", "spawned", NULL}, environ) == 0)
        wait_for("posix_spawn", child);
    printf("posix_spawn of a missing file: %s\n",
           strerror(posix_spawn(&child, "./missing", NULL, NULL, (char *[]){"x", NULL}, environ)));
    execl("/", "x", (char *)NULL);
    printf("execl of a directory: %s\n", strerror(errno));
    execl("./missing", "x", (char *)NULL);
    printf("execl of a missing file: %s\n", strerror(errno));
    close(open("empty", O_CREAT | O_WRONLY, 0755));
    execl("./empty", "x", (char *)NULL);
    printf("execl of an empty file: %s\n", strerror(errno));
    printf("system: %s\n", describe(system("exit 6")));

    if (pipe2(ends, O_CLOEXEC) != 0)
        return 1;
    if ((child = fork()) == 0) {
        dup2(ends[1], 1);
        execl(argv[0], argv[0], "child", "into a pipe", (char *)NULL);
        _exit(99);
    }
    close(ends[1]);
    ssize_t length = read(ends[0], text, sizeof text - 1);
    text[length > 0 ? length : 0] = 0;
    printf("through the pipe: %s", text);
    wait_for("piped", child);

    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int private = 1;
    for (int i = 0; i < 4; i++)
        if (fork() == 0) {
            __atomic_add_fetch(shared, 10 + i, __ATOMIC_SEQ_CST);
            private += 100;
            _exit(0);
        }
    while (wait(&status) > 0)
        ;
    printf("shared %d, private %d, then wait says %s\n", *shared, private, strerror(errno));

    if ((child = fork()) == 0) {
        for (;;)
            pause();
    }
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    printf("%s, ", describe(status));
    kill(child, SIGCONT);
    waitpid(child, &status, WCONTINUED);
    printf("%s, ", describe(status));
    kill(child, SIGTERM);
    wait_for("then", child);

    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 10;
    setrlimit(RLIMIT_NOFILE, &limit);
    while (open("/dev/null", O_RDONLY) >= 0)
        ;
    printf("limit of files: %s\n", strerror(errno));
    /* One descriptor is what the child's dynamic linker takes; execve takes none. */
    close(9);
    if ((child = fork()) == 0) {
        execl(argv[0], argv[0], "child", "at the limit", (char *)NULL);
        printf("execl at the limit: %s\n", strerror(errno));
        _exit(99);
    }
    wait_for("at the limit", child);
    if ((child = fork()) == 0) {
        /* The same with open descriptors above the limit. */
        limit.rlim_cur = 200;
        setrlimit(RLIMIT_NOFILE, &limit);
        for (int fd = 100; fd < 180; fd++)
            dup2(0, fd);
        limit.rlim_cur = 10;
        setrlimit(RLIMIT_NOFILE, &limit);
        execl(argv[0], argv[0], "child", "with more than the limit", (char *)NULL);
        _exit(99);
    }
    wait_for("above the limit", child);
    return 0;
}
