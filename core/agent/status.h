/*
 * What `mayday status` shows: one JSON document, made by the agent's API from
 * the lanes, the store and delivery. Also the names of the API's resources, for
 * both ends of the socket.
 *
 *   GET  /v1/status              the document below
 *   GET  /v1/metrics             the same numbers for Prometheus
 *   GET  /v1/events?limit=&after=&kind=&issue=&since=   {"events":[row …]}
 *   GET  /v1/events/ID           the event's JSON (ID: 4 to 32 hex digits), also of a dropped one
 *   GET  /v1/dropped?limit=&reason=&kind=&since=        {"events":[row …]}: what rules dropped
 *   POST /v1/send-event          {"dsn":"…"} or {}: {"results":[{"dsn","status","event_id",
 *                                "answer","error"}]}
 *   POST /v1/purge               {"user":…} | {"before_us":…} | {"all":true}:
 *                                {"purged":N,"dropped":M}, M of the N by rules before
 *
 * Errors are {"error":"…"} with a 4xx or 5xx status. Without its store the agent
 * still answers /v1/status, with a problem and what the living lanes count, and
 * /v1/send-event.
 *
 * {
 *   "agent": {"version","pid","started_us","user","server","server_version","identity",
 *             "directory","run_directory","rules":{"file","mode","loaded_us","error" (of the
 *             last load),"failure","failed_us" (the last event that they failed on; 0: none)}},
 *   "healthy": true, "problems": ["…"],
 *   "lanes": {"alive","dead","size","unread_bytes","dropped_no_slot","lost_records"},
 *   "counts": {"requests":N,"captured":{KIND:N},"ignored":{KIND:N},"dropped":{REASON:N},
 *              "filtered":{REASON:N},"suppressed":{REASON:N},"sent":N,
 *              "observed":{REASON:N} (what rules in observe mode would have done),
 *              "rule_errors":N (events that went out without details), "rule_restarts":N,
 *              "truncated":N, "log_lines_lost":N (counters.def), "settings_missing":N},
 *   "rules": [{"where","hook","outcome" ("dropped" or "failed"),"reason","observed","count"}]
 *            (what each place of the rules did; "observed": would have done),
 *   "queue": {"events":N},
 *   "delivery": [{"dsn","queued","sent","in_flight","last_sent_us","last_error_us","last_error",
 *                 "limited_until_us","retry_at_us"}]
 * }
 */
#ifndef MAYDAY_STATUS_H
#define MAYDAY_STATUS_H

#define MAYDAY_API_STATUS "/v1/status"
#define MAYDAY_API_METRICS "/v1/metrics"
#define MAYDAY_API_EVENTS "/v1/events"
#define MAYDAY_API_DROPPED "/v1/dropped"
#define MAYDAY_API_SEND_EVENT "/v1/send-event"
#define MAYDAY_API_PURGE "/v1/purge"
#define MAYDAY_SOCKET_NAME "mayday.sock"

#endif
