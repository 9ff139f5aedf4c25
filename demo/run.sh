#!/bin/bash
# run.sh BUILD KEEP: a real nginx and a real httpd with the module, an application and upstreams
# that fail in several ways, bounded traffic, and what was caught. Everything is on loopback, in a
# directory of its own under /tmp; nothing outside is touched, nothing is left running unless KEEP
# is set.
set -eu
build=$1 keep=${2:-}
demo=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d /tmp/mayday-demo.XXXXXX)
chmod 755 "$dir"
export LC_ALL=C.UTF-8

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; fi
say() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }

pids=()
stop() {
    for server in nginx httpd; do
        [ -s "$dir/$server.pid" ] && kill -QUIT "$(cat "$dir/$server.pid")" 2> /dev/null
        [ "$server" = httpd ] && [ -s "$dir/$server.pid" ] &&
            kill -TERM "$(cat "$dir/$server.pid")" 2> /dev/null
    done
    for pid in "${pids[@]}"; do wait_gone "$pid" & done
    for pid in "${pids[@]:2}"; do kill "$pid" 2> /dev/null; done
    wait
    rm -rf "$dir" "${run_dirs[@]}"
}
wait_gone() { for _ in {1..100}; do kill -0 "$1" 2> /dev/null || return; sleep 0.1; done; }
fail() {
    echo "the demo failed: $1" >&2
    tail -n 20 "$dir"/*.log >&2 2> /dev/null || true
    exit 1
}
run_dirs=()
trap '[ -n "$keep" ] && [ "$finished" = 1 ] || stop > /dev/null 2>&1' EXIT
trap 'exit 130' INT TERM
finished=0

# shellcheck disable=SC2034  # render reads them by name
read -r NGINX HTTPD OK SLOW HANGS_UP BREAKS_OFF DEAD DEAD2 < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(8)]
print(*(s.getsockname()[1] for s in held))')

if [ "$(id -u)" = 0 ]; then
    user_nginx='user www-data;' user_httpd=$'User www-data\nGroup www-data'
else
    user_nginx='' user_httpd=''
fi
render() {
    local text name
    text=$(< "$demo/$1.in")
    for name in NGINX HTTPD OK SLOW HANGS_UP BREAKS_OFF DEAD DEAD2; do
        text=${text//@$name@/${!name}}
    done
    text=${text//@DIR@/$dir} text=${text//@DEMO@/$demo} text=${text//@BUILD@/$build}
    text=${text//@MODULES@//usr/lib/apache2/modules}
    text=${text//@USER_NGINX@/$user_nginx} text=${text//@USER_HTTPD@/$user_httpd}
    printf '%s\n' "$text" > "$dir/$1"
}
render nginx.conf
render httpd.conf

say "Starting nginx, Apache httpd, PHP-FPM and upstreams that fail (in $dir)"
nginx -e "$dir/nginx-error.log" -p "$dir" -c "$dir/nginx.conf" -g 'daemon off;' > "$dir/nginx.log" 2>&1 &
pids+=($!)
setsid /usr/sbin/apache2 -f "$dir/httpd.conf" -DFOREGROUND > "$dir/httpd.log" 2>&1 &
pids+=($!)
python3 "$demo/upstreams.py" "$OK" "$SLOW" "$HANGS_UP" "$BREAKS_OFF" > "$dir/upstreams.log" 2>&1 &
pids+=($!)
fpm=$(find /usr/sbin -name 'php-fpm*' | sort | tail -1)
cat > "$dir/php-fpm.conf" << END
[global]
error_log = $dir/php-fpm.log
daemonize = no
[shop]
listen = $dir/php.sock
listen.mode = 0666
pm = static
pm.max_children = 2
php_admin_flag[log_errors] = on
$([ "$(id -u)" = 0 ] && printf 'user = www-data\ngroup = www-data\n')
END
"$fpm" -y "$dir/php-fpm.conf" > "$dir/php.log" 2>&1 &
pids+=($!)

mayday() { "$build/mayday" --directory "$dir/$1-state" "${@:2}"; }
for port in "$NGINX" "$HTTPD" "$OK" "$SLOW" "$HANGS_UP" "$BREAKS_OFF"; do
    for _ in {1..100}; do (: > "/dev/tcp/127.0.0.1/$port") 2> /dev/null && continue 2; sleep 0.1; done
    fail "nothing listens on port $port"
done
for server in nginx httpd; do
    for _ in {1..100}; do mayday $server status > /dev/null 2>&1 && continue 2; sleep 0.1; done
    fail "the agent of $server did not start"
done
mapfile -t run_dirs < <(grep -ls "$dir" /run/mayday/*/current "${XDG_RUNTIME_DIR:-/dev/null}"/mayday/*/current \
    /dev/shm/mayday-*/*/current 2> /dev/null | xargs -r -n 1 dirname)

say "Sending traffic: customers, an impatient one, and a bot"
request() {
    curl -s -o /dev/null -m 5 -H 'Host: shop.test' -H "X-User: user-$((RANDOM % 3))" -H 'X-Tenant: acme' \
        -A "${3:-Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0}" -w '%{http_code}' "http://127.0.0.1:$1$2" || true
}
for server in NGINX HTTPD; do
    port=${!server}
    printf '  %-6s' "${server,,}"
    for path in / / /shop/ /shop/pay?order=17 /shop/pay?order=18 /shop/total /shop/report \
        /shop/maintenance /payments/17 /payments/18/confirm /payments/19 /catalogue/shoes \
        /catalogue/hats /search/?q=shoes\&token=secret /mail/welcome /export/orders.csv; do
        printf ' %s' "$(request "$port" "$path")"
    done
    for _ in 1 2 3; do printf ' %s' "$(request "$port" /payments/1 'EvilBot/1.0 (+http://bot.example)')"; done
    echo
done

settled() {
    local json
    json=$(mayday "$1" status --format=json | tr -d '[:space:]') || true
    [[ $json == *'"filtered":{"before_send:bot":3}'* ]]
}
for server in nginx httpd; do
    for _ in {1..50}; do settled $server && break; sleep 0.1; done
    say "What Mayday caught behind $server"
    mayday $server events --limit 30
done
say "One of them in full: mayday show ID"
id=$(mayday nginx events --kind upstream_refused --json --limit 1 |
    sed 's/.*"event_id": *"\([0-9a-f]*\)".*/\1/')
mayday nginx show "$id"
say "The state of it all: mayday status"
mayday nginx status || true

finished=1
say "What to try next"
if [ -n "$keep" ]; then
    cat << END
  The servers are still running:
    curl http://127.0.0.1:$NGINX/payments/1        (nginx)
    curl http://127.0.0.1:$HTTPD/payments/1        (httpd)
    $build/mayday --directory $dir/nginx-state tail
    $build/mayday --directory $dir/nginx-state events
  Stop them with:
    kill ${pids[*]}; rm -rf $dir ${run_dirs[*]}
END
else
    cat << END
  make demo KEEP=1      leaves the servers running, for you to play with
  make && make install  then "load_module …; mayday on;" (README.md)
  docs/lua.md           rules like demo/rules.lua, which dropped the bot
END
fi
