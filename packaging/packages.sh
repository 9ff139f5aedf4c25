#!/bin/bash
# packages.sh check GROUP...     names what is missing and the command that installs it
# packages.sh install GROUP...   prints what it will install, then installs it
# The groups stand in packages.txt. Services of the installed packages are not started.
set -eu
action=$1
shift
list=$(dirname "$0")/packages.txt

if ! command -v dpkg-query > /dev/null; then
    echo "not a Debian system: the packages are listed in $list" >&2
    exit 0
fi
missing=()
for group in "$@"; do
    mapfile -t packages < <(sed -n "s/^$group  *//p" "$list" | tr -s ' ' '\n')
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q ' installed$' ||
            missing+=("$package")
    done
done
[ ${#missing[@]} -gt 0 ] || exit 0

command=(apt-get install -y --no-install-recommends "${missing[@]}")
if [ "$action" = check ]; then
    echo "missing packages; install them with:" >&2
    echo "  ${command[*]}" >&2
    exit 1
fi

echo "Installing for $*: ${missing[*]}"
if [ "$(id -u)" != 0 ]; then
    echo "this needs root: sudo ${command[*]}" >&2
    exit 1
fi
# Debian asks this file whether a package may start its service.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod 755 $policy
    trap 'rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { "${command[@]}" > "$log" 2>&1 ||
       { apt-get update >> "$log" 2>&1 && "${command[@]}" >> "$log" 2>&1; }; }; then
    tail -20 "$log" >&2
    echo "the installation failed; the whole output: $log" >&2
    exit 1
fi
rm -f "$log"
