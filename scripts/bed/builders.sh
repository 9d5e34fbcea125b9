# shellcheck shell=bash
# The builders: two Dockers (containerd store, graphdrivers), each with a containerd and a bridge of its own,
# a standalone buildkitd on a Unix socket and on TCP with mTLS, and a container that holds `buildctl`.

readonly BED_TLS=$BED_STATE/tls
readonly BED_CONTAINER=bk-sync-testbed-buildctl

containerd_start() { start_containerd containerd; }
containerd_ready() { containerd_answers containerd; }
containerd_graphdriver_start() { start_containerd containerd-graphdriver; }
containerd_graphdriver_ready() { containerd_answers containerd-graphdriver; }

start_containerd() {
  local name=$1 config=$BED_RUN/$1.toml
  mkdir -p "$BED_STATE/$name" "$BED_RUN/$name"
  cat >"$config" <<TOML
version = 3
root = "$BED_STATE/$name"
state = "$BED_RUN/$name"
disabled_plugins = ["io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri"]
[grpc]
address = "$BED_RUN/$name.sock"
[ttrpc]
address = "$BED_RUN/$name.sock.ttrpc"
TOML
  start_daemon "$name" env PATH="$(daemon_path)" "$BED_ROOT/amd64/usr/bin/containerd" --config "$config" --log-level warn
}

containerd_answers() { daemon_pid "$1" && "$BED_ROOT/amd64/usr/bin/ctr" --address "$BED_RUN/$1.sock" version; }

# daemon_path: where the daemons find runc, shims and proxies: the unpacked packages first.
daemon_path() { echo "$BED_ROOT/amd64/usr/bin:$BED_ROOT/amd64/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"; }

dockerd_start() { start_dockerd dockerd containerd true "${BED_BRIDGES[@]:0:2}"; }
dockerd_ready() { dockerd_answers dockerd; }
dockerd_env() {
  echo "BK_SYNC_TEST_DOCKERD=docker://$BED_RUN/dockerd.sock"
  echo "BK_SYNC_TEST_DOCKERD_HOST=unix://$BED_RUN/dockerd.sock"
}
dockerd_graphdriver_start() { start_dockerd dockerd-graphdriver containerd-graphdriver false "${BED_BRIDGES[@]:2:2}"; }
dockerd_graphdriver_ready() { dockerd_answers dockerd-graphdriver; }
dockerd_graphdriver_env() {
  echo "BK_SYNC_TEST_DOCKERD_GRAPHDRIVER=docker://$BED_RUN/dockerd-graphdriver.sock"
  echo "BK_SYNC_TEST_DOCKERD_GRAPHDRIVER_HOST=unix://$BED_RUN/dockerd-graphdriver.sock"
}

# What a builder may keep is said in full, here and for buildkitd: their own rules keep a fifth of the disk free, and on
# one that is fuller than that they drop what a test has just built, and hold up who asks for the cache meanwhile.
# start_dockerd NAME CONTAINERD CONTAINERD_STORE BRIDGE ADDRESS: without packet filter rules, because the chains
# of two Dockers have the same names and an existing Docker's would be flushed.
start_dockerd() {
  local name=$1 containerd=$2 store=$3 bridge=$4 address=$5 config=$BED_RUN/$1.json
  if ! ip link show "$bridge" >/dev/null 2>&1; then
    ip link add name "$bridge" type bridge && ip addr add "$address" dev "$bridge" && ip link set "$bridge" up || return 1
    touch "$BED_RUN/$name.bridge.$bridge"
  fi
  cat >"$config" <<JSON
{
  "data-root": "$BED_STATE/$name",
  "exec-root": "$BED_RUN/$name",
  "pidfile": "$BED_RUN/$name.docker.pid",
  "hosts": ["unix://$BED_RUN/$name.sock"],
  "group": "root",
  "containerd": "$BED_RUN/$containerd.sock",
  "bridge": "$bridge",
  "iptables": false,
  "ip6tables": false,
  "ip-forward": false,
  "userland-proxy-path": "$BED_ROOT/amd64/usr/sbin/docker-proxy",
  "init-path": "$BED_ROOT/amd64/usr/bin/tini-static",
  "features": {"containerd-snapshotter": $store},
  "builder": {"gc": {"enabled": true, "policy": [{"all": true, "reservedSpace": "6GB", "maxUsedSpace": "12GB"}]}},
  "insecure-registries": ["127.0.0.0/8"]
}
JSON
  rm -f "$BED_RUN/$name.docker.pid"
  start_daemon "$name" env PATH="$(daemon_path)" "$BED_ROOT/amd64/usr/sbin/dockerd" --config-file "$config"
}

dockerd_answers() { daemon_pid "$1" && [ "$(curl -sS --max-time 5 --unix-socket "$BED_RUN/$1.sock" http://localhost/_ping)" = OK ]; }

# dockerd_stop NAME: the daemon, its containerd, the shims that still belong to it, its bridge.
dockerd_stop() {
  local name=$1 containerd=${1/dockerd/containerd} mark
  stop_daemon "$name"
  stop_daemon "$containerd"
  kill_shims "$BED_RUN/$containerd.sock"
  for mark in "$BED_RUN/$name.bridge".*; do
    [ -e "$mark" ] || continue
    ip link delete "${mark##*.}" 2>/dev/null || true
    rm -f "$mark"
  done
}

# kill_shims SOCKET: those that outlived the containerd at that address.
kill_shims() {
  local pid
  for pid in $(pgrep -x containerd-shim || true); do
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "-address $1 "; then kill -KILL "$pid" || true; fi
  done
}

buildkitd_start() {
  local config=$BED_RUN/buildkitd.toml
  make_certificates || return 1
  ensure_ssh_user || return 1
  mkdir -p "$BED_RUN/buildkit"
  cat >"$config" <<TOML
root = "$BED_STATE/buildkitd"
insecure-entitlements = ["network.host", "security.insecure"]
[grpc]
address = ["unix://$BED_RUN/buildkit/buildkitd.sock", "tcp://127.0.0.1:$BED_PORT_BUILDKITD_TLS"]
gid = $(id -g "$BED_SSH_USER")
[grpc.tls]
cert = "$BED_TLS/server.pem"
key = "$BED_TLS/server.key"
ca = "$BED_TLS/ca.pem"
[history]
maxEntries = 1000
[worker.oci]
enabled = true
snapshotter = "overlayfs"
binary = "$BED_ROOT/amd64/usr/sbin/runc"
gc = true
[[worker.oci.gcpolicy]]
all = true
reservedSpace = "6GB"
maxUsedSpace = "12GB"
[worker.containerd]
enabled = false
[registry."127.0.0.1:$BED_PORT_REGISTRY"]
http = true
[registry."127.0.0.1:$BED_PORT_REGISTRY_TOKEN"]
http = true
[registry."127.0.0.1:$BED_PORT_REGISTRY_BASIC"]
http = true
TOML
  start_daemon buildkitd env PATH="$(daemon_path)" "$(readlink -f "$BED_BIN/buildkitd")" --config "$config"
}

buildkitd_ready() { daemon_pid buildkitd && "$BED_BIN/buildctl" --addr "unix://$BED_RUN/buildkit/buildkitd.sock" --timeout 5 debug workers; }

buildkitd_env() {
  echo "BK_SYNC_TEST_BUILDKITD=unix://$BED_RUN/buildkit/buildkitd.sock"
  echo "BK_SYNC_TEST_BUILDKITD_TLS=tcp://127.0.0.1:$BED_PORT_BUILDKITD_TLS"
  echo "BK_SYNC_TEST_TLS_CA=$BED_TLS/ca.pem"
  echo "BK_SYNC_TEST_TLS_CERT=$BED_TLS/client.pem"
  echo "BK_SYNC_TEST_TLS_KEY=$BED_TLS/client.key"
}

# make_certificates: an authority of the bed's own, the daemon's certificate and a client's.
make_certificates() {
  [ ! -e "$BED_TLS/.complete" ] || return 0
  mkdir -p "$BED_TLS"
  {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=bk-sync test bed authority" \
      -keyout "$BED_TLS/ca.key" -out "$BED_TLS/ca.pem" \
      && certificate server "subjectAltName=DNS:localhost,IP:127.0.0.1" serverAuth \
      && certificate client "subjectAltName=DNS:bk-sync-client" clientAuth
  } >"$BED_LOGS/openssl.log" 2>&1 || return 1
  touch "$BED_TLS/.complete"
}

certificate() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=bk-sync test bed $1" -keyout "$BED_TLS/$1.key" -out "$BED_TLS/$1.csr" \
    && openssl x509 -req -in "$BED_TLS/$1.csr" -CA "$BED_TLS/ca.pem" -CAkey "$BED_TLS/ca.key" -CAcreateserial -days 3650 \
      -extfile <(printf '%s\nextendedKeyUsage=%s\n' "$2" "$3") -out "$BED_TLS/$1.pem"
}

# The container for `docker-container://`: busybox and buildctl, with buildkitd's socket where buildctl looks.
buildctl_container_start() {
  local rootfs
  rootfs=$(mktemp -d "$BED_CACHE/container.XXXXXX")
  buildctl_rootfs "$rootfs" || return 1
  tar -C "$rootfs" -c . | bed_docker import -c 'ENV PATH=/usr/bin:/bin' - "$BED_CONTAINER:local" >"$BED_LOGS/buildctl-container.log" 2>&1 || return 1
  rm -rf "$rootfs"
  bed_docker rm --force "$BED_CONTAINER" >/dev/null 2>&1 || true
  bed_docker run --detach --init --name "$BED_CONTAINER" --network none --restart always \
    --volume "$BED_RUN/buildkit:/run/buildkit" "$BED_CONTAINER:local" busybox tail -f /dev/null >>"$BED_LOGS/buildctl-container.log" 2>&1
}
# buildctl_rootfs DIRECTORY: what is in a container that only leads to a buildkitd.
buildctl_rootfs() {
  mkdir -p "$1/bin" "$1/usr/bin" "$1/run" "$1/tmp" \
    && cp "$BED_ROOT/amd64/bin/busybox" "$1/bin/busybox" && ln -sf busybox "$1/bin/sh" && cp -L "$BED_BIN/buildctl" "$1/usr/bin/buildctl"
}
buildctl_container_ready() { bed_docker exec "$BED_CONTAINER" buildctl --timeout 5 debug workers; }
buildctl_container_stop() { [ ! -S "$BED_RUN/dockerd.sock" ] || bed_docker rm --force "$BED_CONTAINER" >/dev/null 2>&1 || true; }
buildctl_container_env() { echo "BK_SYNC_TEST_DOCKER_CONTAINER=docker-container://$BED_CONTAINER"; }

bed_docker() { DOCKER_HOST=unix://$BED_RUN/dockerd.sock DOCKER_CONFIG=$BED_RUN/docker-config "$BED_BIN/docker" "$@"; }
