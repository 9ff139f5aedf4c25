#!/bin/bash
# check-tools.sh build|test: names what is missing and the command that installs it.
set -u
case ${1:-build} in
build) packages="gcc make pkg-config libluajit-5.1-dev libcjson-dev libapr1-dev libsqlite3-dev
    libcurl4-openssl-dev libmicrohttpd-dev libpcre2-dev zlib1g-dev nginx-dev apache2-dev" ;;
esac
has() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q ' installed$'; }
missing=
if command -v dpkg-query > /dev/null; then
    for p in $packages; do has "$p" || missing="$missing $p"; done
    [ "${missing# }" = "$missing" ] || [ -z "$missing" ] || {
        echo "missing packages; install them with:" >&2
        echo "  apt-get install --no-install-recommends$missing" >&2
        exit 1
    }
fi
exit 0
