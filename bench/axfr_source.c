/* Sends the messages of a transfer as fast as a plain loop in C does: copies each, sets its id, and writes 128 KiB at once.
 *
 * axfr_source PORT MESSAGES-FILE [tsig]: listens on 127.0.0.1, reads one query of each connection, sends the messages (each
 * with its length before it), and waits for the end of the connection. With `tsig` it computes an HMAC-SHA256 over each
 * message and the MAC before it (RFC 8945, 5.3.1), and sends it in a record of the size of a TSIG record. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 128 << 10, MAC = 32, RECORD = 86 };

static unsigned char out[CHUNK + (66 << 10)];

static int send_all(int stream, const unsigned char *from, size_t size) {
    while (size) {
        ssize_t put = write(stream, from, size);
        if (put <= 0) return -1;
        from += put;
        size -= put;
    }
    return 0;
}

int main(int count, char **arguments) {
    if (count != 3 && count != 4) return 2;
    int file = open(arguments[2], O_RDONLY), listening = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct stat found;
    if (file < 0 || fstat(file, &found)) { perror(arguments[2]); return 2; }
    const unsigned char *messages = mmap(NULL, found.st_size, PROT_READ, MAP_SHARED, file, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 16)) { perror("listen"); return 2; }
    unsigned char key[32], query[65537];
    memset(key, 'k', sizeof key);

    for (;;) {
        int stream = accept(listening, NULL, NULL);
        size_t got = 0;
        while (got < 4 || got < (size_t)(query[0] << 8 | query[1]) + 2) {
            ssize_t more = read(stream, query + got, sizeof query - got);
            if (more <= 0) break;
            got += more;
        }
        unsigned char signed_part[2 + MAC + 65536 + 8] = {0, MAC};
        size_t size = 0, filled = 0;
        for (off_t at = 0; got && at < found.st_size; at += 2 + size) {
            size = messages[at] << 8 | messages[at + 1];
            unsigned char *message = out + filled + 2;
            memcpy(message - 2, messages + at, 2 + size);
            message[0] = query[2];
            message[1] = query[3];
            filled += 2 + size;
            if (count == 4) {
                unsigned int length = MAC;
                memcpy(signed_part + 2 + MAC, message, size);
                memset(signed_part + 2 + MAC + size, 0, 8);
                HMAC(EVP_sha256(), key, sizeof key, signed_part, 2 + MAC + size + 8, signed_part + 2, &length);
                memset(message + size, 0, RECORD);
                memcpy(message + size + RECORD - MAC - 6, signed_part + 2, MAC);
                message[11]++;
                message[-2] = (size + RECORD) >> 8;
                message[-1] = size + RECORD;
                filled += RECORD;
            }
            if (filled >= CHUNK || at + 2 + (off_t)size >= found.st_size) {
                if (send_all(stream, out, filled)) break;
                filled = 0;
            }
        }
        while (read(stream, query, sizeof query) > 0) {}
        close(stream);
    }
}
