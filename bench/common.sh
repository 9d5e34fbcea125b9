# shellcheck shell=bash
# What both benches share: words, the test bed, the release binary. Sourced from the checkout's root.

readonly limit_kib=$((64 * 1024))

say() { printf 'bench: %s\n' "$*" >&2; }

die() {
  printf 'bench: error: %s\n' "$*" >&2
  exit 1
}

# usage: the comment at the head of the script, and the end.
usage() {
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "bench/${0##*/}" >&2
  exit 2
}

# set_up WORK SERVICES: an empty place to work in; the test bed, started unless SERVICES is `no`, with its addresses; the
# release binary as $bk_sync, unless $BK_SYNC names one.
set_up() {
  work=$PWD/target/$1
  runs=$work/runs.tsv
  [ -x /usr/bin/time ] || die "GNU time is missing: apt-get install time"
  [ "$2" = no ] || scripts/services.sh all
  # shellcheck source=/dev/null
  . target/services.env
  bin=$BK_SYNC_TEST_BIN
  if [ -n "${BK_SYNC:-}" ]; then
    bk_sync=$BK_SYNC
  else
    say "building bk-sync"
    "${CARGO:-cargo}" build --quiet --release --locked --bin bk-sync
    bk_sync=$(cd "${CARGO_TARGET_DIR:-target}/release" && pwd)/bk-sync
  fi
  mkdir -p "$work/docker"
  : >"$runs"
}

# quiet COMMAND…: its output goes to a log, which is shown where it fails.
quiet() { "$@" >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; return 1; }; }
