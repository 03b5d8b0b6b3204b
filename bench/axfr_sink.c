/* Takes a zone transfer as fast as the socket gives it, and says how long that took.
 *
 *     axfr_sink PORT QUERY ANSWERS
 *
 * Sends the DNS message in the file QUERY to 127.0.0.1 and reads the messages of the answer, each behind its length
 * (RFC 5936 2.2, RFC 1035 4.2.2), until they have said ANSWERS records. Of a message only the header is looked at: its
 * id is the query's, its rcode 0. Prints JSON; seconds are from before connect() to the last octet.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { PREFIX = 2, HEAD = PREFIX + 12, STALL = 60 /* seconds */ };

static unsigned char query[PREFIX + 65535], received[1 << 18];

static void fail(const char *what)
{
    fprintf(stderr, "axfr_sink: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static unsigned number(const unsigned char *at)
{
    return at[0] << 8 | at[1];
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static size_t read_query(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(path);
    size_t size = fread(query + PREFIX, 1, sizeof query - PREFIX, file);
    fclose(file);
    query[0] = size >> 8;
    query[1] = size & 255;
    return PREFIX + size;
}

static int connected(unsigned port)
{
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval stall = {.tv_sec = STALL};
    int stream = socket(AF_INET, SOCK_STREAM, 0);
    there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (stream < 0 || setsockopt(stream, SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof stall)
        || connect(stream, (struct sockaddr *)&there, sizeof there))
        fail("connect");
    return stream;
}

int main(int count, char **arguments)
{
    if (count != 4)
        fail("usage: axfr_sink PORT QUERY ANSWERS");
    size_t asked = read_query(arguments[2]);
    unsigned long long wanted = strtoull(arguments[3], NULL, 10), answers = 0, bytes = 0, messages = 0, with_tsig = 0;
    unsigned char head[HEAD];
    size_t have = 0, left = 0; /* octets of this message's head that are here, and of its body that are to come */

    double began = seconds();
    int stream = connected(atoi(arguments[1]));
    if (send(stream, query, asked, 0) != (ssize_t)asked)
        fail("send");
    while (answers < wanted || left) {
        ssize_t got = recv(stream, received, sizeof received, 0);
        if (got <= 0)
            fail("the transfer ended early");
        bytes += got;
        for (size_t at = 0; at < (size_t)got;) {
            if (have < HEAD) {
                head[have++] = received[at++];
                if (have < HEAD)
                    continue;
                if (number(head) < HEAD - PREFIX || memcmp(head + PREFIX, query + PREFIX, 2) || head[5] & 15)
                    fail("a message that is too short, has another id or an error");
                left = number(head) - (HEAD - PREFIX);
                messages++;
                answers += number(head + 8);
                with_tsig += number(head + 12) > 0;
            }
            size_t here = left < got - at ? left : got - at;
            at += here;
            left -= here;
            if (!left)
                have = 0;
        }
    }
    double took = seconds() - began;
    if (answers != wanted || have)
        fail("more came than was expected");
    printf("{\"seconds\": %.6f, \"bytes\": %llu, \"messages\": %llu, \"signed\": %llu}\n", took, bytes, messages, with_tsig);
    close(stream);
    return 0;
}
