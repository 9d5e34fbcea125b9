#!/usr/bin/env bash
# bk-sync beside `docker buildx build` and `buildctl`: same daemon, same registry, same run, turns taken.
#
#   bench/run.sh [--rounds N] [--trees "demo workspace tree"] [--no-memory] [--no-services]
#
# For each tree and daemon: warm (nothing changed), change (one line of one file), cold (an argument never seen before,
# so that every step runs). Wall time is the median of the rounds (three; one where a run of the 50,000 files sends them
# through gzip); read the ratios, not the seconds. Peak memory is the largest of the rounds. Bytes sent are those that the
# tool writes to the daemon's socket: every run goes through a relay that counts them, ours and the peer's alike. Requests
# are lines of the registry's access log, whoever pushed. Then the two memory checks, which fail the bench: 50,000 files,
# and one file of 2 GiB, within 64 MiB. `--no-services` is for a test bed that runs already.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=bench/common.sh
. bench/common.sh
rounds=3
trees="demo workspace tree"
memory=yes
services=yes
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2; shift 2 ;;
    --trees) trees=$2; shift 2 ;;
    --no-memory) memory=no; shift ;;
    --no-services) services=no; shift ;;
    *) usage ;;
  esac
done

main() {
  set_up bench "$services"
  # Its length is what counts: the unix socket of the byte counter must fit a socket address.
  relay=$(mktemp -u /tmp/bk-sync-bench.XXXXXX)
  trap 'rm -f "$relay"' EXIT
  head -c 32 /dev/urandom | sha256sum >"$work/key"
  local tree daemon
  for tree in $trees; do
    prepare "$tree"
    for daemon in dockerd buildkitd; do compare "$tree" "$daemon"; done
  done
  report
  [ "$memory" = no ] || check_memory
}

prepare() {
  case $1 in
    demo)
      rm -rf "$work/demo"
      cp -r tests/fixtures/demo "$work/demo"
      changed=site/harbour.txt argument=VERSION
      ;;
    workspace | tree) tests/fixtures/generate.sh "$1" "$work/$1"; argument=UNIQUE ;;
    *) die "no tree named $1" ;;
  esac
  case $1 in
    workspace) changed=packages/sdk/src/lib/part-001.ts ;;
    tree) changed=src/area-07/module-03/file-42.ts ;;
  esac
}

# compare TREE DAEMON: each case, with our tool and the daemon's own in turns.
compare() {
  local tree=$1 daemon=$2 tools case round tool n value
  case $daemon in dockerd) tools="bk-sync buildx" ;; buildkitd) tools="bk-sync buildctl" ;; esac
  say "$tree on $daemon: first builds"
  for tool in $tools; do run "$tool" "$tree" "$daemon" first; done
  for case in warm change cold; do
    n=$rounds
    # A change of the big tree sends 200 MB through gzip, and a cold run does so twice: the ratio shows in one.
    [ "$tree" != tree ] || [ "$case" = warm ] || n=1
    say "$tree on $daemon: $case, rounds: $n"
    for round in $(seq "$n"); do
      # Who goes first alternates, because the second one finds the daemon and the disk awake.
      if [ $((round % 2)) = 0 ]; then set -- "${tools#* }" "${tools% *}"; else set -- "${tools% *}" "${tools#* }"; fi
      for tool in "$@"; do
        vary "$tree" "$case" "$tool-$round"
        measured "$tool" "$tree" "$daemon" "$case"
      done
    done
  done
}

# vary TREE CASE MARK: what the case changes before a run, never the same twice.
vary() {
  value=warm
  case $2 in
    change) printf '// %s %s %s\n' "$3" "$EPOCHREALTIME" "$RANDOM" >>"$work/$1/$changed" ;;
    cold) value=$3-$EPOCHREALTIME ;;
  esac
}

measured() {
  local began ended kib requests
  requests=$(asked "$1" "$2" "$3")
  began=${EPOCHREALTIME/./}
  run "$@" relay /usr/bin/time -o "$work/time" -f %M
  ended=${EPOCHREALTIME/./}
  kib=$(tail -n 1 "$work/time")
  requests=$(($(asked "$1" "$2" "$3") - requests))
  printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$2" "$3" "$4" "$1" "$((ended - began))" "$kib" "$(cut -d' ' -f1 "$work/bytes")" "$requests" >>"$runs"
}

# asked TOOL TREE DAEMON: how many requests the registry has seen for this image so far.
asked() { grep -cF "/v2/bench/$2-$1-$3/" "$BK_SYNC_TEST_REGISTRY_LOG" || true; }

# run TOOL TREE DAEMON CASE [relay | WRAPPER…]: build and push $work/TREE, with $argument set to $value.
run() {
  local tool=$1 tree=$2 daemon=$3 case=$4 socket command value=${value:-warm} name
  shift 4
  name=$BK_SYNC_TEST_REGISTRY/bench/$tree-$tool-$daemon:latest
  case $daemon in
    dockerd) socket=${BK_SYNC_TEST_DOCKERD#docker://} ;;
    buildkitd) socket=${BK_SYNC_TEST_BUILDKITD#unix://} ;;
  esac
  if [ "${1:-}" = relay ]; then
    shift
    set -- "$BK_SYNC_TEST_BIN/bytecount" "$work/bytes" "$relay" "$socket" "$@"
    socket=$relay
  fi
  local common=(--platform linux/arm64 --build-arg "BASE=$BK_SYNC_TEST_BASE_ARM64" --build-arg "$argument=$value"
    --secret "id=signing_key,src=$work/key" --progress plain)
  case $tool in
    bk-sync)
      local scheme=unix
      [ "$daemon" != dockerd ] || scheme=docker
      command=("$bk_sync" build --builder "$scheme://$socket" --provenance=false "${common[@]}" --tag "$name" --push "$work/$tree")
      ;;
    buildx) command=(env "DOCKER_HOST=unix://$socket" "DOCKER_CONFIG=$work/docker" "$BK_SYNC_TEST_BIN/docker-buildx" build --provenance=false "${common[@]}" --tag "$name" --push "$work/$tree") ;;
    buildctl)
      command=("$BK_SYNC_TEST_BIN/buildctl" --addr "unix://$socket" build --frontend dockerfile.v0 --local "context=$work/$tree" --local "dockerfile=$work/$tree"
        --opt platform=linux/arm64 --opt "build-arg:BASE=$BK_SYNC_TEST_BASE_ARM64" --opt "build-arg:$argument=$value"
        --secret "id=signing_key,src=$work/key" --progress plain --output "type=image,name=$name,push=true")
      ;;
  esac
  quiet "$@" "${command[@]}" || die "$tool failed on $daemon ($tree, $case)"
}

report() {
  {
    echo
    echo "| tree | daemon | case | bk-sync | peer | ratio | memory | peer's | sent | peer's | requests | peer's |"
    echo "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    awk -F'\t' '
      function median(list,    n, part, i, j, t) {
        n = split(list, part, " ")
        for (i = 2; i <= n; i++) for (j = i; j > 1 && part[j - 1] + 0 > part[j] + 0; j--) { t = part[j]; part[j] = part[j - 1]; part[j - 1] = t }
        return (n % 2) ? part[(n + 1) / 2] : (part[n / 2] + part[n / 2 + 1]) / 2
      }
      function bytes(b) { return b >= 1048576 ? sprintf("%.1f MiB", b / 1048576) : sprintf("%.1f KiB", b / 1024) }
      {
        key = $1 FS $2 FS $3; if (!(key in seen)) { seen[key] = 1; order[++keys] = key }
        who = ($4 == "bk-sync") ? "us" : "peer"
        if (who == "peer") name[key] = $4
        wall[key, who] = wall[key, who] " " $5; if ($6 + 0 > rss[key, who] + 0) rss[key, who] = $6
        sent[key, who] = sent[key, who] " " $7; requests[key, who] = requests[key, who] " " $8
      }
      END {
        for (k = 1; k <= keys; k++) {
          key = order[k]; split(key, part, FS); us = median(wall[key, "us"]); peer = median(wall[key, "peer"])
          printf "| %s | %s | %s | %.3f s | %s %.3f s | %.2f | %.1f MiB | %.1f MiB | %s | %s | %d | %d |\n", part[1], part[2], part[3], us / 1e6, name[key], peer / 1e6, us / peer,
            rss[key, "us"] / 1024, rss[key, "peer"] / 1024, bytes(median(sent[key, "us"])), bytes(median(sent[key, "peer"])),
            median(requests[key, "us"]), median(requests[key, "peer"])
        }
      }' "$runs"
    echo
    echo "Ratios are bk-sync's wall time over the peer's; below 1 is faster. Single runs: ${runs#"$PWD/"}"
  } | tee "$work/report.md"
}

# check_memory: what one process may hold while it sends a big context.
check_memory() {
  local failed=no
  tests/fixtures/generate.sh tree "$work/tree"
  mkdir -p "$work/one"
  printf 'FROM scratch\nCOPY big /big\n' >"$work/one/Dockerfile"
  truncate -s 2G "$work/one/big"
  # A new head each time, so that the file is sent again.
  echo "$EPOCHREALTIME $RANDOM" | dd of="$work/one/big" conv=notrunc status=none
  echo "$EPOCHREALTIME" >>"$work/tree/src/area-00/module-00/file-00.ts"
  say "memory: 50,000 files, and one file of 2 GiB"
  within_limit "50,000 files" "$work/tree" --build-arg "BASE=$BK_SYNC_TEST_BASE_ARM64" || failed=yes
  within_limit "one file of 2 GiB" "$work/one" || failed=yes
  [ "$failed" = no ] || die "a build held more than 64 MiB"
}

within_limit() {
  local what=$1 context=$2 kib
  shift 2
  quiet /usr/bin/time -o "$work/time" -f %M "$bk_sync" build --builder "$BK_SYNC_TEST_BUILDKITD" --platform linux/arm64 --progress plain \
    "$@" "$context" || die "bk-sync failed on $what"
  kib=$(tail -n 1 "$work/time")
  printf 'memory: %s: peak %d.%d MiB of 64 MiB\n' "$what" $((kib / 1024)) $((kib % 1024 * 10 / 1024))
  [ "$kib" -le "$limit_kib" ]
}

main "$@"
