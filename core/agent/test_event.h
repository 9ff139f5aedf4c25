/*
 * The event that `mayday send-event` sends to prove the way to a receiver. It
 * comes from no request, hence not from a record.
 */
#ifndef MAYDAY_TEST_EVENT_H
#define MAYDAY_TEST_EVENT_H

#include "core/base/buf.h"
#include "core/event/settings_read.h"

/*
 * Its envelope for that DSN, with a new id (33 bytes). MAYDAY_INVALID: *error
 * (a constant) says what is wrong with the DSN. MAYDAY_NO_MEMORY.
 */
MAYDAY_MUST_CHECK mayday_rc_t mayday_test_event(const mayday_settings_t *settings,
                                                const char *dsn_text, mayday_buf_t *envelope,
                                                char id[33], const char **error);

#endif
