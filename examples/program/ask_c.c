/* Asks a service, with an API key that is a secret: its input is the URL. The same as ask.rs, in C:
 *
 *     clang --target=wasm32-wasi -Oz ask_c.c -o ask.wasm
 */
#include "sealspace_http.h"
#include <stdio.h>

int main(void) {
    char url[1024] = "", authorization[1024];
    struct http_message request = {0}, response = {0};
    const char *key = getenv("API_KEY");
    const uint8_t *part, *last = NULL;
    size_t size = 0;
    int error;

    if (key == NULL || scanf("%1023s", url) != 1)
        return 2;
    snprintf(authorization, sizeof authorization, "Bearer %s", key);
    http_add_text(&request, "GET");
    http_add_text(&request, url);
    http_add_text(&request, "authorization");
    http_add_text(&request, authorization);
    http_add(&request, "", 0);
    error = http_fetch(&request, &response);
    if (error != 0) {
        fprintf(stderr, "no answer: %d\n", error);
        return 1;
    }
    part = http_next(&response, &size);
    printf("%.*s ", (int)size, part);
    while ((part = http_next(&response, &size)) != NULL)
        last = part; /* the body */
    fwrite(last, 1, size, stdout);
    return 0;
}
