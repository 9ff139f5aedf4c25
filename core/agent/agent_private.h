/*
 * What the agent's main thread shares with its API; nobody else includes this.
 */
#ifndef MAYDAY_AGENT_PRIVATE_H
#define MAYDAY_AGENT_PRIVATE_H

#include <cjson/cJSON.h>
#include <pthread.h>

#include "core/agent/delivery.h"
#include "core/agent/pipeline.h"
#include "core/agent/store.h"

typedef struct {
    const char *run_dir;
    char store_path[512];
    char lua_dir[512];
    uint64_t started_us;
    mayday_pipeline_t *pipeline; /* these two outlive the API's threads */
    mayday_delivery_t *delivery;
    pthread_mutex_t lock; /* guards settings: hold it for as short as you can */
    mayday_settings_t *settings;
} mayday_agent_t;

/*
 * The document of status.h. store NULL: it cannot be opened, store_error says why.
 * NULL: no memory, or the store cannot be read.
 */
cJSON *mayday_status_document(mayday_agent_t *agent, mayday_store_t *store,
                              const char *store_error);

/* The same as text for Prometheus; from malloc, NULL: no memory. */
char *mayday_status_metrics(const cJSON *document);

#endif
