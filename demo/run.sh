#!/bin/bash
# run.sh BUILD KEEP: a real nginx and a real httpd with the module, an application and upstreams
# that fail in several ways, bounded traffic, and what was caught. Everything is on loopback, in a
# directory of its own under /tmp; nothing outside is touched. However it ends, nothing is left
# running and no file is left, unless KEEP is set: then stop.sh does that.
set -eu
build=$1 keep=${2:-}
demo=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C.UTF-8 PATH=$PATH:/usr/sbin

bold='' dim='' red='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' plain=$'\e[0m'
fi
say() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
fail() {
    printf '%sThe demo failed:%s %s\n' "$red" "$plain" "$1" >&2
    if [ -n "${2:-}" ]; then sed 's/^/  /' "$dir/$2" | tail -n 15 >&2; fi
    exit 1
}

dir='' finished=''
end() {
    trap '' INT TERM HUP
    if [ -n "$dir" ] && { [ -z "$keep" ] || [ -z "$finished" ]; }; then
        "$demo/stop.sh" "$dir" > /dev/null 2>&1
    fi
}
trap end EXIT
trap 'exit 130' INT TERM HUP

# ---- the stage -------------------------------------------------------------------

fpm=$(find /usr/sbin -name 'php-fpm*' 2> /dev/null | sort | tail -1)
for program in nginx apache2 "${fpm:-php-fpm}" python3 curl; do
    command -v "$program" > /dev/null ||
        fail "there is no $program; packaging/packages.sh install servers demo installs it"
done
for file in mayday nginx/ngx_http_mayday_module.so apache/mod_mayday.so; do
    [ -e "$build/$file" ] || fail "there is no $build/$file; make builds it"
done
dir=$(mktemp -d /tmp/mayday-demo.XXXXXX)
id=${dir##*.}
chmod 755 "$dir"
# Copies, for the servers' user may not be allowed where this was cloned to.
cp -r "$demo/app" "$demo/rules.lua" "$demo/upstreams.py" "$build/mayday" \
    "$build/nginx/ngx_http_mayday_module.so" "$build/apache/mod_mayday.so" "$dir"
chmod -R a+rX "$dir"

# shellcheck disable=SC2034 # all are used by name
read -r NGINX HTTPD OK SLOW HANGS_UP BREAKS_OFF DEAD DEAD2 < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(8)]
print(*(s.getsockname()[1] for s in held))' 2> /dev/null) || fail "there are no free ports on 127.0.0.1"

user_nginx='' user_httpd='' user_php=''
if [ "$(id -u)" = 0 ]; then
    user_nginx='user www-data;' user_httpd=$'User www-data\nGroup www-data'
    user_php=$'user = www-data\ngroup = www-data'
fi
for template in nginx.conf httpd.conf php-fpm.conf; do
    text=$(< "$demo/$template.in")
    for name in NGINX HTTPD OK SLOW HANGS_UP BREAKS_OFF DEAD DEAD2; do
        text=${text//@$name@/${!name}}
    done
    text=${text//@DIR@/$dir} text=${text//@ID@/$id}
    text=${text//@MODULES@//usr/lib/apache2/modules}
    text=${text//@USER_NGINX@/$user_nginx} text=${text//@USER_HTTPD@/$user_httpd}
    printf '%s\n' "${text//@USER_PHP@/$user_php}" > "$dir/$template"
done

declare -A pids
alive() { kill -0 "${pids[$1]}" 2> /dev/null || fail "$1 ended at once:" "$1.log"; }
# start NAME PORT COMMAND...: in a process group of its own; it listens when this returns.
start() {
    local name=$1 port=$2
    shift 2
    setsid "$@" > "$dir/$name.log" 2>&1 &
    pids[$name]=$!
    echo $! >> "$dir/groups"
    for _ in {1..100}; do
        alive "$name"
        (: > "/dev/tcp/127.0.0.1/$port") 2> /dev/null && return
        sleep 0.1
    done
    fail "$name does not listen on 127.0.0.1:$port:" "$name.log"
}

say "Starting nginx, Apache httpd, PHP-FPM and upstreams that fail"
printf '  %son loopback, in %s%s\n' "$dim" "$dir" "$plain"
start upstreams "$BREAKS_OFF" python3 "$dir/upstreams.py" "$OK" "$SLOW" "$HANGS_UP" "$BREAKS_OFF"
start nginx "$NGINX" nginx -e stderr -p "$dir" -c "$dir/nginx.conf" -g 'daemon off;'
start httpd "$HTTPD" apache2 -f "$dir/httpd.conf" -DFOREGROUND
start php-fpm "$NGINX" "$fpm" -y "$dir/php-fpm.conf"

mayday() { "$dir/mayday" --directory "$dir/$1-$id" "${@:2}"; }
for server in nginx httpd; do
    for _ in {1..100}; do
        mayday $server status > /dev/null 2>&1 && continue 2
        alive $server # a port that another listens on looks well until now
        sleep 0.1
    done
    fail "the agent of $server does not answer: $(mayday $server status 2>&1)" "$server.log"
done
for _ in {1..100}; do [ ! -S "$dir/php.sock" ] || break; sleep 0.1; done

# ---- the play --------------------------------------------------------------------

request() { # request PORT PATH [USER-AGENT]
    curl -s -o /dev/null -m 5 -H 'Host: shop.test' -H "X-User: user-$((RANDOM % 3))" \
        -H 'X-Tenant: acme' -A "${3:-Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0}" \
        -w '%{http_code}' "http://127.0.0.1:$1$2" || true
}
scene() { # scene WHAT PATH [USER-AGENT]
    local code colour codes=()
    for port in "$NGINX" "$HTTPD"; do
        code=$(request "$port" "$2" "${3:-}")
        colour=''
        if [ "$code" -ge 500 ]; then colour=$red; fi
        codes+=("$colour$code$plain")
    done
    printf '  %-25s  %s      %s    %s%s%s\n' "$2" "${codes[@]}" "$dim" "$1" "$plain"
}

say "Sending traffic              nginx    httpd"
scene 'all is well'                                  /
scene 'PHP throws an exception'                      '/shop/pay?order=17'
scene 'and again'                                    '/shop/pay?order=18'
scene 'PHP runs out of memory'                       /shop/report
scene 'PHP says that it is closed'                   /shop/maintenance
scene 'both upstreams are down'                      /payments/17
scene 'and on another page'                          /payments/18/confirm
scene 'one of two is down: a retry helps'           /catalogue/shoes
scene 'the upstream is too slow'                     '/search/?q=a&token=xyz'
scene 'the upstream hangs up'                        /mail/welcome
scene 'the upstream breaks off in the file'          /export/orders.csv
for _ in 1 2 3; do
    scene 'a bot tries its luck'                     /payments/1 'EvilBot/1.0 (+http://bot.example)'
done

# ---- what was caught -------------------------------------------------------------

filtered() { mayday "$1" status --format=json | sed -n 's/.*"before_send:bot":[^0-9]*\([0-9]*\).*/\1/p'; }
settled() { [ "$(mayday "$1" events --json | wc -l)" -ge 10 ] && [ "$(filtered "$1")" = 3 ]; }
for server in nginx httpd; do
    for _ in {1..100}; do settled $server && break; sleep 0.1; done
    say "What Mayday caught behind $server (mayday issues)"
    mayday $server issues
done

say "What it did not report, and why"
echo "  /             succeeded: only counted, as a request"
for server in nginx httpd; do
    printf '  %-12s  %s failed requests of a bot: rules.lua dropped them, as "bot"\n' \
        $server "$(filtered $server)"
done

# The only one of its issue, so its row stands above.
slow=$(mayday nginx events --kind upstream_read_timeout --json --limit 1 |
    sed 's/.*"event_id": *"\([0-9a-f]\{8\}\).*/\1/')
say "One of them in full (mayday show $slow)"
mayday nginx show "$slow"
say "The state of it all (mayday status)"
mayday nginx status || true

finished=1
say "What to try next"
if [ -n "$keep" ]; then
    cat << END
  The servers are still running:
    curl http://127.0.0.1:$NGINX/payments/1        (nginx)
    curl http://127.0.0.1:$HTTPD/payments/1        (httpd)
    $dir/mayday -d $dir/nginx-$id tail
    $dir/mayday -d $dir/httpd-$id issues
    \$EDITOR $dir/rules.lua, then kill -HUP $(cat "$dir/nginx.pid")
  Stop them, and remove all that they made:
    $demo/stop.sh $dir
END
else
    cat << END
  make demo KEEP=1       leaves the servers running, for you to play with
  demo/rules.lua         the rule that dropped the bot; docs/lua.md has more
  make && make install   then "load_module …; mayday on;" (README.md)
END
fi
