/*
 * The life of the instance in nginx's processes.
 *
 *   master         prepares directories, settings and lanes in init_module,
 *                  holds the life pipe, closes the instance when it ends or
 *                  when `mayday on` has gone from the configuration
 *   cache manager  keeps the agent running: a path that has nothing but a
 *                  manager makes nginx run one, as the worker's user
 *   worker         has a lane
 *   only process   (master_process off) is all three; a timer does the manager's
 *
 * Runs outside of requests. Blocks in exit_master only, as long as the agent
 * may take. Counterpart: core/capture/supervise.h.
 */
#include "ngx_module/ngx_http_mayday.h"

#define NGX_HTTP_MAYDAY_SUPERVISE_MS 300

static ngx_msec_t ngx_http_mayday_manager(void *data);
static void ngx_http_mayday_timer_handler(ngx_event_t *ev);


ngx_http_mayday_state_e ngx_http_mayday_state;
mayday_supervisor_t ngx_http_mayday_supervisor;
mayday_lane_t ngx_http_mayday_lane;
mayday_ids_t ngx_http_mayday_ids;

static ngx_uint_t ngx_http_mayday_supervisor_ready; /* initialised            */
static ngx_cycle_t *ngx_http_mayday_owner;          /* NULL: the instance is closed */
static ngx_uint_t ngx_http_mayday_has_lane;
static ngx_event_t ngx_http_mayday_timer;
static ngx_connection_t ngx_http_mayday_timer_connection;


static void
ngx_http_mayday_say(void *ctx, int level, const char *text)
{
    ngx_log_t *log = ctx;

    ngx_log_error((ngx_uint_t) level + 1, log, 0, "%s", text);
}


static void
ngx_http_mayday_lane_open(void)
{
    mayday_lane_init(&ngx_http_mayday_lane, &ngx_http_mayday_supervisor.segment,
                     ngx_http_mayday_supervisor.settings, false);

    /* Without a lane failures are counted, and it is tried again later. */
    (void) mayday_lane_claim(&ngx_http_mayday_lane);

    ngx_http_mayday_has_lane = 1;
}


static void
ngx_http_mayday_lane_close(void)
{
    if (ngx_http_mayday_has_lane) {
        ngx_http_mayday_has_lane = 0;
        mayday_lane_release(&ngx_http_mayday_lane);
    }

    ngx_http_mayday_state = NGX_HTTP_MAYDAY_OFF;
}


static void
ngx_http_mayday_close(void)
{
    ngx_http_mayday_lane_close();

    if (ngx_http_mayday_owner != NULL) {
        ngx_http_mayday_owner = NULL;
        mayday_instance_close(&ngx_http_mayday_supervisor);
    }
}


/* The end of a cycle: of the instance, too, unless a newer cycle has taken it over. */
static void
ngx_http_mayday_cycle_cleanup(void *data)
{
    if (ngx_http_mayday_owner == data
        && (ngx_process == NGX_PROCESS_MASTER || ngx_process == NGX_PROCESS_SINGLE))
    {
        ngx_http_mayday_close();
    }
}


/* A manager alone, and no directory: see ngx_start_cache_manager_processes(). */
static ngx_int_t
ngx_http_mayday_add_manager(ngx_cycle_t *cycle)
{
    ngx_path_t *path, **slot;

    path = ngx_pcalloc(cycle->pool, sizeof(ngx_path_t));
    if (path == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&path->name, "mayday");
    path->manager = ngx_http_mayday_manager;

    slot = ngx_array_push(&cycle->paths);
    if (slot == NULL) {
        return NGX_ERROR;
    }

    *slot = path;

    return NGX_OK;
}


/* What the agent must know of this nginx; strings live as long as the cycle. */
static void
ngx_http_mayday_describe(ngx_cycle_t *cycle, mayday_instance_t *instance)
{
    ngx_log_t *log;

    log = ngx_log_get_file_log(&cycle->new_log);

    instance->server = MAYDAY_SERVER_NGINX;
    instance->server_version = NGINX_VER;
    instance->identity = (char *) cycle->conf_file.data;
    instance->error_log = log != NULL && log->file->name.len ? (char *) log->file->name.data : "";
}


static mayday_rc_t
ngx_http_mayday_prepare(ngx_cycle_t *cycle, mayday_instance_t *instance)
{
    uid_t uid;
    gid_t gid;
    ngx_core_conf_t *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    uid = (uid_t) -1;
    gid = (gid_t) -1;

    if (geteuid() == 0) {
        uid = (uid_t) ccf->user;
        gid = (gid_t) ccf->group;
    }

    if (!ngx_http_mayday_supervisor_ready) {
        mayday_supervisor_init(&ngx_http_mayday_supervisor);
        ngx_http_mayday_supervisor_ready = 1;
    }

    ngx_http_mayday_describe(cycle, instance);

    return mayday_instance_prepare(&ngx_http_mayday_supervisor, instance,
                                   ccf->master ? (uint32_t) ccf->worker_processes : 1, uid, gid,
                                   ngx_http_mayday_say, cycle->log);
}


ngx_int_t
ngx_http_mayday_init_module(ngx_cycle_t *cycle)
{
    ngx_core_conf_t *ccf;
    ngx_pool_cleanup_t *cln;
    ngx_http_mayday_main_conf_t *mmcf;

    mmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_mayday_module);

    if (ngx_test_config || mmcf == NULL || !mmcf->instance->any_enabled) {
        return NGX_OK;
    }

    /* An error_log behind http{} may stand before our node by now. */

    if (ngx_http_mayday_log_attach(cycle->pool, &cycle->new_log) != NGX_OK) {
        return NGX_ERROR;
    }

    cln = ngx_pool_cleanup_add(cycle->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_mayday_cycle_cleanup;
    cln->data = cycle;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (ccf->master && ngx_http_mayday_add_manager(cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    /* In an only process: its segment may go now. nginx itself serves no more after this. */

    ngx_http_mayday_lane_close();

    if (ngx_http_mayday_prepare(cycle, mmcf->instance) != MAYDAY_OK) {
        ngx_log_error(NGX_LOG_ERR, cycle->log, 0,
                      "MD0002 mayday captures nothing until this is put right and nginx is "
                      "reloaded");
        return NGX_OK;
    }

    ngx_http_mayday_owner = cycle;
    ngx_http_mayday_state = NGX_HTTP_MAYDAY_UNVERIFIED;

    return NGX_OK;
}


ngx_int_t
ngx_http_mayday_init_process(ngx_cycle_t *cycle)
{
    if (ngx_http_mayday_state == NGX_HTTP_MAYDAY_OFF) {
        return NGX_OK;
    }

    if (ngx_process == NGX_PROCESS_HELPER) {
        ngx_http_mayday_state = NGX_HTTP_MAYDAY_OFF;
        mayday_instance_after_fork(&ngx_http_mayday_supervisor, true);
        return NGX_OK;
    }

    mayday_ids_init(&ngx_http_mayday_ids);

    if (ngx_process == NGX_PROCESS_WORKER) {
        mayday_instance_after_fork(&ngx_http_mayday_supervisor, false);

    } else if (ngx_process == NGX_PROCESS_SINGLE) {
        ngx_http_mayday_timer_connection.fd = (ngx_socket_t) -1;

        ngx_http_mayday_timer.handler = ngx_http_mayday_timer_handler;
        ngx_http_mayday_timer.data = &ngx_http_mayday_timer_connection;
        ngx_http_mayday_timer.log = cycle->log;
        ngx_http_mayday_timer.cancelable = 1;

        ngx_add_timer(&ngx_http_mayday_timer, 1);
    }

    ngx_http_mayday_lane_open();

    return NGX_OK;
}


void
ngx_http_mayday_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_mayday_lane_close();
}


void
ngx_http_mayday_exit_master(ngx_cycle_t *cycle)
{
    ngx_http_mayday_close();
}


static ngx_msec_t
ngx_http_mayday_manager(void *data)
{
    if (ngx_http_mayday_owner != NULL) {
        mayday_supervise(&ngx_http_mayday_supervisor, ngx_http_mayday_say, ngx_cycle->log);
    }

    return NGX_HTTP_MAYDAY_SUPERVISE_MS;
}


static void
ngx_http_mayday_timer_handler(ngx_event_t *ev)
{
    /* The log is of the cycle of now, for that of init_process may be gone. */
    ev->log = ngx_cycle->log;

    ngx_add_timer(ev, ngx_http_mayday_manager(NULL));
}
