#!/bin/bash
# check-layers.sh BUILD: the rooms include only whom they may, each third-party library stays in
# its room, and what runs inside a web server needs nothing but libc and the server.
set -u
build=${1:-build}
cd "$(dirname "$0")/.." || exit 1
failed=0
complain() { printf 'layers: %s\n' "$1" >&2; failed=1; }

# room, regular expression of what its files may include (project headers only)
may_include() {
    local room=$1 allowed=$2 row
    while IFS= read -r row; do
        complain "$row is not allowed in $room"
    done < <(grep -rnE '^#include "(core|ngx_module|apache_module)/' "$room" --include='*.[ch]' |
             grep -vE "#include \"($allowed)" )
}
formats='core/capture/[a-z_]*_format\.h|core/capture/[a-z_]*\.def|core/capture/supervise\.h|core/capture/settings\.h'
may_include core/base 'core/base/'
may_include core/capture 'core/base/|core/capture/'
may_include core/event "core/base/|core/event/|$formats"
may_include core/filter "core/base/|core/event/|core/filter/|$formats"
may_include core/agent "core/base/|core/event/|core/filter/|core/agent/|$formats"
may_include core/cli "core/base/|core/event/|core/agent/|core/cli/|$formats"
may_include ngx_module 'core/base/|core/capture/|ngx_module/'
may_include apache_module 'core/base/|core/capture/|apache_module/'

# header, files that may include it
library() {
    local header=$1 allowed=$2 row
    while IFS= read -r row; do
        complain "$row: <$header> belongs to $allowed"
    done < <(grep -rnE "^#include <$header" core ngx_module apache_module | grep -vE "^($allowed)")
}
library '(lua|lauxlib|lualib|luajit)\.h' 'core/agent/rules'
library 'curl/' 'core/agent/delivery|core/cli/client'
library 'sqlite3\.h' 'core/agent/store'
library 'microhttpd\.h' 'core/agent/api'
library 'pcre2\.h' 'core/filter/'
library 'cjson/' 'core/event/|core/filter/|core/agent/|core/cli/'
library 'ngx_' 'ngx_module/'
library '(httpd|http_[a-z]*|ap_[a-z]*|mod_[a-z]*|util_[a-z]*)\.h' 'apache_module/'

# Undefined symbols of the capture side: libc only, and nothing that takes heap memory.
mapfile -t objects < <(find "$build/obj/core/base" "$build/obj/core/capture" -name '*.o' 2>/dev/null)
if [ ${#objects[@]} -gt 0 ]; then
    own=$(nm --defined-only "${objects[@]}" | awk 'NF == 3 {print $3}' | sort -u)
    while IFS= read -r symbol; do
        complain "core/base or core/capture uses $symbol"
    done < <(nm -u "${objects[@]}" | awk '$1 == "U" {print $2}' | sort -u | grep -vxF "$own" |
             grep -E '^(lua|curl|sqlite3|MHD|cJSON|apr|ngx|ap)_|^(malloc|calloc|realloc|strdup)$')
fi

# What the modules let others see.
exports() {
    local module=$1 expected=$2 found
    [ -e "$module" ] || return
    found=$(nm -D --defined-only "$module" | awk '{print $3}' | grep -vE '^(__asan|__ubsan|__odr)' | sort | tr '\n' ' ')
    [ "$found" = "$expected " ] || complain "$module exports $found, expected $expected"
}
exports "$build/nginx/ngx_http_mayday_module.so" 'ngx_module_names ngx_module_order ngx_modules'
exports "$build/apache/mod_mayday.so" mayday_module
[ $failed = 0 ] && echo "layers: ok"
exit $failed
