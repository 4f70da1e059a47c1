#!/usr/bin/env bash
# Has schemathesis ask a real host whatever its OpenAPI document allows, and much that it does not.
#
#   scripts/api-fuzz.sh CRYPTLET [EXAMPLES]
#
# CRYPTLET  the program, beside its container
# EXAMPLES  requests to make up for each operation and phase; 30 if not said
set -euo pipefail
cd "$(dirname "$0")/.."

readonly cryptlet=$1 examples=${2:-30}
readonly tool=${XDG_CACHE_HOME:-$HOME/.cache}/bletchley/tools/schemathesis-4.32.5/bin/schemathesis
fail() { printf 'api-fuzz: %s\n' "$*" >&2; exit 1; }
[ -x "$tool" ] || fail "schemathesis is missing; run scripts/setup.sh python"

folder=$(mktemp -d)
host=
finish() {
  [ -z "$host" ] || kill "$host" 2>/dev/null || true
  [ -z "$host" ] || wait "$host" 2>/dev/null || true
  rm -rf "$folder"
}
trap finish EXIT

XDG_STATE_HOME=$folder/state "$cryptlet" dev --dir "$folder/dev" --rpc-port 0 --api-port 0 >"$folder/log" 2>&1 &
host=$!
for _ in $(seq 300); do
  ! grep -q '^ready$' "$folder/log" || break
  kill -0 "$host" 2>/dev/null || { cat "$folder/log" >&2; fail "the host did not start"; }
  sleep 0.1
done
grep -q '^ready$' "$folder/log" || fail "the host did not say that it is ready within 30 s"

field() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$folder/dev/connection.json" "$1"; }
field authority >"$folder/authority.pem"
field token >"$folder/token"
url=$(field url)

config=$PWD/apps/api/schemathesis.toml
# It leaves its findings in the folder that it runs in. One worker: in older Pythons, Debian 12's among them, threads that
# parse at the same time stumble over one another (https://github.com/python/cpython/issues/106905).
cd "$folder"
"$tool" --config-file "$config" run "$url/v1/openapi.json" --tls-verify "$folder/authority.pem" \
  -H "Authorization: Bearer $(cat "$folder/token")" --checks all --max-examples "$examples" --seed 1 --workers 1 --no-color ||
  { grep -i 'panic\|internal error' "$folder/log" >&2 || true; fail "schemathesis ends with what it says above"; }
kill -0 "$host" || fail "the host died of it"
! grep -q panicked "$folder/log" || fail "a part of the host panicked: $(grep -m1 panicked "$folder/log")"
