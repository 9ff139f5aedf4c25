/*
 * Feeds the agent through a lane as fast as it reads, and measures it.
 *
 *   feed PROGRAM [--count N] [--rate N] [--rules FILE] [--dsn DSN]
 *
 * Plays the server: prepares an instance in a directory of its own, starts the
 * agent, writes N records of about 3 KB as events, waits until all were read
 * and, with a DSN, delivered. Prints one JSON object. With rules and no DSN the
 * issue rate stays at its default, so that almost all events are only counted;
 * with a DSN all rates are lifted.
 */
#include <dirent.h>
#include <ftw.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/capture/ids.h"
#include "core/capture/record.h"
#include "core/capture/supervise.h"

/* No agent delivers faster than this: so long the queue need not be asked about. */
#define DELIVERY_US_MIN 20
#define QUEUE_POLL_US_MIN 5000

static void *
alloc(void *ctx, size_t size)
{
    (void) ctx;
    return calloc(1, size);
}

static mayday_expr_t *
no_expr(void *ctx, mayday_slice_t text, const char **error)
{
    (void) ctx;
    (void) text;
    *error = "expressions are not evaluated here";
    return NULL;
}

static const mayday_conf_host_t host = {MAYDAY_SERVER_NGINX, NULL, alloc, no_expr, no_expr};

static void
say(void *ctx, int level, const char *text)
{
    (void) ctx;
    fprintf(stderr, "feed: [%d] %s\n", level, text);
}

static void
die(const char *what)
{
    fprintf(stderr, "feed: %s\n", what);
    exit(1);
}

static void
set(mayday_instance_t *instance, mayday_place_t *place, mayday_directive_t id, const char *value)
{
    mayday_slice_t arg = mayday_slice_str(value);
    const char *error = mayday_directive_set(&host, instance, place, id, &arg, 1);

    if (error != NULL) {
        die(error);
    }
}

static const char *const HEADERS[][2] = {
    {"Host", "shop.example.com"},
    {"User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"},
    {"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
    {"Accept-Language", "en-US,en;q=0.5"},
    {"Accept-Encoding", "gzip, deflate, br"},
    {"Referer", "https://shop.example.com/cart?page=2&token=0123456789"},
    {"Cookie", "sessionid=0123456789abcdef; theme=dark"},
    {"X-Forwarded-For", "203.0.113.7"},
    {"X-Request-Id", "4f1c2d3e-5a6b"},
    {"Cache-Control", "no-cache"},
};

static void
write_one(mayday_record_t *r, const mayday_place_t *place, mayday_ids_t *ids, uint64_t n)
{
    static const mayday_record_attempt_t attempt = {0, -1, -1, 1, 0};
    uint8_t id[16];
    char path[64];
    int len = snprintf(path, sizeof(path), "/shop/checkout/%llu", (unsigned long long) n % 1000);

    mayday_ids_next(ids, id);
    mayday_record_u64(r, MAYDAY_FIELD_TIME_US, mayday_clock_us());
    mayday_record_u64(r, MAYDAY_FIELD_KIND, MAYDAY_KIND_UPSTREAM_REFUSED);
    mayday_record_u64(r, MAYDAY_FIELD_STATUS, 502);
    mayday_record_text(r, EVENT_ID, mayday_slice(id, sizeof(id)));
    mayday_record_u64(r, MAYDAY_FIELD_DESTINATION, place->destination->index);
    mayday_record_u64(r, MAYDAY_FIELD_DURATION_US, 1500);
    mayday_record_u64(r, MAYDAY_FIELD_ERRNO, 111);
    mayday_record_text(r, METHOD, MAYDAY_SLICE("GET"));
    mayday_record_text(r, SCHEME, MAYDAY_SLICE("https"));
    mayday_record_text(r, HOST, MAYDAY_SLICE("shop.example.com"));
    mayday_record_text(r, PATH, mayday_slice(path, (size_t) len));
    mayday_record_query(r, place->collect, MAYDAY_SLICE("page=2&token=0123456789"));
    mayday_record_text(r, PROTOCOL, MAYDAY_SLICE("HTTP/1.1"));
    mayday_record_text(r, UPSTREAM, MAYDAY_SLICE("shop_backend"));
    mayday_record_attempt(r, &attempt, MAYDAY_SLICE("10.0.0.4:8080"));
    mayday_record_attempt(r, &attempt, MAYDAY_SLICE("10.0.0.5:8080"));
    mayday_record_log_line(r, place->collect, 3, mayday_clock_us(),
                           MAYDAY_SLICE("connect() failed (111: Connection refused) while "
                                        "connecting to upstream"));
    for (size_t i = 0; i < MAYDAY_COUNT(HEADERS); i++) {
        mayday_record_header(r, place->collect, mayday_slice_str(HEADERS[i][0]),
                             mayday_slice_str(HEADERS[i][1]));
    }
    mayday_record_text(r, RELEASE, MAYDAY_SLICE("shop@1.4.2"));
    mayday_record_text(r, ENVIRONMENT, MAYDAY_SLICE("production"));
}

/* CPU time so far, in seconds, of the stat file of a process or thread. */
static double
cpu_s(const char *path)
{
    unsigned long utime = 0;
    unsigned long stime = 0;

    FILE *f = fopen(path, "r");
    if (f == NULL || fscanf(f, "%*d %*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                            &utime, &stime) != 2) {
        die("cannot read the agent's times");
    }
    fclose(f);
    return (double) (utime + stime) / (double) sysconf(_SC_CLK_TCK);
}

static double
agent_cpu_s(pid_t pid)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
    return cpu_s(path);
}

/* The same of the agent's thread of that name. */
static double
thread_cpu_s(pid_t pid, const char *wanted)
{
    char path[320];
    char name[32];
    double found = -1;
    struct dirent *entry;
    DIR *d;

    snprintf(path, sizeof(path), "/proc/%d/task", (int) pid);
    d = opendir(path);
    while (d != NULL && found < 0 && (entry = readdir(d)) != NULL) {
        snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", (int) pid, entry->d_name);
        FILE *f = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (f != NULL && fscanf(f, "%31s", name) == 1 && strcmp(name, wanted) == 0) {
            snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", (int) pid, entry->d_name);
            found = cpu_s(path);
        }
        if (f != NULL) {
            fclose(f);
        }
    }
    if (d != NULL) {
        closedir(d);
    }
    if (found < 0) {
        die("the agent has no such thread");
    }
    return found;
}

/* The most memory that it ever had. */
static long
agent_peak_kib(pid_t pid)
{
    char path[64];
    char line[256];
    long kib = 0;

    snprintf(path, sizeof(path), "/proc/%d/status", (int) pid);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "VmHWM: %ld", &kib) == 1) {
            break;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return kib;
}

/* Rows of the queue that are left, asked of the program itself. */
static long
queued(const char *program, const char *state)
{
    char command[1024];
    char json[65536];
    const char *at;

    snprintf(command, sizeof(command), "%s --directory %s status --format=json", program, state);
    FILE *f = popen(command, "r");
    size_t n = f == NULL ? 0 : fread(json, 1, sizeof(json) - 1, f);
    json[n] = '\0';
    if (f != NULL) {
        pclose(f);
    }
    at = strstr(json, "\"queue\":");
    at = at == NULL ? NULL : strstr(at, "\"events\":");
    return at == NULL ? -1 : strtol(at + strlen("\"events\":"), NULL, 10);
}

/*
 * Waits until the queue is empty; state NULL: there is none. Asking costs a
 * process of its own, so it is done seldom while much is left, and often at the
 * end.
 */
static void
wait_delivered(const char *program, const char *state, uint64_t deadline)
{
    long left = 0;

    while (state != NULL && (left = queued(program, state)) > 0 &&
           mayday_clock_monotonic_us() < deadline) {
        useconds_t pause_us = (useconds_t) left * DELIVERY_US_MIN;

        usleep(pause_us < QUEUE_POLL_US_MIN ? QUEUE_POLL_US_MIN : pause_us);
    }
    if (left != 0) {
        die("not all was delivered");
    }
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void) st;
    (void) type;
    (void) ftw;
    return remove(path);
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {{"count", required_argument, NULL, 'c'},
                                            {"rate", required_argument, NULL, 'p'},
                                            {"rules", required_argument, NULL, 'r'},
                                            {"dsn", required_argument, NULL, 'd'},
                                            {NULL, 0, NULL, 0}};
    char dir[] = "/tmp/mayday-feed-XXXXXX";
    char state[64];
    uint64_t count = 100000;
    uint64_t rate = 0;
    const char *rules = NULL;
    const char *dsn = NULL;
    mayday_supervisor_t supervisor;
    mayday_lane_t *lane = calloc(1, sizeof(*lane));
    mayday_ids_t ids;
    mayday_record_t record;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            count = strtoull(optarg, NULL, 10);
            break;
        case 'p':
            rate = strtoull(optarg, NULL, 10);
            break;
        case 'r':
            rules = optarg;
            break;
        case 'd':
            dsn = optarg;
            break;
        default:
            return 2;
        }
    }
    if (optind + 1 != argc || mkdtemp(dir) == NULL || lane == NULL) {
        die("usage: feed PROGRAM [--count N] [--rate N] [--rules FILE] [--dsn DSN]");
    }
    snprintf(state, sizeof(state), "%s/state", dir);

    mayday_instance_t *instance = mayday_instance_new(&host);
    mayday_place_t *place = mayday_place_new(&host, instance);
    instance->server_version = "nginx/0";
    instance->identity = dir;
    instance->error_log = "";
    set(instance, place, MAYDAY_DIRECTIVE_ENABLE, "on");
    set(instance, NULL, MAYDAY_DIRECTIVE_DIRECTORY, state);
    set(instance, NULL, MAYDAY_DIRECTIVE_AGENT, argv[optind]);
    set(instance, NULL, MAYDAY_DIRECTIVE_LANE_SIZE, "8m");
    if (rules != NULL) {
        set(instance, NULL, MAYDAY_DIRECTIVE_RULES_FILE, rules);
    }
    if (dsn != NULL) {
        set(instance, place, MAYDAY_DIRECTIVE_DSN, dsn);
        set(instance, NULL, MAYDAY_DIRECTIVE_ISSUE_RATE, "off");
        set(instance, NULL, MAYDAY_DIRECTIVE_SEND_RATE, "off");
        set(instance, NULL, MAYDAY_DIRECTIVE_QUEUE_SIZE, "1g");
    }
    mayday_supervisor_init(&supervisor);
    if (mayday_instance_prepare(&supervisor, instance, 1, (uid_t) -1, (gid_t) -1, say, NULL) !=
        MAYDAY_OK) {
        die("the instance cannot be prepared");
    }
    mayday_lane_init(lane, &supervisor.segment, supervisor.settings, false);
    if (mayday_lane_claim(lane) != MAYDAY_OK) {
        die("no lane");
    }
    mayday_ids_init(&ids);
    pid_t agent = mayday_agent_spawn(&supervisor, 0);
    for (int i = 0; i < 500 && queued(argv[optind], state) < 0; i++) {
        usleep(10000);
    }

    double cpu = agent_cpu_s(agent);
    double pipeline = thread_cpu_s(agent, "mayday-pipeline");
    double delivery = thread_cpu_s(agent, "mayday-delivery");
    uint64_t started = mayday_clock_monotonic_us();
    uint64_t deadline = started + 120 * 1000000ull;
    mayday_slot_t *slot = lane->slot;
    for (uint64_t n = 0; n < count;) {
        uint64_t free_bytes =
            lane->lane_size - (atomic_load(&slot->tail) - atomic_load(&slot->head));
        uint64_t elapsed_us = mayday_clock_monotonic_us() - started;
        if (free_bytes < 2 * (uint64_t) lane->record_size_max ||
            (rate > 0 && n >= elapsed_us * rate / 1000000)) {
            usleep(200);
        } else if (mayday_lane_begin(lane, &record) == MAYDAY_OK) {
            write_one(&record, place, &ids, n);
            mayday_lane_commit(&record);
            n++;
        }
        if (mayday_clock_monotonic_us() > deadline) {
            die("the agent does not read");
        }
    }
    while (atomic_load(&slot->records_read) < count && mayday_clock_monotonic_us() < deadline) {
        usleep(1000);
    }
    wait_delivered(argv[optind], dsn == NULL ? NULL : state, deadline);
    double seconds = (double) (mayday_clock_monotonic_us() - started) / 1e6;
    cpu = agent_cpu_s(agent) - cpu;
    pipeline = thread_cpu_s(agent, "mayday-pipeline") - pipeline;
    delivery = thread_cpu_s(agent, "mayday-delivery") - delivery;
    printf("{\"count\":%llu,\"seconds\":%.3f,\"cpu_s\":%.3f,\"per_second\":%.0f,"
           "\"per_cpu_second\":%.0f,\"pipeline_us\":%.1f,\"delivery_us\":%.1f,\"peak_kib\":%ld}\n",
           (unsigned long long) count, seconds, cpu, (double) count / seconds,
           (double) count / (cpu > 0 ? cpu : 1e-9), pipeline * 1e6 / (double) count,
           delivery * 1e6 / (double) count, agent_peak_kib(agent));
    mayday_lane_release(lane);
    mayday_instance_close(&supervisor);
    kill(agent, SIGTERM);
    waitpid(agent, NULL, 0);
    nftw(supervisor.run_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
