#!/usr/bin/env bash
# Checks the promises of scripts/services.sh on a second bed of its own, beside the one that tests use: it starts,
# is idempotent, mends what died, takes two runs at once, ends exactly what it started, and leaves Docker alone.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export BK_SYNC_TESTBED_INSTANCE=check
run=/run/bk-sync-testbed-check
state=/var/lib/bk-sync-testbed-check
log=$(mktemp)
trap 'scripts/services.sh forget >/dev/null 2>&1 || true; rm -f "$log"' EXIT

step() { printf 'services-check: %s\n' "$*" >&2; }
die() {
  printf 'services-check: error: %s\n' "$*" >&2
  cat "$log" >&2
  exit 1
}
services() { scripts/services.sh "$@" >>"$log" 2>&1 || die "\`services.sh $*\` failed"; }
pids() { cat "$run"/*.pid | sort; }
# What another Docker would notice: its socket, its bridge, the packet filter, forwarding.
surroundings() {
  stat -c '%n %i %Y' /var/run/docker.sock 2>/dev/null || echo "no docker.sock"
  ip -oneline link show docker0 2>/dev/null || echo "no docker0"
  iptables-save 2>/dev/null | grep -v '^#' || echo "no iptables"
  cat /proc/sys/net/ipv4/ip_forward
  cat /run/bk-sync-testbed/*.pid 2>/dev/null || echo "no other bed"
}

services forget
before=$(surroundings)

step "it starts from nothing"
services all
for name in BUILDKITD BUILDKITD_TLS DOCKERD DOCKERD_GRAPHDRIVER REGISTRY REGISTRY_TOKEN REGISTRY_BASIC BASE_ARM64 DOCKER_CONTAINER PODMAN_CONTAINER SSH REGISTRY_SECOND KUBECONFIG REAL_NODE KUBE_POD; do
  grep -q "^BK_SYNC_TEST_$name=." target/services-check.env || die "BK_SYNC_TEST_$name is not in target/services-check.env"
done

step "a second run starts nothing"
first=$(pids)
services all
[ "$(pids)" = "$first" ] || die "process ids changed"

step "what died comes back, and nothing else restarts"
read -r victim _ <"$run/registry-token.pid"
kill -KILL "$victim"
services all
[ "$(pids | comm -13 <(echo "$first") - | wc -l)" = 1 ] || die "more or less than one process was started anew"

step "two runs at once share one bed"
services down
scripts/services.sh demo >>"$log" 2>&1 &
services demo
wait $! || die "the other of two runs at once failed"
[ "$(pgrep -fc "^[^ ]*/dockerd --config-file $run/")" = 1 ] || die "there is not exactly one dockerd"

step "a stale pid file of a process that is not ours ends nobody"
sleep 300 &
bystander=$!
echo "$bystander 1" >"$run/registry-basic.pid"
services down
kill -0 "$bystander" || die "a process that the bed did not start was ended"
kill "$bystander"

step "nothing is left, and the surroundings are as before"
! pgrep -fl "$run|$state" >>"$log" || die "processes are left"
! grep -F "$state" /proc/mounts >>"$log" || die "mounts are left"
for bridge in bksync2 bksync3 bksync5; do ! ip link show "$bridge" >>"$log" 2>&1 || die "the bridge $bridge is left"; done
! ls -d /sys/fs/cgroup/*/bk-sync-testbed-check >>"$log" 2>&1 || die "control groups are left"
[ ! -e target/services-check.env ] || die "target/services-check.env is left"
[ "$(surroundings)" = "$before" ] || { diff <(echo "$before") <(surroundings) >>"$log" || true; die "the surroundings changed"; }
step "all held"
