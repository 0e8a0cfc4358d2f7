/* Sockets: pairs, descriptors passed along, TCP and UDP over the loopback, options, addresses. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int check(const char *what, int result)
{
    if (result < 0)
        printf("%s: %s\n", what, strerror(errno));
    return result;
}

static void pass_a_descriptor(void)
{
    int pair[2], ends[2];
    char byte = 'd', control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};

    if (check("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) < 0 || check("pipe", pipe(ends)) < 0)
        return;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &ends[1], sizeof(int));
    check("sendmsg", (int)sendmsg(pair[0], &message, 0));
    memset(control, 0, sizeof control);
    check("recvmsg", (int)recvmsg(pair[1], &message, 0));
    int received;
    memcpy(&received, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof received);
    char text[8] = {0};
    if (write(received, "passed", 6) == 6 && read(ends[0], text, 7) == 6)
        printf("descriptor %s, message %c, control length %zu\n", text, byte, message.msg_controllen);
    struct ucred peer;
    socklen_t length = sizeof peer;
    check("SO_PEERCRED", getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &length));
    printf("peer is this process: %d\n", peer.pid == getpid());
}

static void tcp(void)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, value = 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    char text[64] = {0};

    check("SO_REUSEADDR", setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    check("bind", bind(listener, (struct sockaddr *)&address, sizeof address));
    check("listen", listen(listener, 5));
    check("getsockname", getsockname(listener, (struct sockaddr *)&address, &length));
    if (fork() == 0) {
        int server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        ssize_t got = recv(server, text, sizeof text, 0);
        for (ssize_t i = 0; i < got; i++)
            text[i] ^= 0x20;
        send(server, text, (size_t)got, MSG_NOSIGNAL);
        shutdown(server, SHUT_WR);
        _exit(0);
    }
    int client = socket(AF_INET, SOCK_STREAM, 0);
    check("connect", connect(client, (struct sockaddr *)&address, sizeof address));
    check("TCP_NODELAY", setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    check("send", (int)send(client, "Hello", 5, 0));
    check("recv", (int)recv(client, text, 5, MSG_WAITALL));
    length = sizeof value;
    check("SO_TYPE", getsockopt(client, SOL_SOCKET, SO_TYPE, &value, &length));
    printf("tcp %s, type %d, then %zd\n", text, value, recv(client, text, 1, 0));
    wait(NULL);
    printf("connect to nobody: %d ", connect(socket(AF_INET, SOCK_STREAM, 0),
                                             (struct sockaddr *)&(struct sockaddr_in){.sin_family = AF_INET,
                                                                                      .sin_port = htons(1),
                                                                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
                                             sizeof address));
    printf("%s\n", strerror(errno));
}

static void udp_and_local(void)
{
    int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from = {0};
    socklen_t length = sizeof address;
    char text[16] = {0}, numeric[INET_ADDRSTRLEN];

    check("bind", bind(a, (struct sockaddr *)&address, sizeof address));
    getsockname(a, (struct sockaddr *)&address, &length);
    check("sendto", (int)sendto(b, "datagram", 8, 0, (struct sockaddr *)&address, sizeof address));
    check("recvfrom", (int)recvfrom(a, text, sizeof text, 0, (struct sockaddr *)&from, &length));
    printf("udp %s from %s\n", text, inet_ntop(AF_INET, &from.sin_addr, numeric, sizeof numeric));

    struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int listener = socket(AF_UNIX, SOCK_SEQPACKET, 0), client = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    check("bind", bind(listener, (struct sockaddr *)&path, sizeof path));
    check("listen", listen(listener, 1));
    check("connect", connect(client, (struct sockaddr *)&path, sizeof path));
    int server = check("accept", accept(listener, NULL, NULL));
    struct mmsghdr messages[2] = {
        {.msg_hdr = {.msg_iov = &(struct iovec){"first", 5}, .msg_iovlen = 1}},
        {.msg_hdr = {.msg_iov = &(struct iovec){"second", 6}, .msg_iovlen = 1}},
    };
    printf("sendmmsg %d, ", sendmmsg(client, messages, 2, 0));
    printf("lengths %u %u\n", messages[0].msg_len, messages[1].msg_len);
    for (int i = 0; i < 2; i++)
        printf("packet of %zd\n", recv(server, text, sizeof text, 0));
    close(client);
    printf("end %zd\n", recv(server, text, sizeof text, 0));
    printf("bad address family: %d ", socket(77, SOCK_STREAM, 0));
    printf("%s\n", strerror(errno));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    pass_a_descriptor();
    tcp();
    udp_and_local();
    return 0;
}
