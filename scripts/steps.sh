#!/usr/bin/env bash
# Runs make targets one after another: names each, stops at the first that fails, ends with the time that each took.
set -uo pipefail
cd "$(dirname "$0")/.."

readonly make=${MAKE:-make}
summary=()
status=0
started=$SECONDS

for step in "$@"; do
  printf '==> %s\n' "$step"
  begun=$SECONDS
  "$make" --no-print-directory "$step" </dev/null
  status=$?
  summary+=("$(printf '%-10s %5d s  %s' "$step" $((SECONDS - begun)) "$([ $status -eq 0 ] && echo passed || echo FAILED)")")
  [ $status -eq 0 ] || break
done

printf '==> summary\n'
printf '    %s\n' "${summary[@]}"
printf '    %-10s %5d s  %s\n' all $((SECONDS - started)) "$([ $status -eq 0 ] && echo passed || echo FAILED)"
exit $status
