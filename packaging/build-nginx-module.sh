#!/bin/bash
# Builds the nginx module. build-nginx-module.sh REPO OUT NGINX_SRC SANITIZE PREFIX
# NGINX_SRC empty: Debian's nginx-dev. Otherwise a source tree, configured or not;
# a configured one is built again with its own arguments, in OUT, not in the tree.
set -eu
repo=$1 out=$2 src=$3 sanitize=$4 prefix=$5
log=$out/configure.log
mkdir -p "$out"
cc_opt="-O2 -g -DMAYDAY_AGENT_PATH=\\\"$prefix/bin/mayday\\\""
ld_opt=""
if [ -n "$sanitize" ]; then
    cc_opt="$cc_opt -fsanitize=$sanitize -fno-omit-frame-pointer"
    ld_opt="$ld_opt -fsanitize=$sanitize"
fi
args=(--with-compat)
if [ -z "$src" ]; then
    src=/usr/share/nginx/src
    [ -r "$src/conf_flags" ] || { echo "nginx-dev is missing: apt-get install nginx-dev" >&2; exit 1; }
    # Debian's own flags, so that the signatures match.
    # shellcheck disable=SC1091
    . "$src/conf_flags"
    args=("${NGX_CONF_FLAGS[@]}")
elif [ -r "$src/objs/ngx_auto_config.h" ]; then
    line=$(sed -n 's/^#define NGX_CONFIGURE "\(.*\)"$/\1/p' "$src/objs/ngx_auto_config.h" | sed 's/\\"/"/g')
    eval "args=($line)"
fi
[ -e "$src/configure" ] && configure=./configure || configure=auto/configure
tree=$src
if [ ! -w "$src" ] || [ "$src" = /usr/share/nginx/src ]; then
    tree=$src
fi
# configure writes a Makefile into its current directory: work in a tree of links.
work=$out/tree
rm -rf "$work"
mkdir -p "$work"
for f in "$tree"/* ; do
    case ${f##*/} in Makefile|objs) ;; *) ln -s "$f" "$work/" ;; esac
done
cd "$work"
for i in "${!args[@]}"; do
    case ${args[$i]} in
    --with-cc-opt=*) args[i]="${args[$i]} $cc_opt"; cc_opt= ;;
    --with-ld-opt=*) args[i]="${args[$i]} $ld_opt"; ld_opt= ;;
    --builddir=*|--add-module=*|--add-dynamic-module=*) unset "args[$i]" ;;
    esac
done
[ -n "$cc_opt" ] && args+=("--with-cc-opt=$cc_opt")
[ -n "$ld_opt" ] && args+=("--with-ld-opt=$ld_opt")
if ! $configure "${args[@]}" --builddir="$out/objs" --add-dynamic-module="$repo" > "$log" 2>&1; then
    tail -20 "$log" >&2
    echo "configuring nginx's source in $src failed; the whole output: $log" >&2
    exit 1
fi
make -s -f "$out/objs/Makefile" modules
cp "$out/objs/ngx_http_mayday_module.so" "$out/"
echo "built $out/ngx_http_mayday_module.so"
