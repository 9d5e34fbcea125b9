#!/usr/bin/env bash
# Pushes of bk-sync beside `docker buildx build --push`, `buildctl`, `skopeo copy` and `crane push`: the same image, the
# same registry, the same run.
#
#   bench/push.sh [--rounds N] [--mib N] [--no-proxy]
#
# Images: `large` is N MiB (1024) of noise in 20 layers, `small` is 20 layers of 200 kB. Every round has noise of its own and
# every tool a repository of its own, so that nobody finds a blob that is there. Builders have built the image before:
# what is timed is the push (and, for those that build, finding that nothing is to be built). Wall time is the median of
# the rounds, peak memory the largest. Then bk-sync and skopeo again through a proxy that is 80 ms late with each request,
# and one that cuts one request in a hundred. Fails where bk-sync needs more than 64 MiB.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
rounds=3
mib=1024
proxy=yes
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2; shift 2 ;;
    --mib) mib=$2; shift 2 ;;
    --no-proxy) proxy=no; shift ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  esac
done

readonly limit_kib=$((64 * 1024))
work=$PWD/target/bench-push
say() { printf 'bench: %s\n' "$*" >&2; }
die() {
  printf 'bench: error: %s\n' "$*" >&2
  exit 1
}

main() {
  [ -x /usr/bin/time ] || die "GNU time is missing: apt-get install time"
  [ -f target/services.env ] || scripts/services.sh all
  # shellcheck source=/dev/null
  . target/services.env
  bin=$BK_SYNC_TEST_BIN
  if [ -z "${BK_SYNC:-}" ]; then
    say "building bk-sync"
    "${CARGO:-cargo}" build --quiet --release --locked --bin bk-sync
    BK_SYNC=$(cd "${CARGO_TARGET_DIR:-target}/release" && pwd)/bk-sync
  fi
  rm -rf "$work"
  mkdir -p "$work/docker"
  runs=$work/runs.tsv
  : >"$runs"
  local round image
  for image in small large; do
    for round in $(seq "$rounds"); do
      prepare "$image" "$round"
      for tool in bk-sync bk-sync-dockerd bk-sync-layout skopeo crane buildctl buildx; do
        push "$tool" "$image" "$BK_SYNC_TEST_REGISTRY"
      done
    done
  done
  [ "$proxy" = no ] || through_proxy
  report
}

# prepare IMAGE ROUND: new noise, built on both builders and as a layout.
prepare() {
  local image=$1 size at
  case $image in small) size=200000 ;; large) size=$((mib * 1048576 / 20)) ;; esac
  mark=$image-$2-$$
  say "$image, round $2"
  rm -rf "$work/context" "$work/layout"
  mkdir -p "$work/context" "$work/layout"
  { echo "FROM scratch"; for at in $(seq 20); do echo "COPY f$at /"; done; } >"$work/context/Dockerfile"
  for at in $(seq 20); do head -c "$size" /dev/urandom >"$work/context/f$at"; done
  local builder
  for builder in "$BK_SYNC_TEST_BUILDKITD" "$BK_SYNC_TEST_DOCKERD"; do
    quiet "$BK_SYNC" build -q --builder "$builder" --platform linux/arm64 --provenance=false -t "bench/$mark" \
      -o "type=oci,dest=$work/image.tar" "$work/context"
  done
  tar -xf "$work/image.tar" -C "$work/layout"
}

quiet() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "failed: $*"; }; }

# push TOOL IMAGE REGISTRY [LABEL]
push() {
  local tool=$1 image=$2 to=$3/bench/$1-$mark-${4:-plain}:v1 home
  home=$(mktemp -d "$work/home.XXXXXX")
  local build=(--platform linux/arm64 --provenance=false --push -t "$to" "$work/context")
  case $tool in
    bk-sync) set -- "$BK_SYNC" build -q --builder "$BK_SYNC_TEST_BUILDKITD" --push-via client "${build[@]}" ;;
    bk-sync-dockerd) set -- "$BK_SYNC" build -q --builder "$BK_SYNC_TEST_DOCKERD" --push-via client "${build[@]}" ;;
    bk-sync-layout) set -- "$BK_SYNC" push -q "$work/layout" "$to" ;;
    skopeo) set -- "$bin/skopeo" copy -q --dest-tls-verify=false "oci:$work/layout" "docker://$to" ;;
    crane)
      [ -x "$bin/crane" ] || { say "no crane here"; return 0; }
      set -- "$bin/crane" push --insecure "$work/layout" "$to" ;;
    buildctl)
      set -- "$bin/buildctl" --addr "$BK_SYNC_TEST_BUILDKITD" build --progress plain --frontend dockerfile.v0 \
        --opt platform=linux/arm64 --local "context=$work/context" --local "dockerfile=$work/context" \
        --output "type=image,name=$to,push=true,oci-mediatypes=true" ;;
    buildx) set -- "$bin/docker-buildx" build --progress plain "${build[@]}" ;;
  esac
  quiet env HOME="$home" DOCKER_HOST="$BK_SYNC_TEST_DOCKERD_HOST" DOCKER_CONFIG="$work/docker" \
    /usr/bin/time --format '%e %M' --output "$work/time" "$@"
  local seconds kib
  read -r seconds kib <"$work/time"
  printf '%s\t%s\t%s\t%s\t%s\n' "$image" "${4:-plain}" "$tool" "$seconds" "$kib" >>"$runs"
  rm -rf "$home"
}

# The proxy of the tests, as a process of its own.
through_proxy() {
  local kind
  for kind in late cutting; do
    say "through a proxy: $kind"
    rm -f "$work/address"
    BK_SYNC_BENCH_PROXY=$kind BK_SYNC_BENCH_ADDRESS=$work/address \
      "${CARGO:-cargo}" test --quiet --test it -- --ignored --exact push::proxy::for_the_bench >"$work/proxy.log" 2>&1 &
    local pid=$! waited
    for waited in $(seq 600); do [ -s "$work/address" ] && break; sleep 1; done
    [ -s "$work/address" ] || die "the proxy did not start: $(cat "$work/proxy.log")"
    local at image
    at=$(cat "$work/address")
    for image in small large; do
      prepare "$image" "$kind"
      for tool in bk-sync bk-sync-layout crane; do push "$tool" "$image" "$at" "$kind" || say "$tool failed"; done
    done
    rm -f "$work/address"
    wait "$pid" || true
  done
}

report() {
  local worst
  printf '\n| image | way | tool | median s | peak MiB |\n|---|---|---|---|---|\n'
  sort -t "$(printf '\t')" -k1,3 -s "$runs" | awk -F'\t' '
    function out(  i, j, t) {
      if (n == 0) return
      for (i = 2; i <= n; i++) { t = s[i]; for (j = i - 1; j > 0 && s[j] > t; j--) s[j + 1] = s[j]; s[j + 1] = t }
      printf "| %s | %.2f | %.0f |\n", key, s[int((n + 1) / 2)], peak / 1024
    }
    { k = $1 " | " $2 " | " $3
      if (k != key) { out(); key = k; n = 0; peak = 0 }
      s[++n] = $4 + 0; if ($5 > peak) peak = $5 }
    END { out() }'
  worst=$(awk -F'\t' '$3 ~ /^bk-sync/ && $5 > worst { worst = $5 } END { print worst + 0 }' "$runs")
  [ "$worst" -lt "$limit_kib" ] || die "bk-sync held $worst KiB, more than $limit_kib"
  say "bk-sync held $worst KiB at most"
}

main
