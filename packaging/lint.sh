#!/bin/bash
# lint.sh BUILD CFLAGS APACHE_CFLAGS: what no test tells. Layers, format, generated pages,
# clang-tidy file by file, cppcheck, shellcheck, pyflakes. Fails if any step does.
set -u
build=$1
read -ra cflags <<< "${2//-Werror/}"
read -ra apache_cflags <<< "$3"
cd "$(dirname "$0")/.." || exit 1
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
failed=0

verdict() {
    printf '%-12s ' "$1"
    if [ "$2" = 0 ]; then echo ok; else echo; printf '%s\n' "$3"; failed=1; fi
}
step() {
    local name=$1 out rc=0
    shift
    out=$("$@" 2>&1) || rc=$?
    verdict "$name" $rc "$out"
}

# tidy NAME FLAGS... -- FILES...: two files at a time; a terminal sees which.
tidy() {
    local name=$1 flags=() rc=0
    shift
    while [ "$1" != -- ]; do flags+=("$1"); shift; done
    shift
    rm -f "$found"/*
    # shellcheck disable=SC2016  # expanded by the inner shell
    printf '%s\n' "$@" | xargs -P2 -I'{}' bash -c '
        file=$1 out=$2/${1//\//_}
        shift 2
        if [ -t 2 ]; then printf "\r\e[K%s" "$file" >&2; fi
        clang-tidy --quiet --warnings-as-errors="*" "$file" -- "$@" > "$out" 2> "$out.errors" ||
            { grep -v "warnings.* generated" "$out.errors" >> "$out"; exit 1; }
        rm -f "$out" "$out.errors"' tidy '{}' "$found" "${flags[@]}" || rc=1
    if [ -t 2 ]; then printf '\r\e[K' >&2; fi
    verdict "$name" $rc "$(find "$found" -type f ! -name '*.errors' -exec cat '{}' +)"
}

mapfile -t c_files < <(git ls-files 'core/*.[ch]' 'tests/*.[ch]')
mapfile -t core_c < <(git ls-files 'core/*.c')
mapfile -t apache_c < <(git ls-files 'apache_module/*.c')
mapfile -t shell < <(git ls-files '*.sh' .ci/run)
mapfile -t python < <(git ls-files '*.py')

step layers packaging/check-layers.sh "$build"
# nginx's and httpd's own styles are not clang-format's; the shims are read by people.
step format clang-format --dry-run --Werror "${c_files[@]}"
step directives packaging/gen-directives.py --check
step record packaging/gen-record.py --check
step messages packaging/check-messages.py
tidy clang-tidy "${cflags[@]}" -- "${core_c[@]}"
tidy tidy-httpd "${cflags[@]}" "${apache_cflags[@]}" -- "${apache_c[@]}"
step cppcheck cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
    --error-exitcode=1 -I. -D__linux__ core apache_module
step shellcheck shellcheck "${shell[@]}"
step pyflakes pyflakes3 "${python[@]}"
exit $failed
