/*
 * Reads agents, one a line, and prints for each, separated by tabs: whether it is
 * a bot where nobody says otherwise (1 or 0), its class ("-": none), its name, and
 * the agent. For recall.py.
 */
#include <stdio.h>

#include "core/filter/bots.h"

int
main(void)
{
    static char line[65536];
    mayday_bots_t *bots = mayday_bots_new();

    if (bots == NULL) {
        return 2;
    }
    while (fgets(line, sizeof(line), stdin) != NULL) {
        size_t len = strcspn(line, "\n");
        mayday_bot_t bot = mayday_bots_classify(bots, mayday_slice(line, len));
        const char *class = mayday_bot_class_name(bot.class);

        printf("%u\t%s\t%.*s\t%.*s\n", (unsigned) (mayday_bot_classes_default() >> bot.class & 1),
               class[0] == '\0' ? "-" : class, (int) bot.name.len,
               bot.name.data == NULL ? "" : bot.name.data, (int) len, line);
    }
    mayday_bots_free(bots);
    return 0;
}
