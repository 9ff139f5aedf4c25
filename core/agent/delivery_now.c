/*
 * Sends one envelope while somebody waits for the answer, outside the queue and
 * its limits, on a connection of its own.
 *
 * Runs in an API thread; blocks up to DELIVERY_TIMEOUT_MS. Allocates.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/agent/delivery_private.h"

typedef struct {
    const delivery_config_t *config;
    mayday_dsn_t dsn;
    char url[MAYDAY_DSN_LEN_MAX + 64];
    delivery_press_t press;
    unsigned char *body;
    size_t body_size, body_len;
    struct curl_slist *headers;
    CURL *easy;
    delivery_answer_t answer;
    char curl_error[CURL_ERROR_SIZE];
} request_t;

static long
perform(request_t *request, mayday_buf_t *answer, mayday_buf_t *error)
{
    delivery_address_t address = {&request->dsn, request->url, request->headers};
    CURLcode code;
    long status;

    mayday_delivery_easy_setup(request->easy, request->config, &address, &request->answer,
                               request->curl_error);
    curl_easy_setopt(request->easy, CURLOPT_POSTFIELDS, (char *) request->body);
    curl_easy_setopt(request->easy, CURLOPT_POSTFIELDSIZE, (long) request->body_len);
    code = curl_easy_perform(request->easy);
    status = mayday_delivery_easy_status(request->easy);
    if (status == 0) {
        mayday_delivery_explain_failure(error, request->easy, code, request->curl_error,
                                        &request->dsn, request->config);
        return 0;
    }
    mayday_delivery_words(answer, &request->answer);
    if (status >= 300) {
        mayday_delivery_explain_status(error, status, &request->answer);
    }
    return status;
}

static long
prepare_and_perform(request_t *request, mayday_slice_t envelope, mayday_buf_t *answer,
                    mayday_buf_t *error)
{
    mayday_buf_t url;

    mayday_buf_init(&url, request->url, sizeof(request->url));
    mayday_dsn_envelope_url(&request->dsn, &url);
    request->headers = mayday_delivery_headers(&request->dsn, request->config->sdk_name);
    request->easy = curl_easy_init();
    if (request->headers == NULL || request->easy == NULL ||
        mayday_delivery_press_run(&request->press, envelope, &request->body, &request->body_size,
                                  &request->body_len) != MAYDAY_OK) {
        mayday_buf_adds(error, "no memory");
        return 0;
    }
    return perform(request, answer, error);
}

long
mayday_delivery_send_now(mayday_delivery_t *delivery, const char *dsn, mayday_slice_t envelope,
                         char *answer, size_t answer_size, char *error, size_t error_size)
{
    delivery_config_t *config;
    request_t request = {0};
    mayday_buf_t answer_text, error_text;
    const char *expected;
    long status = 0;

    mayday_buf_init(&answer_text, answer, answer_size);
    mayday_buf_init(&error_text, error, error_size);
    if (mayday_dsn_parse(&request.dsn, mayday_slice_str(dsn), &expected) != MAYDAY_OK) {
        mayday_buf_addf(&error_text, "the DSN is not valid, expected %s", expected);
        return 0;
    }
    if (mayday_delivery_press_init(&request.press) != MAYDAY_OK) {
        mayday_buf_adds(&error_text, "no memory");
        return 0;
    }
    apr_thread_mutex_lock(delivery->lock);
    config = delivery->config_latest;
    atomic_fetch_add(&config->references, 1);
    apr_thread_mutex_unlock(delivery->lock);
    request.config = config;

    status = prepare_and_perform(&request, envelope, &answer_text, &error_text);
    mayday_dsn_hide_keys(&request.dsn, answer, answer_size);
    mayday_dsn_hide_keys(&request.dsn, error, error_size);

    curl_easy_cleanup(request.easy);
    curl_slist_free_all(request.headers);
    mayday_delivery_press_fini(&request.press);
    free(request.body);
    mayday_delivery_config_free(config);
    return status;
}
