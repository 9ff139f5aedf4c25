#!/bin/bash
# stop.sh DIR: ends what run.sh started in DIR, and removes DIR and all that its instances made.
# Each server leads a process group of its own, told in DIR/groups; the agents, which end with
# their servers, have left it and are known by the directory that they run in.
set -u
dir=$1 id=${1##*.}
case $dir in
    /tmp/mayday-demo.??????) ;;
    *) echo "usage: $0 /tmp/mayday-demo.XXXXXX" >&2; exit 2 ;;
esac
trap '' INT TERM HUP

groups=()
while read -r leader; do
    # Long afterwards the number may be another's.
    if grep -qs "$dir" "/proc/$leader/cmdline"; then groups+=("$leader"); fi
done < <(cat "$dir/groups" 2> /dev/null)

# The brackets are for grep not to find itself.
agents() { grep -lsE "/(nginx|httpd)-[${id:0:1}]${id:1}-" /proc/[0-9]*/cmdline | cut -d / -f 3; }
running() {
    for leader in "${groups[@]}"; do kill -0 -- "-$leader" 2> /dev/null && return; done
    [ -n "$(agents)" ]
}

for signal in TERM KILL; do
    for leader in "${groups[@]}"; do kill -$signal -- "-$leader" 2> /dev/null; done
    for _ in {1..40}; do running || break 2; sleep 0.1; done
done
for agent in $(agents); do kill -KILL "$agent" 2> /dev/null; done
rm -rf "$dir" {/run/mayday,"/dev/shm/mayday-$(id -u)","${XDG_RUNTIME_DIR:-/run}/mayday"}/{nginx,httpd}-"$id"-*
