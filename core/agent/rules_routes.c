/*
 * mayday.routes: template, learn and normalise, as functions of Lua over
 * core/filter/routes.h, and what the pipeline does with them: the route of each
 * event, and learning.
 *
 * Templates belong to a userdata of the Lua state, the functions' upvalue, which
 * frees them when the state is closed. What was learned belongs to the pipeline:
 * it outlives the rules. A route that an event is given is copied into the
 * event's arena, for a state may end before its event.
 *
 * Runs in the agent's pipeline thread.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "core/agent/log.h"
#include "core/agent/rules_internal.h"
#include "core/filter/routes.h"

#define ROUTES_META "mayday.routes"
#define THRESHOLD_MAX 10000

struct mayday_rules_routes {
    mayday_templates_t *templates; /* NULL: none yet         */
    unsigned threshold;            /* of learning; 0: do not */
};

/* ---- functions of Lua ---- */

static struct mayday_rules_routes *
routes_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static int
routes_free(lua_State *L)
{
    struct mayday_rules_routes *routes = lua_touserdata(L, 1);

    mayday_templates_free(routes->templates);
    routes->templates = NULL;
    return 0;
}

static void
check_loading(lua_State *L, const char *name)
{
    if (mayday_rules_of(L)->loaded) {
        mayday_rules_raise(L, "routes.%s may only be called while the rules are loaded", name);
    }
}

/* routes.template(text, …) */
static int
routes_template(lua_State *L)
{
    struct mayday_rules_routes *routes = routes_of(L);
    int count = lua_gettop(L);

    check_loading(L, "template");
    luaL_checktype(L, 1, LUA_TSTRING);
    if (routes->templates == NULL) {
        routes->templates = mayday_templates_new();
        if (routes->templates == NULL) {
            mayday_rules_raise(L, "no memory for templates");
        }
    }
    for (int i = 1; i <= count; i++) {
        size_t len;
        const char *text, *wrong;

        luaL_checktype(L, i, LUA_TSTRING);
        text = lua_tolstring(L, i, &len);
        wrong = mayday_templates_add(routes->templates, mayday_slice(text, len));
        if (wrong != NULL) {
            mayday_rules_raise(L, "the template '%s' %s", text, wrong);
        }
    }
    return 0;
}

/* routes.learn{threshold =} */
static int
routes_learn(lua_State *L)
{
    struct mayday_rules_routes *routes = routes_of(L);
    lua_Number threshold = MAYDAY_LEARN_THRESHOLD;

    check_loading(L, "learn");
    if (!lua_isnoneornil(L, 1)) {
        luaL_checktype(L, 1, LUA_TTABLE);
        lua_pushnil(L);
        while (lua_next(L, 1)) {
            if (lua_type(L, -2) != LUA_TSTRING || strcmp(lua_tostring(L, -2), "threshold") != 0) {
                mayday_rules_raise(L, "routes.learn has the option threshold only");
            }
            threshold = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
            lua_pop(L, 1);
        }
    }
    if (!(threshold >= MAYDAY_LEARN_THRESHOLD_MIN && threshold <= THRESHOLD_MAX)) {
        mayday_rules_raise(L, "the threshold of routes.learn is a number from %d to %d",
                           MAYDAY_LEARN_THRESHOLD_MIN, THRESHOLD_MAX);
    }
    routes->threshold = (unsigned) threshold;
    return 0;
}

/* routes.normalise(path): the template that fits, or the path with ids replaced; whether it fits */
static int
routes_normalise(lua_State *L)
{
    const struct mayday_rules_routes *routes = routes_of(L);
    mayday_slice_t path, template = {NULL, 0};
    char storage[MAYDAY_ROUTE_SIZE];
    mayday_buf_t route;
    size_t len;

    luaL_checktype(L, 1, LUA_TSTRING);
    path.data = lua_tolstring(L, 1, &len);
    path.len = len;
    if (routes->templates != NULL) {
        template = mayday_templates_find(routes->templates, path);
    }
    mayday_buf_init(&route, storage, sizeof(storage));
    if (template.len > 0) {
        mayday_buf_add(&route, template);
    } else {
        mayday_route_normalise(path, &route);
    }
    lua_pushlstring(L, route.data, route.len);
    lua_pushboolean(L, template.len > 0);
    return 2;
}

void
mayday_rules_routes_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"learn", routes_learn},
        {"normalise", routes_normalise},
        {"template", routes_template},
    };
    struct mayday_rules_routes *routes;

    lua_createtable(L, 0, (int) MAYDAY_COUNT(functions));
    routes = lua_newuserdata(L, sizeof(*routes));
    memset(routes, 0, sizeof(*routes));
    mayday_rules_of(L)->routes = routes;
    (void) luaL_newmetatable(L, ROUTES_META);
    lua_pushcfunction(L, routes_free);
    lua_setfield(L, -2, "__gc");
    (void) lua_setmetatable(L, -2);
    for (size_t i = 0; i < MAYDAY_COUNT(functions); i++) {
        lua_pushvalue(L, -1);
        lua_pushcclosure(L, functions[i].func, 1);
        lua_setfield(L, -3, functions[i].name);
    }
    lua_pop(L, 1);
}

/* ---- the pipeline's part ---- */

static void
set_route(mayday_event_t *event, mayday_slice_t route, bool is_template)
{
    char *copy = cJSON_malloc(route.len + 1);

    if (copy != NULL) {
        memcpy(copy, route.data, route.len);
        event->route = mayday_slice(copy, route.len);
        event->route_is_template = is_template;
    }
}

static void
file_of(char file[PATH_MAX], const char *directory)
{
    (void) snprintf(file, PATH_MAX, "%s/routes", directory);
}

/* The host as the server knows it, of which there are only so many. */
static mayday_slice_t
host_of(const mayday_event_t *event)
{
    mayday_slice_t host = mayday_view_text(event->view, VIRTUAL_HOST);

    return host.len > 0 ? host : MAYDAY_SLICE("-");
}

void
mayday_rules_route(const mayday_rules_t *rules, const mayday_learner_t *learner,
                   mayday_event_t *event)
{
    char path_storage[MAYDAY_PATH_SIZE], storage[MAYDAY_ROUTE_SIZE], applied[MAYDAY_ROUTE_SIZE];
    mayday_slice_t route;
    mayday_buf_t learned;

    if (rules == NULL || rules->routes == NULL) {
        return;
    }
    if (rules->routes->templates != NULL) {
        route =
            mayday_templates_find(rules->routes->templates, mayday_event_path(event, path_storage));
        if (route.len > 0) {
            set_route(event, route, true);
            return;
        }
    }
    if (mayday_learner_is_on(learner)) {
        route = mayday_event_route(event, storage);
        mayday_buf_init(&learned, applied, sizeof(applied));
        mayday_learner_apply(learner, host_of(event), route, &learned);
        if (!mayday_slice_eq(mayday_buf_slice(&learned), route)) {
            set_route(event, mayday_buf_slice(&learned), false);
        }
    }
}

void
mayday_rules_learn(mayday_learner_t *learner, const mayday_event_t *event)
{
    char storage[MAYDAY_ROUTE_SIZE];
    size_t count;

    if (!mayday_learner_is_on(learner) || event->route_is_template) {
        return;
    }
    count = mayday_learner_note(learner, host_of(event), mayday_event_route(event, storage),
                                mayday_view_u64(event->view, TIME_US));
    if (count == 0) {
        return;
    }
    mayday_log(MAYDAY_LOG_NOTICE, "MD0610", "places in paths learned to vary: %zu", count);
    if (mayday_learner_save(learner) != MAYDAY_OK) {
        mayday_log(MAYDAY_LOG_WARN, "MD0611", "cannot write what was learned of routes: %s",
                   strerror(errno));
    }
}

void
mayday_rules_learner(const mayday_rules_t *rules, mayday_learner_t *learner, const char *directory)
{
    char file[PATH_MAX];
    mayday_rc_t rc;

    if (rules == NULL || rules->routes == NULL || rules->routes->threshold == 0) {
        mayday_learner_off(learner);
        return;
    }
    file_of(file, directory);
    rc = mayday_learner_on(learner, file, rules->routes->threshold);
    if (rc != MAYDAY_OK) {
        mayday_log(MAYDAY_LOG_WARN, "MD0612", "cannot use what was learned of routes, in %s: %s",
                   file,
                   rc == MAYDAY_ERROR     ? strerror(errno)
                   : rc == MAYDAY_INVALID ? "it is not a file of learned routes"
                                          : "no memory");
    }
}

void
mayday_rules_forget_routes(mayday_learner_t *learner, const char *directory)
{
    char file[PATH_MAX];

    mayday_learner_forget(learner);
    file_of(file, directory);
    if (unlink(file) != 0 && errno != ENOENT) {
        mayday_log(MAYDAY_LOG_WARN, "MD0611", "cannot write what was learned of routes: %s",
                   strerror(errno));
    }
}
