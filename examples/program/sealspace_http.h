/* `sealspace:http/client@0.1.0` for programs in C that are built for wasm32-wasi; copy this file beside your program.
 *
 *     struct http_message request = {0}, response = {0};
 *     http_add_text(&request, "GET");
 *     http_add_text(&request, "https://api.example.com/");
 *     http_add_text(&request, "accept");                  name and value of a header; any number of these
 *     http_add_text(&request, "application/json");
 *     http_add(&request, "", 0);                          the body comes last
 *     int error = http_fetch(&request, &response);        0, or a number of spec/runner/README.md
 *     http_next(&response, &size);                        status, names and values, body: NULL after the last
 */
#ifndef SEALSPACE_HTTP_H
#define SEALSPACE_HTTP_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HTTP_IMPORT(name) __attribute__((import_module("sealspace:http/client@0.1.0"), import_name(name)))

HTTP_IMPORT("fetch") int32_t sealspace_http_fetch(const uint8_t *message, size_t length);
HTTP_IMPORT("read") size_t sealspace_http_read(uint8_t *into, size_t length);

/* Parts, each behind its length in four bytes. */
struct http_message {
    uint8_t *data;
    size_t length, at;
};

static inline void http_add(struct http_message *message, const void *part, size_t size) {
    uint32_t length = (uint32_t)size;
    message->data = realloc(message->data, message->length + 4 + size);
    if (message->data == NULL)
        abort();
    memcpy(message->data + message->length, &length, 4);
    memcpy(message->data + message->length + 4, part, size);
    message->length += 4 + size;
}

static inline void http_add_text(struct http_message *message, const char *text) {
    http_add(message, text, strlen(text));
}

static inline int http_fetch(const struct http_message *request, struct http_message *response) {
    int32_t length = sealspace_http_fetch(request->data, request->length);
    if (length < 0)
        return -length;
    response->data = realloc(response->data, (size_t)length);
    if (response->data == NULL)
        abort();
    response->length = sealspace_http_read(response->data, (size_t)length);
    response->at = 0;
    return 0;
}

/* The next part, which is not ended by a NUL. */
static inline const uint8_t *http_next(struct http_message *response, size_t *size) {
    uint32_t length;
    if (response->at >= response->length)
        return NULL;
    memcpy(&length, response->data + response->at, 4);
    response->at += 4 + length;
    *size = length;
    return response->data + response->at - length;
}

#endif
