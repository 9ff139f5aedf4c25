/*
 * An instance in directories of its own, for tests that need one: settings as a
 * server would have them, and what was said by the code under test.
 */
#ifndef INSTANCE_FIXTURE_H
#define INSTANCE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/capture/supervise.h"

typedef struct {
    char root[64]; /* temporary */
    char state[128];
    char rules[128];
    char said[4096];
    mayday_instance_t instance;
    mayday_destination_t destinations[3];
    mayday_supervisor_t supervisor;
} fixture_t;

static inline void
fixture_say(void *ctx, int level, const char *text)
{
    fixture_t *f = ctx;
    size_t len = strlen(f->said);

    snprintf(f->said + len, sizeof(f->said) - len, "<%d> %s\n", level, text);
}

static inline int
fixture_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void) st;
    (void) type;
    (void) ftw;
    remove(path);
    return 0;
}

static inline void
fixture_remove(const char *path)
{
    nftw(path, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void
fixture_init(fixture_t *f)
{
    mayday_instance_t *i = &f->instance;

    memset(f, 0, sizeof(*f));
    strcpy(f->root, "/tmp/mayday-test-XXXXXX");
    assert_non_null(mkdtemp(f->root));
    snprintf(f->state, sizeof(f->state), "%s/state", f->root);
    snprintf(f->rules, sizeof(f->rules), "%s/rules.lua", f->root);
    i->any_enabled = true;
    i->server = MAYDAY_SERVER_NGINX;
    i->server_version = "nginx/1.22.1";
    i->identity = "/etc/nginx/nginx.conf";
    i->error_log = "";
    i->directory = mayday_slice_str(f->state);
    i->agent_on = true;
    i->queue_size = 64 * 1024 * 1024;
    i->retention_s = 7 * 86400;
    i->issue_rate = (mayday_rate_t){60, 60, 60};
    i->send_rate = (mayday_rate_t){3, 1, 100};
    i->shutdown_timeout_ms = 2000;
    i->server_name = MAYDAY_SLICE("test");
    i->socket_mode = 0660;
    i->environment = MAYDAY_SLICE("production");
    i->destinations = &f->destinations[0];
    f->destinations[0].next = &f->destinations[1];
    f->destinations[1].index = 1;
    f->destinations[1].dsn_count = 1;
    f->destinations[1].dsns[0] = MAYDAY_SLICE("http://key@127.0.0.1:9/42");
    mayday_supervisor_init(&f->supervisor);
}

static inline mayday_rc_t
fixture_prepare(fixture_t *f)
{
    return mayday_instance_prepare(&f->supervisor, &f->instance, 4, (uid_t) -1, (gid_t) -1,
                                   fixture_say, f);
}

static inline void
fixture_fini(fixture_t *f)
{
    char run_dir[sizeof(f->supervisor.run_dir)];
    mayday_buf_t run;

    mayday_buf_init(&run, run_dir, sizeof(run_dir));
    mayday_instance_close(&f->supervisor);
    assert_int_equal(mayday_run_dir(&run, mayday_slice_str(f->state), geteuid()), MAYDAY_OK);
    fixture_remove(run_dir);
    fixture_remove(f->root);
}

#endif
