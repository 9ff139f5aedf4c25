#!/bin/bash
# lint.sh BUILD CFLAGS APACHE_CFLAGS: layers, format, clang-tidy, cppcheck, shellcheck.
set -u
build=$1 cflags=$2 apache_cflags=$3
cd "$(dirname "$0")/.." || exit 1
failed=0
step() { printf '%-12s ' "$1"; shift; if out=$("$@" 2>&1); then echo ok; else echo; printf '%s\n' "$out"; failed=1; fi; }

c_files=$(git ls-files 'core/*.c' 'core/*.h' 'tests/unit/*.c' 'tests/bench/*.c' 'tests/fuzz/*.c')
core_c=$(git ls-files 'core/*.c')
apache_c=$(git ls-files 'apache_module/*.c')
shell=$(git ls-files '*.sh' .ci/run)
cflags=${cflags//-Werror/}

step layers packaging/check-layers.sh "$build"
# nginx's and httpd's own styles are not clang-format's; the shims are read by people.
step format clang-format --dry-run --Werror $c_files
step clang-tidy clang-tidy --quiet --warnings-as-errors='*' $core_c -- $cflags
[ -n "$apache_c" ] && step tidy-httpd clang-tidy --quiet --warnings-as-errors='*' $apache_c -- $cflags $apache_cflags
step cppcheck cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
    --error-exitcode=1 -I. -D__linux__ core apache_module
step shellcheck shellcheck $shell
exit $failed
