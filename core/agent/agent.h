/*
 * The agent: the process that reads the lanes of one server instance. Started
 * by the server (core/capture/supervise.h), or by hand, a systemd unit or a
 * sidecar.
 *
 *   mayday agent --run RUN [--life-fd N]
 *
 * With --life-fd it ends, in order, when that pipe's other end has gone; without,
 * when it gets SIGTERM or SIGINT, and messages go to stderr. Threads, each with
 * one job: main (settings, life, log), pipeline (lanes to store), delivery, and
 * the API's.
 */
#ifndef MAYDAY_AGENT_H
#define MAYDAY_AGENT_H

/* argv[0] is "agent". Returns the exit code (core/capture/supervise.h). */
int mayday_agent_main(int argc, char **argv);

#endif
