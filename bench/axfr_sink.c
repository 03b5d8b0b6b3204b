/* Takes a zone transfer as fast as it comes: reads length-prefixed messages and looks at their headers only.
 *
 * axfr_sink PORT QUERY-FILE ANSWERS [tls]: sends the query (with its length before it) to 127.0.0.1, and reads until so
 * many records were in answer sections. Prints seconds, bytes, messages, and how many of these carried an additional
 * record (a TSIG). Ends with 1 where a message has an error code or another id than the query. With `tls` it uses TLS
 * 1.3 and offers ALPN `dot` (RFC 9103); it accepts any certificate. The handshake is part of the time. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static unsigned char buffer[1 << 20];

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static SSL *secured(int stream) {
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_alpn_protos(context, (const unsigned char *)"\3dot", 4);
    SSL_CTX_set_read_ahead(context, 1);
    SSL *secure = SSL_new(context);
    SSL_set_fd(secure, stream);
    return SSL_connect(secure) == 1 ? secure : NULL;
}

int main(int count, char **arguments) {
    unsigned char query[65537];
    if (count != 4 && count != 5) return 2;
    long wanted = atol(arguments[3]), answers = 0, bytes = 0, messages = 0, additional = 0;
    FILE *file = fopen(arguments[2], "rb");
    if (!file) { perror(arguments[2]); return 2; }
    size_t length = fread(query, 1, sizeof query, file);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1]))};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    double began = seconds();
    int stream = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(stream, (struct sockaddr *)&server, sizeof server)) { perror("connect"); return 1; }
    SSL *secure = count == 5 ? secured(stream) : NULL;
    if (count == 5 && !secure) { fprintf(stderr, "no TLS\n"); return 1; }
    ssize_t put = secure ? SSL_write(secure, query, length) : write(stream, query, length);
    if (put != (ssize_t)length) { perror("write"); return 1; }
    size_t head = 0, tail = 0;
    while (answers < wanted) {
        while (tail - head >= 14 && answers < wanted) {
            unsigned char *message = buffer + head + 2;
            size_t size = buffer[head] << 8 | buffer[head + 1];
            if (tail - head < size + 2) break;
            if (message[0] != query[2] || message[1] != query[3] || message[3] & 15) {
                fprintf(stderr, "message %ld: another id, or error code %d\n", messages, message[3] & 15);
                return 1;
            }
            answers += message[6] << 8 | message[7];
            additional += (message[10] << 8 | message[11]) > 0;
            messages++;
            bytes += size + 2;
            head += size + 2;
        }
        if (answers >= wanted) break;
        if (sizeof buffer - tail < 1 << 17) {
            memmove(buffer, buffer + head, tail - head);
            tail -= head;
            head = 0;
        }
        size_t room = sizeof buffer - tail;
        ssize_t got = secure ? SSL_read(secure, buffer + tail, room) : read(stream, buffer + tail, room);
        if (got <= 0) { fprintf(stderr, "the transfer ended after %ld records\n", answers); return 1; }
        tail += got;
    }
    printf("%.6f %ld %ld %ld\n", seconds() - began, bytes, messages, additional);
    return 0;
}
