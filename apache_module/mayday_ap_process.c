/*
 * The life of the instance: what the parent prepares before it forks, the agent
 * that it keeps running, and the lane that each child has.
 *
 * httpd reads its configuration twice when it starts and once for each restart,
 * unloading this module in between. What must outlive that (the segment, the
 * life pipe, the agent's pid) is in retained data, which holds no pointer into
 * the module. A graceful restart leaves the agent alone: it sees the new
 * settings by itself. Runs in the parent and at a child's start and end, never
 * on the request path; nothing here stops httpd from starting.
 */
#include "mod_mayday.h"

#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <unistd.h>

#include "ap_mpm.h"
#include "apr_getopt.h"
#include "apr_strings.h"
#include "http_main.h"
#include "unixd.h"

APLOG_USE_MODULE(mayday);

#define AGENT_USER "mayday"
/* The version is part of it: a newer module does not take over an older one's struct. */
#define RETAINED_KEY "mod_mayday-" MAYDAY_VERSION

typedef struct {
    mayday_supervisor_t supervisor;
    bool prepared;
} retained_t;

static retained_t *kept; /* NULL: there has been no instance yet */

/* The agent as httpd's parent waits for it. */
static apr_proc_t agent;
static bool agent_registered;
static apr_pool_t *agent_pool;

static void
say(void *ctx, int level, const char *text)
{
    /* syslog's levels are httpd's */
    ap_log_error(APLOG_MARK, level, 0, (server_rec *) ctx, "%s", text);
}

/* ---- the agent ---- */

static void supervise(server_rec *s);

static void
maintain_agent(int reason, void *data, apr_wait_t status)
{
    int state = AP_MPMQ_STOPPING;

    if (reason == APR_OC_REASON_UNREGISTER) {
        return; /* also when the configuration goes: the agent lives on */
    }
    agent_registered = false;
    apr_proc_other_child_unregister(data);
    if ((reason == APR_OC_REASON_DEATH || reason == APR_OC_REASON_LOST) &&
        ap_mpm_query(AP_MPMQ_MPM_STATE, &state) == APR_SUCCESS && state != AP_MPMQ_STOPPING) {
        supervise(ap_server_conf);
    }
}

static void
supervise(server_rec *s)
{
    mayday_supervise(mayday_ap.supervisor, say, s);
    if (agent_registered && agent.pid != mayday_ap.supervisor->child) {
        agent_registered = false;
        apr_proc_other_child_unregister(&agent);
    }
    if (!agent_registered && mayday_ap.supervisor->child > 0) {
        memset(&agent, 0, sizeof(agent));
        agent.pid = mayday_ap.supervisor->child;
        agent_registered = true;
        apr_proc_other_child_register(&agent, maintain_agent, &agent, NULL, agent_pool);
    }
}

int
mayday_ap_monitor(apr_pool_t *p, server_rec *s)
{
    if (mayday_ap.supervisor != NULL) {
        supervise(s);
    }
    return DECLINED;
}

/* ---- the parent ---- */

/* The main configuration file, as main() finds it: the instance's identity. */
static const char *
main_configuration(apr_pool_t *p, const process_rec *process)
{
    const char *name = SERVER_CONFIG_FILE, *argument;
    apr_getopt_t *options;
    char option;

    if (apr_getopt_init(&options, p, process->argc, process->argv) == APR_SUCCESS) {
        options->errfn = NULL;
        while (apr_getopt(options, AP_SERVER_BASEARGS "k:", &option, &argument) == APR_SUCCESS) {
            if (option == 'f') {
                name = argument;
            }
        }
    }
    return ap_server_root_relative(p, name);
}

static const char *
error_log_path(apr_pool_t *p, const server_rec *s)
{
    const char *name = s->error_fname;

    if (name == NULL || *name == '|' || strncasecmp(name, "syslog", 6) == 0) {
        return "";
    }
    return ap_server_root_relative(p, name);
}

static const char *
server_version(apr_pool_t *p)
{
    ap_version_t version;

    ap_get_server_revision(&version);
    return apr_psprintf(p, "Apache/%d.%d.%d", version.major, version.minor, version.patch);
}

/* Its own user where there is one: what belongs to www-data any application can read. */
static void
agent_user(uid_t *uid, gid_t *gid)
{
    const struct passwd *entry;

    *uid = (uid_t) -1;
    *gid = (gid_t) -1;
    if (geteuid() != 0) {
        return;
    }
    entry = getpwnam(AGENT_USER);
    *uid = entry != NULL ? entry->pw_uid : ap_unixd_config.user_id;
    *gid = entry != NULL ? entry->pw_gid : ap_unixd_config.group_id;
}

static void
make_retained(void)
{
    if (kept == NULL) {
        kept = ap_retained_data_create(RETAINED_KEY, sizeof(*kept));
        mayday_supervisor_init(&kept->supervisor);
    }
}

/*
 * In whatever this process forks. Only the parent may keep the agent alive, and
 * mod_cgid's daemon neither execs nor calls a hook in which to let go. A CGI's
 * child serves nobody: what it logs before it execs is not evidence, and
 * another thread may have held a lock when it was forked.
 */
static void
after_fork(void)
{
    mayday_ap.serving = false;
    if (kept != NULL && kept->supervisor.life_fd[1] >= 0) {
        close(kept->supervisor.life_fd[1]);
        kept->supervisor.life_fd[1] = -1;
    }
}

/* Before any module's post_config: mod_cgid forks in its own. */
int
mayday_ap_pre_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    kept = ap_retained_data_get(RETAINED_KEY);
    /* libc forgets it when this module is unloaded */
    if (pthread_atfork(NULL, NULL, after_fork) != 0) {
        ap_log_perror(APLOG_MARK, APLOG_WARNING, 0, plog,
                      "MD0011: no memory: the agent may outlive the server");
    }
    return OK;
}

static void
close_instance(void)
{
    if (kept != NULL && kept->prepared) {
        mayday_instance_close(&kept->supervisor);
        kept->prepared = false;
    }
}

/* The configuration goes: for good, or to be read again. */
static apr_status_t
leave_parent(void *data)
{
    mayday_ap.supervisor = NULL;
    if (getpid() == mayday_ap.parent &&
        ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_DESTROY_CONFIG) {
        close_instance();
    }
    return APR_SUCCESS;
}

int
mayday_ap_post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    mayday_instance_t *instance = mayday_ap.instance;
    int processes = 1;
    uid_t uid;
    gid_t gid;

    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG ||
        ap_state_query(AP_SQ_RUN_MODE) != AP_SQ_RM_NORMAL || instance == NULL) {
        return OK;
    }
    if (!instance->any_enabled) {
        close_instance();
        return OK;
    }
    make_retained();
    instance->server_version = server_version(pconf);
    instance->identity = main_configuration(pconf, s->process);
    instance->error_log = error_log_path(pconf, s);
    ap_mpm_query(AP_MPMQ_HARD_LIMIT_DAEMONS, &processes);
    agent_user(&uid, &gid);
    if (mayday_instance_prepare(&kept->supervisor, instance, (uint32_t) processes, uid, gid, say,
                                s) != MAYDAY_OK) {
        return OK; /* it said why; httpd runs on without capture */
    }
    kept->prepared = true;
    mayday_ap.supervisor = &kept->supervisor;
    mayday_ap.parent = getpid();
    mayday_ap.one_process =
        ap_exists_config_define("ONE_PROCESS") || ap_exists_config_define("DEBUG"); /* httpd -X */
    agent_pool = pconf;
    apr_pool_cleanup_register(pconf, NULL, leave_parent, apr_pool_cleanup_null);
    supervise(s);
    return OK;
}

/* ---- a child ---- */

/*
 * On prefork this runs in the handler of the signal that ends the child, perhaps
 * in the midst of a record. Without a mark the agent takes the lane for that of
 * a process that was killed, and reads it all the same.
 */
static apr_status_t
leave_child(void *data)
{
    mayday_lane_t *lane = &mayday_ap.lane;

    if (getpid() != mayday_ap.pid) {
        return APR_SUCCESS;
    }
    mayday_ap.serving = false;
    if (lane->threaded) {
        if (!mayday_trylock(&lane->lock)) {
            return APR_SUCCESS;
        }
        mayday_unlock(&lane->lock);
    }
    mayday_lane_release(lane);
    return APR_SUCCESS;
}

/* mod_http2 has threads of its own also where the MPM has none. */
static bool
is_threaded(void)
{
    int threaded = 0;

    ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded);
    return threaded != AP_MPMQ_NOT_SUPPORTED || ap_find_linked_module("mod_http2.c") != NULL;
}

void
mayday_ap_child_init(apr_pool_t *pchild, server_rec *s)
{
    int threads = 1;

    if (mayday_ap.supervisor == NULL) {
        return;
    }
    if (!mayday_ap.one_process) {
        mayday_instance_after_fork(mayday_ap.supervisor, false);
    }
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    mayday_ap.pid = getpid();
    mayday_ids_init(&mayday_ap.ids);
    mayday_lane_init(&mayday_ap.lane, &mayday_ap.supervisor->segment,
                     mayday_ap.supervisor->settings, is_threaded());
    if (mayday_lane_claim(&mayday_ap.lane) != MAYDAY_OK) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "MD0010: no lane is free: failures of this process are lost and counted "
                     "until one is");
    }
    mayday_ap_log_init(threads);
    apr_pool_cleanup_register(pchild, NULL, leave_child, apr_pool_cleanup_null);
    mayday_ap.serving = true;
}
