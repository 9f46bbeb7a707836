/* The yardstick of the pull benchmark: what a pull costs when nothing but the work itself is done.
 *
 *     c_loop PLAN TARGET THREADS BLOCK_BYTES [CA_FILE]
 *
 * Threads take chunks from a common counter. Each keeps one HTTP/1.1 connection and one block: received bytes are
 * hashed (OpenSSL SHA-256) and written at their final offset in preallocated files, while they are in the CPU cache.
 * The digest of every chunk is compared. Write-back starts as soon as a chunk is complete; every file and the
 * directory are fsynced before the end, so the result is as durable as that of the tool it is compared with.
 *
 * PLAN is text: "HOST PORT", "FILES n", n lines "SIZE PATH", "CHUNKS m", m lines
 * "SHA256 LENGTH SEGMENTS" followed by SEGMENTS times "FILE OFFSET LENGTH".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

struct segment { int file; off_t offset; size_t length; };
struct chunk { char sha[65]; size_t length; int segments; struct segment *segment; };
struct file { int fd; off_t size; };
struct connection { int fd; SSL *ssl; };

static char host[64];
static int port, file_count, chunk_count, thread_count;
static size_t block_bytes;
static struct file *files;
static struct chunk *chunks;
static SSL_CTX *tls;
static EVP_MD *sha256;
static atomic_int next_chunk, next_file;

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, errno ? ": %s\n" : "\n", strerror(errno));
    _exit(1);
}

static void read_plan(const char *plan, const char *target) {
    char path[4096];
    FILE *in = fopen(plan, "r");
    if (!in || fscanf(in, "%63s %d FILES %d", host, &port, &file_count) != 3) die("plan %s", plan);
    files = calloc(file_count, sizeof *files);
    if (chdir(target)) die("chdir %s", target);
    for (int i = 0; i < file_count; i++) {
        if (fscanf(in, "%ld %4095s", &files[i].size, path) != 2) die("plan: file %d", i);
        files[i].fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (files[i].fd < 0) die("open %s", path);
        if (files[i].size && fallocate(files[i].fd, 0, 0, files[i].size)) die("fallocate %s", path);
    }
    if (fscanf(in, " CHUNKS %d", &chunk_count) != 1) die("plan: chunks");
    chunks = calloc(chunk_count, sizeof *chunks);
    for (int i = 0; i < chunk_count; i++) {
        struct chunk *c = &chunks[i];
        if (fscanf(in, "%64s %zu %d", c->sha, &c->length, &c->segments) != 3) die("plan: chunk %d", i);
        c->segment = calloc(c->segments, sizeof *c->segment);
        for (int s = 0; s < c->segments; s++) {
            struct segment *g = &c->segment[s];
            if (fscanf(in, "%d %ld %zu", &g->file, &g->offset, &g->length) != 3) die("plan: segment of chunk %d", i);
        }
    }
    fclose(in);
}

static struct connection dial(void) {
    struct connection c = {socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), NULL};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1;
    if (c.fd < 0 || inet_pton(AF_INET, host, &address.sin_addr) != 1) die("socket for %s", host);
    if (connect(c.fd, (struct sockaddr *)&address, sizeof address)) die("connect to port %d", port);
    setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (tls) {
        c.ssl = SSL_new(tls);
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(c.ssl), host);
        SSL_set_fd(c.ssl, c.fd);
        if (SSL_connect(c.ssl) != 1) die("TLS handshake");
    }
    return c;
}

static void send_all(struct connection *c, const char *text, size_t length) {
    ssize_t sent = c->ssl ? SSL_write(c->ssl, text, length) : send(c->fd, text, length, MSG_NOSIGNAL);
    if (sent != (ssize_t)length) die("send");
}

/* Receives at least `least` bytes and at most `most`. */
static size_t receive(struct connection *c, unsigned char *to, size_t least, size_t most) {
    size_t have = 0;
    while (have < least) {
        ssize_t got = c->ssl ? SSL_read(c->ssl, to + have, most - have)
                             : recv(c->fd, to + have, most - have, least == most ? MSG_WAITALL : 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) die("connection ended after %zu bytes", have);
        have += got;
    }
    return have;
}

/* Sends the request and reads the header; returns how many bytes of the body lie at the start of `block`. */
static size_t begin(struct connection *c, const struct chunk *chunk, unsigned char *block) {
    char request[256], *end = NULL, *field;
    size_t have = 0;
    int n = snprintf(request, sizeof request, "GET /data/%s HTTP/1.1\r\nHost: %s:%d\r\n\r\n", chunk->sha, host, port);
    send_all(c, request, n);
    while (!end) {
        if (have >= 8192) die("header too long");
        have += receive(c, block + have, 1, block_bytes - 1 - have);
        block[have] = 0;
        end = memmem(block, have, "\r\n\r\n", 4);
    }
    *end = 0;
    if (strncmp((char *)block, "HTTP/1.1 200", 12)) die("%s: %.40s", chunk->sha, block);
    field = strcasestr((char *)block, "\r\nContent-Length:");
    if (!field || strtoul(field + 17, NULL, 10) != chunk->length) die("%s: wrong length", chunk->sha);
    have -= (unsigned char *)end + 4 - block;
    memmove(block, end + 4, have);
    return have;
}

static void write_at(int fd, const unsigned char *from, size_t length, off_t offset) {
    while (length) {
        ssize_t put = pwrite(fd, from, length, offset);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) die("pwrite");
        from += put, length -= put, offset += put;
    }
}

static void fetch(struct connection *c, const struct chunk *chunk, unsigned char *block, EVP_MD_CTX *context) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    char hex[65];
    size_t have = begin(c, chunk, block), left = chunk->length, done_in_segment = 0;
    const struct segment *segment = chunk->segment;
    EVP_DigestInit_ex(context, sha256, NULL);
    while (left) {
        size_t want = left < block_bytes ? left : block_bytes;
        if (have < want) receive(c, block + have, want - have, want - have);
        EVP_DigestUpdate(context, block, want);
        for (size_t at = 0; at < want;) {
            size_t room = segment->length - done_in_segment, part = want - at < room ? want - at : room;
            write_at(files[segment->file].fd, block + at, part, segment->offset + done_in_segment);
            at += part, done_in_segment += part;
            if (done_in_segment == segment->length) segment++, done_in_segment = 0;
        }
        left -= want, have = 0;
    }
    EVP_DigestFinal_ex(context, digest, NULL);
    for (int i = 0; i < 32; i++) sprintf(hex + 2 * i, "%02x", digest[i]);
    errno = 0;
    if (strcmp(hex, chunk->sha)) die("%s: digest is %s", chunk->sha, hex);
    for (int s = 0; s < chunk->segments; s++) {
        struct segment *g = &chunk->segment[s];
        sync_file_range(files[g->file].fd, g->offset, g->length, SYNC_FILE_RANGE_WRITE);
    }
}

static void *work(void *unused) {
    unsigned char *block = malloc(block_bytes);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    struct connection connection = dial();
    int i;
    while ((i = atomic_fetch_add(&next_chunk, 1)) < chunk_count) fetch(&connection, &chunks[i], block, context);
    close(connection.fd);
    return unused;
}

static void *make_durable(void *unused) {
    int i;
    while ((i = atomic_fetch_add(&next_file, 1)) < file_count)
        if (fsync(files[i].fd) || close(files[i].fd)) die("fsync");
    return unused;
}

static void run_threads(void *(*body)(void *)) {
    pthread_t thread[64];
    for (int i = 0; i < thread_count; i++)
        if (pthread_create(&thread[i], NULL, body, NULL)) die("pthread_create");
    for (int i = 0; i < thread_count; i++) pthread_join(thread[i], NULL);
}

int main(int count, char **argument) {
    if (count < 5) die("usage: c_loop PLAN TARGET THREADS BLOCK_BYTES [CA_FILE]");
    thread_count = atoi(argument[3]);
    block_bytes = strtoul(argument[4], NULL, 10);
    if (thread_count < 1 || thread_count > 64 || block_bytes < 16384) die("bad THREADS or BLOCK_BYTES");
    if (count > 5) {
        tls = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_read_ahead(tls, 1); /* several records per system call: 3 to 5 % less CPU time */
        SSL_CTX_set_default_read_buffer_len(tls, 65536);
        if (SSL_CTX_load_verify_locations(tls, argument[5], NULL) != 1) die("certificate %s", argument[5]);
    }
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    read_plan(argument[1], argument[2]);
    run_threads(work);
    run_threads(make_durable);
    int directory = open(".", O_RDONLY | O_DIRECTORY);
    if (directory < 0 || fsync(directory)) die("fsync of the directory");
    return 0;
}
