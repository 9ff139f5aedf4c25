/*
 * See routes_learn.h. Two trees of names (routes_tree.h): what was counted in this
 * hour, thrown away when it is over, and what was learned, for good.
 *
 * In the learned tree a place that is a wildcard has the flag; its child "*" leads
 * on, and other children are names that stay. The file has a line for each such
 * place and name, in the order in which they were learned:
 *
 *   mayday routes 1
 *   *<tab>shop.example.com<tab>/users
 *   =<tab>shop.example.com<tab>/users/me
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/filter/routes_learn.h"
#include "core/filter/routes_tree.h"

#define FILE_HEAD "mayday routes 1\n"
#define LINE_MAX_SIZE 1200
#define NAMES_BYTES_MAX ((size_t) 256 * 1024)
#define LEARNED_BYTES_MAX ((size_t) 64 * 1024)

enum { DEPTH_MAX = 16, HOST_MAX = 256, SEGMENT_MAX = 128, LINES_MAX = 2 * MAYDAY_LEARNED_MAX };

struct mayday_learner {
    unsigned threshold; /* 0: off */
    char file[PATH_MAX];
    uint64_t window_us; /* when the hour began; 0: nothing was counted */
    mayday_tree_t counted, learned;
};

#define ANY MAYDAY_SLICE("*")

mayday_learner_t *
mayday_learner_new(void)
{
    return calloc(1, sizeof(mayday_learner_t));
}

void
mayday_learner_free(mayday_learner_t *learner)
{
    if (learner != NULL) {
        mayday_learner_off(learner);
        free(learner);
    }
}

void
mayday_learner_off(mayday_learner_t *learner)
{
    mayday_tree_fini(&learner->counted);
    mayday_tree_fini(&learner->learned);
    learner->threshold = 0;
    learner->window_us = 0;
}

bool
mayday_learner_is_on(const mayday_learner_t *learner)
{
    return learner->threshold > 0;
}

void
mayday_learner_forget(mayday_learner_t *learner)
{
    if (learner->threshold > 0) {
        mayday_tree_clear(&learner->counted);
        mayday_tree_clear(&learner->learned);
        learner->window_us = 0;
    }
}

/* ---- segments ---- */

/* Takes the next segment of a route, with the "/" before it; false: there is none. */
static bool
next_segment(mayday_slice_t *rest, mayday_slice_t *segment)
{
    size_t end;

    if (rest->len == 0) {
        return false;
    }
    end = mayday_slice_find(*rest, MAYDAY_SLICE("/"), 1);
    end = end == SIZE_MAX ? rest->len : end;
    *segment = mayday_slice(rest->data + 1, end - 1);
    *rest = mayday_slice(rest->data + end, rest->len - end);
    return true;
}

/* Names go into a file of lines, and nothing useful has other bytes or is longer. */
static bool
is_plain(mayday_slice_t text, size_t max)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char) text.data[i] <= ' ' || text.data[i] == 0x7f) {
            return false;
        }
    }
    return text.len <= max;
}

/* ---- what was learned, applied ---- */

void
mayday_learner_apply(const mayday_learner_t *learner, mayday_slice_t host, mayday_slice_t route,
                     mayday_buf_t *out)
{
    const mayday_tree_t *t = &learner->learned;
    uint32_t at = learner->threshold == 0 ? 0 : mayday_tree_find(t, MAYDAY_TREE_ROOT, host);
    mayday_slice_t segment;

    if (at == 0 || route.len == 0 || route.data[0] != '/') {
        mayday_buf_add(out, route);
        return;
    }
    while (at != 0 && next_segment(&route, &segment)) {
        uint32_t child = segment.len == 0 ? 0 : mayday_tree_find(t, at, segment);

        if (child == 0 && segment.len > 0 && t->places[at].flag) {
            child = mayday_tree_find(t, at, ANY);
            segment = ANY;
        }
        mayday_buf_addc(out, '/');
        mayday_buf_add(out, segment);
        at = child;
    }
    mayday_buf_add(out, route);
}

/* ---- counting ---- */

/* The child, made where it is not there and room is left for what learning adds. */
static uint32_t
child_of(mayday_tree_t *t, uint32_t place, mayday_slice_t name)
{
    uint32_t child = mayday_tree_find(t, place, name);
    bool full = t->used >= MAYDAY_LEARN_NAMES_MAX || t->names_used + name.len > NAMES_BYTES_MAX;

    return child != 0 || full ? child : mayday_tree_add(t, place, name);
}

static void
count(mayday_learner_t *learner, mayday_slice_t host, mayday_slice_t route)
{
    mayday_tree_t *t = &learner->counted;
    mayday_slice_t segment;
    uint32_t at;

    if (host.len == 0 || !is_plain(host, HOST_MAX) || !is_plain(route, SIZE_MAX)) {
        return;
    }
    at = child_of(t, MAYDAY_TREE_ROOT, host);
    for (int depth = 0; at != 0 && depth < DEPTH_MAX && next_segment(&route, &segment); depth++) {
        if (segment.len == 0 || segment.len > SEGMENT_MAX) {
            return;
        }
        at = child_of(t, at, segment);
        t->places[at].count++;
    }
}

/* ---- learning ---- */

typedef struct {
    mayday_learner_t *learner;
    size_t learned;
} lesson_t;

static bool
is_rare(const mayday_tree_t *t, uint32_t place)
{
    return t->places[place].count < MAYDAY_LEARN_OFTEN &&
           !mayday_slice_eq(mayday_tree_name(t, place), ANY);
}

/*
 * Makes one child "*" of all rare children of a place, and keeps the names of the
 * others. known: the place in the learned tree. False: there is no room.
 */
static bool
make_wildcard(lesson_t *lesson, uint32_t place, uint32_t known)
{
    mayday_tree_t *counted = &lesson->learner->counted, *learned = &lesson->learner->learned;
    uint32_t any, child, next;

    for (child = mayday_tree_first(counted, place); child != 0;
         child = mayday_tree_next(counted, child)) {
        if (!is_rare(counted, child) &&
            mayday_tree_add(learned, known, mayday_tree_name(counted, child)) == 0) {
            return false;
        }
    }
    any = mayday_tree_add(counted, place, ANY);
    if (any == 0 || mayday_tree_add(learned, known, ANY) == 0) {
        return false;
    }
    for (child = mayday_tree_first(counted, place); child != 0; child = next) {
        next = mayday_tree_next(counted, child);
        if (is_rare(counted, child) && !mayday_tree_merge(counted, any, child)) {
            return false;
        }
    }
    learned->places[known].flag = true;
    lesson->learned++;
    return true;
}

/* Where a place is in the learned tree, made as far as it is not there; 0: no room. */
static uint32_t
place_known(lesson_t *lesson, uint32_t place)
{
    const mayday_tree_t *counted = &lesson->learner->counted;
    uint32_t way[DEPTH_MAX + 1], known = MAYDAY_TREE_ROOT;
    size_t n = 0;

    for (; place != MAYDAY_TREE_ROOT && n < MAYDAY_COUNT(way);
         place = counted->places[place].parent) {
        way[n++] = place;
    }
    while (n > 0 && known != 0) {
        known =
            mayday_tree_add(&lesson->learner->learned, known, mayday_tree_name(counted, way[--n]));
    }
    return known;
}

static void
learn_place(lesson_t *lesson, uint32_t place, uint32_t depth)
{
    const mayday_tree_t *counted = &lesson->learner->counted;
    unsigned rare = 0;
    uint32_t child, known;

    for (child = mayday_tree_first(counted, place); child != 0;
         child = mayday_tree_next(counted, child)) {
        rare += is_rare(counted, child);
    }
    if (depth > 0 && rare >= lesson->learner->threshold) {
        known = place_known(lesson, place);
        if (known == 0 || !make_wildcard(lesson, place, known)) {
            return;
        }
    }
    for (child = mayday_tree_first(counted, place); child != 0;
         child = mayday_tree_next(counted, child)) {
        learn_place(lesson, child, depth + 1);
    }
}

/* The children of the root are hosts, and a host's own are not learned. */
static size_t
learn(mayday_learner_t *learner)
{
    lesson_t lesson = {learner, 0};
    const mayday_tree_t *counted = &learner->counted;

    for (uint32_t host = mayday_tree_first(counted, MAYDAY_TREE_ROOT); host != 0;
         host = mayday_tree_next(counted, host)) {
        learn_place(&lesson, host, 0);
    }
    return lesson.learned;
}

size_t
mayday_learner_note(mayday_learner_t *learner, mayday_slice_t host, mayday_slice_t route,
                    uint64_t time_us)
{
    size_t learned = 0;

    if (learner->threshold == 0 || route.len == 0 || route.data[0] != '/') {
        return 0;
    }
    if (time_us >= learner->window_us + MAYDAY_LEARN_WINDOW_US ||
        time_us + MAYDAY_LEARN_WINDOW_US < learner->window_us) {
        learned = learn(learner);
        mayday_tree_clear(&learner->counted);
        learner->window_us = time_us - time_us % MAYDAY_LEARN_WINDOW_US;
    }
    count(learner, host, route);
    return learned;
}

/* ---- the file ---- */

/* "*<tab>HOST<tab>PATH", of a place in the learned tree. */
static void
write_line(FILE *out, const mayday_tree_t *t, char mark, uint32_t place)
{
    uint32_t way[DEPTH_MAX + 1];
    size_t n = 0;

    for (; place != MAYDAY_TREE_ROOT && n < MAYDAY_COUNT(way); place = t->places[place].parent) {
        way[n++] = place;
    }
    fprintf(out, "%c\t", mark);
    for (size_t i = n; i-- > 0;) {
        mayday_slice_t name = mayday_tree_name(t, way[i]);

        fprintf(out, "%.*s%s", (int) name.len, name.data, i == n - 1 ? "\t" : "");
        fputs(i > 0 ? "/" : "\n", out);
    }
}

static void
write_all(FILE *out, const mayday_tree_t *t)
{
    fputs(FILE_HEAD, out);
    for (uint32_t place = MAYDAY_TREE_ROOT + 1; place <= t->used; place++) {
        if (t->places[t->places[place].parent].flag &&
            !mayday_slice_eq(mayday_tree_name(t, place), ANY)) {
            write_line(out, t, '=', place);
        }
        if (t->places[place].flag) {
            write_line(out, t, '*', place);
        }
    }
}

mayday_rc_t
mayday_learner_save(const mayday_learner_t *learner)
{
    char temporary[PATH_MAX + 8];
    FILE *out;
    bool failed;
    int fd;

    snprintf(temporary, sizeof(temporary), "%s.new", learner->file);
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    out = fd < 0 ? NULL : fdopen(fd, "w");
    if (out == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return MAYDAY_ERROR;
    }
    write_all(out, &learner->learned);
    failed = fflush(out) != 0 || ferror(out) != 0 || fdatasync(fd) != 0;
    failed = fclose(out) != 0 || failed;
    if (failed || rename(temporary, learner->file) != 0) {
        int error = errno;

        (void) unlink(temporary);
        errno = error;
        return MAYDAY_ERROR;
    }
    return MAYDAY_OK;
}

/* False: the line is not one of write_line's. */
static bool
read_line(mayday_tree_t *t, mayday_slice_t line)
{
    size_t tab = line.len < 3 ? SIZE_MAX : mayday_slice_find(line, MAYDAY_SLICE("\t"), 2);
    mayday_slice_t host, path, segment;
    uint32_t place;
    int depth = 0;

    if (tab == SIZE_MAX || line.data[1] != '\t' || (line.data[0] != '*' && line.data[0] != '=')) {
        return false;
    }
    host = mayday_slice(line.data + 2, tab - 2);
    path = mayday_slice(line.data + tab + 1, line.len - tab - 1);
    if (host.len == 0 || path.len < 2 || path.data[0] != '/' || !is_plain(host, HOST_MAX) ||
        !is_plain(path, SIZE_MAX)) {
        return false;
    }
    place = mayday_tree_add(t, MAYDAY_TREE_ROOT, host);
    while (place != 0 && next_segment(&path, &segment)) {
        if (++depth > DEPTH_MAX || segment.len == 0) {
            return false;
        }
        place = mayday_tree_add(t, place, segment);
    }
    if (place != 0 && line.data[0] == '*' && mayday_tree_add(t, place, ANY) != 0) {
        t->places[place].flag = true;
    }
    return true;
}

/* Reads no more lines than are ever written. */
static mayday_rc_t
read_all(FILE *in, mayday_tree_t *t)
{
    char line[LINE_MAX_SIZE];
    size_t len, lines = 0;

    if (fgets(line, sizeof(line), in) == NULL || strcmp(line, FILE_HEAD) != 0) {
        return ferror(in) ? MAYDAY_ERROR : MAYDAY_INVALID;
    }
    while (fgets(line, sizeof(line), in) != NULL) {
        len = strlen(line);
        if (++lines > LINES_MAX || len == 0 || line[len - 1] != '\n' ||
            !read_line(t, mayday_slice(line, len - 1))) {
            return MAYDAY_INVALID;
        }
    }
    return ferror(in) ? MAYDAY_ERROR : MAYDAY_OK;
}

static mayday_rc_t
load(mayday_learner_t *learner)
{
    int fd = open(learner->file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat about;
    mayday_rc_t rc;
    FILE *in;

    if (fd < 0) {
        return errno == ENOENT ? MAYDAY_OK : MAYDAY_ERROR;
    }
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) { /* a pipe would be waited for */
        close(fd);
        return MAYDAY_INVALID;
    }
    in = fdopen(fd, "r");
    if (in == NULL) {
        close(fd);
        return MAYDAY_ERROR;
    }
    rc = read_all(in, &learner->learned);
    fclose(in);
    if (rc != MAYDAY_OK) {
        mayday_tree_clear(&learner->learned);
    }
    return rc;
}

mayday_rc_t
mayday_learner_on(mayday_learner_t *learner, const char *file, unsigned threshold)
{
    if (learner->threshold > 0 && strcmp(learner->file, file) == 0) {
        learner->threshold = threshold;
        return MAYDAY_OK;
    }
    mayday_learner_off(learner);
    if (snprintf(learner->file, sizeof(learner->file), "%s", file) >= (int) sizeof(learner->file)) {
        errno = ENAMETOOLONG;
        return MAYDAY_ERROR;
    }
    if (mayday_tree_init(&learner->counted, MAYDAY_LEARN_NAMES_MAX + MAYDAY_LEARNED_MAX,
                         NAMES_BYTES_MAX + MAYDAY_LEARNED_MAX) != MAYDAY_OK ||
        mayday_tree_init(&learner->learned, MAYDAY_LEARNED_MAX, LEARNED_BYTES_MAX) != MAYDAY_OK) {
        mayday_learner_off(learner);
        return MAYDAY_NO_MEMORY;
    }
    learner->threshold = threshold;
    return load(learner);
}
