#!/usr/bin/env bash
# What the output costs: a build of 200 steps that write 50 MB of logs, shown in each way.
#
#   bench/output.sh [--steps N] [--no-services]
#
# Each way builds the same steps anew. Printed are the build's wall time, the processor time of bk-sync in it (whole, and
# less that of the same build with `--progress quiet`, which sees the same messages), and its peak memory. Fails where a way
# costs more than 5 % of the wall time or holds more than 48 MiB.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
steps=256
services=yes
while [ $# -gt 0 ]; do
  case $1 in
    --steps) steps=$2; shift 2 ;;
    --no-services) services=no; shift ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  esac
done

readonly limit_kib=$((48 * 1024)) limit_percent=5
# BuildKit clips what a step writes in its first second at 200 KiB.
readonly bytes=200000
work=$PWD/target/bench-output
say() { printf 'bench: %s\n' "$*" >&2; }
die() {
  printf 'bench: error: %s\n' "$*" >&2
  exit 1
}

main() {
  [ -x /usr/bin/time ] || die "GNU time is missing: apt-get install time"
  [ "$services" = no ] || scripts/services.sh all
  # shellcheck source=/dev/null
  . target/services.env
  "${CARGO:-cargo}" build --quiet --release --locked --bin bk-sync
  bk_sync=$(cd "${CARGO_TARGET_DIR:-target}/release" && pwd)/bk-sync
  mkdir -p "$work"
  local way step failed=no
  printf '| way | wall s | bk-sync s | its output %% | peak MiB | written MB |\n|---|---:|---:|---:|---:|---:|\n'
  quiet=0
  for way in quiet plain rawjson tty; do
    {
      echo "FROM $BK_SYNC_TEST_BASE_ARM64"
      for step in $(seq "$steps"); do
        echo "RUN echo $way $step $EPOCHREALTIME; busybox yes 'compiling unit $step of many, with a line of some length' | busybox head -c $bytes"
      done
    } >"$work/Dockerfile"
    measure "$way" || failed=yes
  done
  [ "$failed" = no ] || die "the output costs more than $limit_percent % of the build, or more than $((limit_kib / 1024)) MiB"
}

# measure WAY: the same build, its output shown that way.
measure() {
  local way=$1 command
  command="'$bk_sync' build --builder '$BK_SYNC_TEST_BUILDKITD' --platform linux/arm64 --progress $way -o type=cacheonly '$work'"
  case $way in
    tty) script -q -e -c "stty cols 120 rows 40; exec /usr/bin/time -o '$work/time' -f '%e %U %S %M' $command" /dev/null >"$work/shown" 2>&1 </dev/null || die "the build failed: $work/shown" ;;
    *) eval "/usr/bin/time -o '$work/time' -f '%e %U %S %M' $command" >"$work/shown" 2>&1 || die "the build failed: $work/shown" ;;
  esac
  awk -v way="$way" -v quiet="$quiet" -v written="$(stat -c %s "$work/shown")" -v limit_kib="$limit_kib" -v limit="$limit_percent" '{
    own = $2 + $3; share = way == "quiet" ? 0 : (own - quiet) / $1 * 100
    printf "| %s | %.1f | %.2f | %.2f | %.1f | %.1f |\n", way, $1, own, share, $4 / 1024, written / 1e6
    exit(share > limit || $4 > limit_kib)
  }' "$work/time" || return 1
  [ "$way" != quiet ] || quiet=$(awk '{ print $2 + $3 }' "$work/time")
}

main
