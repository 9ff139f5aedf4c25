#!/bin/bash
# Builds the nginx module. build-nginx-module.sh REPO OUT NGINX_SRC SANITIZE PREFIX
# NGINX_SRC empty: Debian's nginx-dev. Otherwise a source tree, configured or not;
# a configured one is built again with its own arguments, in OUT, not in the tree.
# SANITIZE: the server too is built from NGINX_SRC, into OUT/objs/nginx, each of its
# allocations apart; Debian's needs the sanitizers' library preloaded.
set -eu
repo=$1 out=$2 src=$3 sanitize=$4 prefix=$5
log=$out/configure.log
fail() { echo "$*" >&2; exit 1; }

# What must agree with the server that will load the module.
if [ -z "$src" ]; then
    src=/usr/share/nginx/src
    [ -r "$src/conf_flags" ] || fail "nginx-dev is missing: apt-get install nginx-dev"
    # shellcheck disable=SC1091
    . "$src/conf_flags"
    args=("${NGX_CONF_FLAGS[@]}")
elif [ -r "$src/objs/ngx_auto_config.h" ]; then
    line=$(sed -n 's/^#define NGX_CONFIGURE "\(.*\)"$/\1/p' "$src/objs/ngx_auto_config.h")
    eval "args=(${line//\\\"/\"})"
else
    args=(--with-compat --with-http_ssl_module --with-http_v2_module --with-http_auth_request_module)
fi
src=$(cd "$src" && pwd)
if [ -e "$src/configure" ]; then
    configure=./configure
elif [ -e "$src/auto/configure" ]; then
    configure=auto/configure
else
    fail "no nginx source tree: $src"
fi

# Our own options go behind the server's.
cc_opt="-O2 -g -DMAYDAY_AGENT_PATH=\\\"$prefix/bin/mayday\\\""
ld_opt=
targets=(modules)
if [ -n "$sanitize" ]; then
    cc_opt="$cc_opt -fsanitize=$sanitize -fno-omit-frame-pointer"
    ld_opt="-fsanitize=$sanitize"
    if [ "$src" != /usr/share/nginx/src ]; then
        cc_opt="$cc_opt -DNGX_DEBUG_PALLOC=1"
        targets=(binary modules)
    fi
fi
kept=()
for arg in ${args[@]+"${args[@]}"}; do
    case $arg in
    --with-cc-opt=*) cc_opt="${arg#*=} $cc_opt" ;;
    --with-ld-opt=*) ld_opt="${arg#*=} $ld_opt" ;;
    --builddir=* | --add-module=* | --add-dynamic-module=*) ;;
    *) kept+=("$arg") ;;
    esac
done

# configure writes into its current directory: work in a tree of links.
work=$out/tree
rm -rf "$work"
mkdir -p "$work"
for f in "$src"/*; do
    case ${f##*/} in
    Makefile | objs) ;;
    *) ln -s "$f" "$work/" ;;
    esac
done
cd "$work"
if ! $configure ${kept[@]+"${kept[@]}"} --with-cc-opt="$cc_opt" --with-ld-opt="$ld_opt" \
        --builddir="$out/objs" --add-dynamic-module="$repo" > "$log" 2>&1; then
    tail -20 "$log" >&2
    fail "configuring nginx's source in $src failed; the whole output: $log"
fi
make -s -f "$out/objs/Makefile" "${targets[@]}"
cp "$out/objs/ngx_http_mayday_module.so" "$out/"
echo "built $out/ngx_http_mayday_module.so"
