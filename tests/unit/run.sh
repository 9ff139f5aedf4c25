#!/bin/bash
# Runs the given test programs, says what each printed if it failed.
passed=0 failed=0
for t in "$@"; do
    out=$("$t" 2>&1) && ok=1 || ok=0
    n=$(grep -c '^\[       OK \]' <<< "$out")
    f=$(grep -c '^ *[0-9]* FAILED TEST' <<< "$out")
    passed=$((passed + n))
    if [ "$ok" = 0 ]; then
        printf '%s\n' "$out"
        failed=$((failed + (f > 0 ? f : 1)))
    fi
    printf '%-40s %s\n' "${t##*/}" "$([ "$ok" = 1 ] && echo "$n ok" || echo FAILED)"
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
