#!/usr/bin/env bash
# Pushes of bk-sync beside `docker buildx build --push`, `buildctl`, `skopeo copy` and `crane push`: the same image, the
# same registry, the same run.
#
#   bench/push.sh [--rounds N] [--mib N] [--images "small large"] [--no-proxy] [--no-services]
#
# Images: `large` is N MiB (1024) of noise in 20 layers, `small` is 20 layers of 200 kB. Every round has noise of its own and
# every tool a repository of its own, so that nobody finds a blob in it that is there. Builders have built the image before:
# what is timed is the push (and, for those that build, finding that nothing is to be built). Who begins changes from round to
# round. Wall time is the median of the rounds, peak memory the largest. Then all of it again through a proxy that is 80 ms late
# with each request, and through one that cuts one request in a hundred: what gives up there is counted, and has no time.
# Fails where bk-sync needs more than 64 MiB.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=bench/common.sh
. bench/common.sh
rounds=3
mib=1024
images="small large"
proxy=yes
services=yes
tools=(bk-sync bk-sync-dockerd bk-sync-layout skopeo crane buildctl buildx)
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2; shift 2 ;;
    --mib) mib=$2; shift 2 ;;
    --images) images=$2; shift 2 ;;
    --no-proxy) proxy=no; shift ;;
    --no-services) services=no; shift ;;
    *) usage ;;
  esac
done

main() {
  rm -rf target/bench-push
  set_up bench-push "$services"
  trap 'rm -rf "$work/context" "$work/layout" "$work/image.tar"' EXIT
  local round image
  for image in $images; do
    for round in $(seq "$rounds"); do
      prepare "$image" "$round"
      in_turn "$round" "$BK_SYNC_TEST_REGISTRY" plain
    done
  done
  [ "$proxy" = no ] || through_proxies
  report
}

# prepare IMAGE ROUND: new noise, built on both builders and as a layout. What they hold of the last round is of no use any more,
# and large.
prepare() {
  local image=$1 size at builder
  case $image in small) size=200000 ;; large) size=$((mib * 1048576 / 20)) ;; esac
  mark=$image-$2-$$
  say "$image, round $2"
  rm -rf "$work/context" "$work/layout"
  mkdir -p "$work/context" "$work/layout"
  { echo "FROM scratch"; for at in $(seq 20); do echo "COPY f$at /"; done; } >"$work/context/Dockerfile"
  for at in $(seq 20); do head -c "$size" /dev/urandom >"$work/context/f$at"; done
  for builder in "$BK_SYNC_TEST_BUILDKITD" "$BK_SYNC_TEST_DOCKERD"; do
    quiet "$bk_sync" builder prune --all --builder "$builder" || die "$builder does not make room"
    quiet "$bk_sync" build -q --builder "$builder" --platform linux/arm64 --provenance=false -t "bench/$mark" \
      -o "type=oci,dest=$work/image.tar" "$work/context" || die "$builder does not build"
  done
  tar -xf "$work/image.tar" -C "$work/layout"
  rm "$work/image.tar"
}

# in_turn ROUND REGISTRY WAY: each tool pushes the image that is prepared; another one begins in each round.
in_turn() {
  local count=${#tools[@]} at
  for at in $(seq "$count"); do push "${tools[$(((at + $1 * 3) % count))]}" "$2" "$3"; done
}

# push TOOL REGISTRY WAY
push() {
  local tool=$1 way=$3 to home seconds kib
  to=$2/bench/$1-$mark-$way:v1
  home=$(mktemp -d "$work/home.XXXXXX")
  local build=(--platform linux/arm64 --provenance=false --push -t "$to" "$work/context")
  case $tool in
    bk-sync) set -- "$bk_sync" build -q --builder "$BK_SYNC_TEST_BUILDKITD" --push-via client "${build[@]}" ;;
    bk-sync-dockerd) set -- "$bk_sync" build -q --builder "$BK_SYNC_TEST_DOCKERD" --push-via client "${build[@]}" ;;
    bk-sync-layout) set -- "$bk_sync" push -q "$work/layout" "$to" ;;
    skopeo) set -- "$bin/skopeo" copy -q --dest-tls-verify=false "oci:$work/layout" "docker://$to" ;;
    crane) set -- "$bin/crane" push --insecure "$work/layout" "$to" ;;
    buildctl)
      set -- "$bin/buildctl" --addr "$BK_SYNC_TEST_BUILDKITD" build --progress plain --frontend dockerfile.v0 \
        --opt platform=linux/arm64 --local "context=$work/context" --local "dockerfile=$work/context" \
        --output "type=image,name=$to,push=true,oci-mediatypes=true" ;;
    buildx) set -- "$bin/docker-buildx" build --progress plain "${build[@]}" ;;
  esac
  # Nobody pays for what the one before has left to be written.
  sync
  if quiet env HOME="$home" DOCKER_HOST="$BK_SYNC_TEST_DOCKERD_HOST" DOCKER_CONFIG="$work/docker" \
    /usr/bin/time --format '%e %M' --output "$work/time" "$@"; then
    read -r seconds kib <"$work/time"
    printf '%s\t%s\t%s\t%s\t%s\n' "${mark%%-*}" "$way" "$tool" "$seconds" "$kib" >>"$runs"
  else
    # Through a proxy that cuts, some give up. We may not.
    [ "$way" = cutting ] && [ "${tool%%-*}" != bk ] || die "$tool failed ($way)"
    printf '%s\t%s\t%s\t%s\t%s\n' "${mark%%-*}" "$way" "$tool" failed 0 >>"$runs"
  fi
  rm -rf "$home"
}

# The proxy of the tests, as a process of its own that ends with its stdin.
through_proxies() {
  local way image round at
  "${CARGO:-cargo}" test --quiet --locked --no-run --bench push
  for way in late cutting; do
    coproc proxy { exec "${CARGO:-cargo}" test --quiet --locked --bench push -- proxy "$way" "$BK_SYNC_TEST_REGISTRY" 2>"$work/proxy.log"; }
    read -r at <&"${proxy[0]}" || die "the proxy did not start: $(cat "$work/proxy.log")"
    say "through a proxy that is $way"
    for image in $images; do
      for round in $(seq "$rounds"); do
        prepare "$image" "$way-$round"
        in_turn "$round" "$at" "$way"
      done
    done
    exec {proxy[1]}>&-
    wait "$proxy_PID" 2>/dev/null || true
  done
}

report() {
  local worst
  {
    printf '\n| image | way | tool | median s | peak MiB | gave up |\n|---|---|---|---:|---:|---:|\n'
    sort -t "$(printf '\t')" -k1,3 -s "$runs" | awk -F'\t' '
      function out(  i, j, t) {
        if (key == "") return
        if (n == 0) { printf "| %s | | | %d of %d |\n", key, lost, lost; return }
        for (i = 2; i <= n; i++) { t = s[i]; for (j = i - 1; j > 0 && s[j] > t; j--) s[j + 1] = s[j]; s[j + 1] = t }
        printf "| %s | %.2f | %.0f | %d of %d |\n", key, s[int((n + 1) / 2)], peak / 1024, lost, n + lost
      }
      { k = $1 " | " $2 " | " $3
        if (k != key) { out(); key = k; n = 0; peak = 0; lost = 0 }
        if ($4 == "failed") { lost++ } else { s[++n] = $4 + 0; if ($5 > peak) peak = $5 } }
      END { out() }'
  } | tee "$work/report.md"
  worst=$(awk -F'\t' '$3 ~ /^bk-sync/ && $5 > worst { worst = $5 } END { print worst + 0 }' "$runs")
  [ "$worst" -lt "$limit_kib" ] || die "bk-sync held $worst KiB, more than $limit_kib"
  say "bk-sync held $worst KiB at most"
}

main
