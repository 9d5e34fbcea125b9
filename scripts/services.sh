#!/usr/bin/env bash
# The test bed: real builders, registries and peers on this machine, for `make demo`, the tests and the benches.
#
#   services.sh all     everything (needs Go, or fetches Debian's)       = make services
#   services.sh demo    Docker, the open registry, arm64 emulation and the base images; no Go
#   services.sh status  what runs
#   services.sh stop PART, kill PART, start PART, restart PART      one part of it, for tests of what happens then
#   services.sh down    end exactly what was started                     = make services-down
#   services.sh forget  down, and forget the data too
#   services.sh purge   forget, and remove what was fetched and built as well
#
# It takes root on Debian (amd64). All state is outside the checkout, so that several checkouts share
# one running bed: /var/cache/bk-sync-testbed (made once), /var/lib/bk-sync-testbed (data, logs),
# /run/bk-sync-testbed (sockets, pid files). Daemons come from Debian packages that are unpacked
# there and never installed: an existing Docker is neither replaced, started nor spoken to.
# The addresses of what runs are written to target/services.env of this checkout.
set -euo pipefail
umask 022

BED_CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly BED_CHECKOUT
# shellcheck source=versions.env
. "$BED_CHECKOUT/scripts/versions.env"
for file in common packages builders registries images inngest podman ssh git kubernetes kwok node; do
  # shellcheck source=/dev/null
  . "$BED_CHECKOUT/scripts/bed/$file.sh"
done

readonly BED_ENV=$BED_CHECKOUT/target/services$BED_INSTANCE.env
demo_parts="containerd dockerd registry base_images"
all_parts="$demo_parts containerd_graphdriver dockerd_graphdriver token_server registry_token registry_basic private_bases base_debian base_node buildkitd buildctl_container podman ssh git registry_second etcd kube_apiserver kube_controller_manager kube_scheduler kwok kwok_nodes pause_image containerd_node kubelet real_node buildkit_pod"

main() {
  local mode=${1:-all}
  case $mode in
    demo | all | down | forget | purge | status) ;;
    stop | kill | start | restart) [[ " $all_parts " = *" ${2:-} "* ]] || die "\`$mode\` needs one of these parts: $all_parts" ;;
    *) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  esac
  if [ "$mode" = status ]; then status; return; fi
  [ "$(id -u)" = 0 ] || die "the test bed needs root: it mounts, makes bridges and runs daemons"
  mkdir -p "$BED_CACHE" "$BED_STATE" "$BED_RUN" "$BED_LOGS"
  lock
  case $mode in
    down) down ;;
    forget) down; forget ;;
    purge) down; forget; rm -rf "$BED_CACHE" ;;
    stop) stop_part "$2" ;;
    kill) kill -KILL "$(daemon_pid "${2//_/-}")" || die "$2 does not run" ;;
    start) quietly "${2}_ready" || bring_up "$2" ;;
    restart) stop_part "$2"; bring_up "$2" ;;
    demo | all) up "$mode" ;;
  esac
}

stop_part() { stop_daemon "${1//_/-}"; }

up() {
  local mode=$1 part began=$SECONDS started=0 parts
  [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || die "the test bed needs Debian on amd64"
  ensure_commands
  ensure_packages
  if [ "$mode" = all ]; then ensure_go_tools; ensure_tool_packages; ensure_cluster_tools; parts=$all_parts; else parts=$demo_parts; fi
  ensure_emulation
  for part in $parts; do
    if quietly "${part}_ready"; then continue; fi
    bring_up "$part"
    started=$((started + 1))
  done
  write_env
  say "ready: $(wc -w <<<"$parts") parts, $started started now, in $((SECONDS - began)) s; addresses in ${BED_ENV#"$BED_CHECKOUT/"}"
}

down() {
  local part
  say "ending what was started"
  node_stop
  for part in kwok kube-scheduler kube-controller-manager kube-apiserver; do stop_daemon "$part"; done
  etcd_stop
  stop_daemon registry-second
  ssh_stop
  stop_daemon git
  buildctl_container_stop
  podman_stop
  stop_daemon buildkitd
  stop_daemon registry
  stop_daemon registry-token
  stop_daemon registry-basic
  stop_daemon token-server
  dockerd_stop dockerd
  dockerd_stop dockerd-graphdriver
  remove_emulation
  rm -f "$BED_ENV"
}

forget() {
  unmount_below "$BED_STATE" "$BED_RUN"
  rm -rf "$BED_STATE" "$BED_RUN"
}

status() {
  local part
  for part in $all_parts; do
    case $part in base_images | private_bases | base_debian | base_node | pause_image | kwok_nodes) continue ;; esac
    if quietly "${part}_ready"; then printf '%-24s runs\n' "$part"; else printf '%-24s does not answer\n' "$part"; fi
  done
}

# write_env writes the addresses of every part that answers, also of those that another run started.
write_env() {
  local file=$BED_ENV part
  mkdir -p "$BED_CHECKOUT/target"
  {
    echo "# Written by scripts/services.sh: addresses of the test bed, as shell assignments."
    echo "BK_SYNC_TEST_BIN=$BED_BIN"
    for part in $all_parts; do
      if [ "$(type -t "${part}_env")" = function ] && quietly "${part}_ready"; then "${part}_env"; fi
    done
  } >"$file.new"
  mv "$file.new" "$file"
}

main "$@"
