# shellcheck shell=bash
# The cluster's one real node: kubelet, containerd and runc, with a bridge for its pods. It pulls from the bed's registries
# and runs arm64 images under emulation; but its containerd is amd64's, so of an index it looks for that: an arm64 image
# has to be a manifest of its own (`--provenance=false`), and an index without amd64 is "no match for platform".
# Only pods that ask for it come here: label and taint bk-sync.test/node=real.

readonly BED_NODE=$BED_STATE/node
readonly BED_NODE_RUN=$BED_RUN/node
readonly BED_NODE_SOCKET=$BED_NODE_RUN/containerd.sock
readonly BED_NODE_CGROUP=/bk-sync-testbed$BED_INSTANCE
readonly BED_PAUSE=base/pause

# The image that holds a pod's namespaces: busybox that sleeps, for both architectures.
pause_image_start() {
  local architecture entries=() image config
  for architecture in arm64 amd64; do
    image=$BED_NODE/pause-$architecture
    mkdir -p "$BED_NODE"
    cp "$BED_BASES/busybox-$architecture.tar.gz" "$image.tar.gz" || return 1
    config=$(sed 's|"Cmd":\["/bin/sh"\]|"Entrypoint":["/bin/busybox","sleep","2147483647"]|' "$BED_BASES/busybox-$architecture.config.json")
    [[ $config = *Entrypoint* ]] || return 1
    printf %s "$config" >"$image.config.json"
    sed "s|\"config\":{\([^}]*\)\"digest\":\"[^\"]*\",\"size\":[0-9]*|\"config\":{\1\"digest\":\"$(digest_of "$image.config.json")\",\"size\":$(stat -c %s "$image.config.json")|" \
      "$BED_BASES/busybox-$architecture.manifest.json" >"$image.manifest.json"
    push_image "$BED_PORT_REGISTRY" "$BED_PAUSE" "$architecture" "$image" || return 1
    entries+=("{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"$(digest_of "$image.manifest.json")\",\"size\":$(stat -c %s "$image.manifest.json"),\"platform\":{\"architecture\":\"$architecture\",\"os\":\"linux\"}}")
  done
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s,%s]}' "${entries[@]}" >"$BED_NODE/pause.json"
  push_manifest "$BED_PORT_REGISTRY" "$BED_PAUSE" multi image.index "$BED_NODE/pause.json"
}
pause_image_ready() { [ -e "$BED_NODE/pause.json" ] && has_manifest "$BED_PORT_REGISTRY" "$BED_PAUSE" "$(digest_of "$BED_NODE/pause.json")"; }

containerd_node_start() {
  local port certs=$BED_NODE_RUN/certs.d cni=$BED_NODE_RUN/cni config=$BED_NODE_RUN/containerd.toml
  mkdir -p "$BED_NODE_RUN/containerd" "$BED_NODE/containerd" "$cni"
  if ! ip link show "$BED_POD_BRIDGE" >/dev/null 2>&1; then
    ip link add name "$BED_POD_BRIDGE" type bridge && ip addr add "$BED_POD_GATEWAY/24" dev "$BED_POD_BRIDGE" && ip link set "$BED_POD_BRIDGE" up || return 1
    touch "$BED_NODE_RUN/bridge"
  fi
  for port in "$BED_PORT_REGISTRY" "$BED_PORT_REGISTRY_TOKEN" "$BED_PORT_REGISTRY_BASIC" "$BED_PORT_REGISTRY_SECOND"; do
    mkdir -p "$certs/127.0.0.1:$port"
    printf 'server = "http://127.0.0.1:%s"\n[host."http://127.0.0.1:%s"]\n  capabilities = ["pull", "resolve"]\n' "$port" "$port" >"$certs/127.0.0.1:$port/hosts.toml"
  done
  # The bridge is the bed's own and has its address: the plugin would turn on forwarding for the whole machine.
  cat >"$cni/10-bed.conflist" <<JSON
{
  "cniVersion": "1.0.0",
  "name": "bed",
  "plugins": [
    {"type": "bridge", "bridge": "$BED_POD_BRIDGE", "isGateway": false, "ipMasq": false,
     "ipam": {"type": "host-local", "dataDir": "$BED_NODE_RUN/addresses", "routes": [{"dst": "0.0.0.0/0"}],
              "ranges": [[{"subnet": "$BED_POD_NETWORK.0/24", "gateway": "$BED_POD_GATEWAY"}]]}}
  ]
}
JSON
  cat >"$config" <<TOML
version = 3
root = "$BED_NODE/containerd"
state = "$BED_NODE_RUN/containerd"
[grpc]
address = "$BED_NODE_SOCKET"
[ttrpc]
address = "$BED_NODE_SOCKET.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
stream_server_address = "127.0.0.1"
stream_server_port = "$BED_PORT_KUBELET_STREAMING"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "127.0.0.1:$BED_PORT_REGISTRY/$BED_PAUSE:multi"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "$certs"
[plugins."io.containerd.cri.v1.runtime"]
netns_mounts_under_state_dir = true
enable_cdi = false
# Where this machine's root may not lower it, runc would fail at it.
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["$BED_TOOLS/usr/lib/cni"]
conf_dir = "$cni"
use_internal_loopback = true
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "$BED_ROOT/amd64/usr/sbin/runc"
SystemdCgroup = false
TOML
  start_daemon containerd-node env PATH="$(daemon_path)" "$BED_ROOT/amd64/usr/bin/containerd" --config "$config" --log-level warn
}
containerd_node_ready() { daemon_pid containerd-node && "$BED_ROOT/amd64/usr/bin/ctr" --address "$BED_NODE_SOCKET" version; }

kubelet_start() {
  local config=$BED_NODE/kubelet.yaml hierarchy
  mkdir -p "$BED_NODE/kubelet" "$BED_NODE/pod-logs"
  for hierarchy in /sys/fs/cgroup/*/; do
    [ ! -e "$hierarchy/cgroup.procs" ] || mkdir -p "$hierarchy$BED_NODE_CGROUP" || return 1
  done
  cat >"$config" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $BED_POD_GATEWAY
port: $BED_PORT_KUBELET
healthzBindAddress: 127.0.0.1
healthzPort: $BED_PORT_KUBELET_HEALTH
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$BED_PKI/ca.pem"}}
authorization: {mode: Webhook}
tlsCertFile: $BED_PKI/kubelet.pem
tlsPrivateKeyFile: $BED_PKI/kubelet.key
containerRuntimeEndpoint: unix://$BED_NODE_SOCKET
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: $BED_NODE_CGROUP
enforceNodeAllocatable: []
makeIPTablesUtilChains: false
localStorageCapacityIsolation: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 50Mi}
podLogsDir: $BED_NODE/pod-logs
volumePluginDir: $BED_NODE/volume-plugins
resolvConf: /etc/resolv.conf
clusterDNS: [10.213.96.10]
clusterDomain: cluster.local
serializeImagePulls: false
nodeStatusReportFrequency: 10s
maxPods: 60
registerWithTaints: [{key: bk-sync.test/node, value: real, effect: NoSchedule}]
YAML
  start_daemon kubelet env PATH="$(daemon_path)" "$(readlink -f "$BED_BIN/kubelet")" --config "$config" --kubeconfig "$BED_CLUSTER/kubelet.kubeconfig" \
    --root-dir "$BED_NODE/kubelet" --cert-dir "$BED_NODE/kubelet" --hostname-override "$BED_REAL_NODE" --node-ip "$BED_POD_GATEWAY" \
    --node-labels bk-sync.test/node=real
}
kubelet_ready() { daemon_pid kubelet && answers_ok "http://127.0.0.1:$BED_PORT_KUBELET_HEALTH/healthz"; }

# The kubelet says that the node is what it was compiled for, again and again. Under emulation the node runs arm64, so the
# API server puts that into whatever the kubelet writes.
real_node_start() {
  bed_kubectl apply -f - >"$BED_LOGS/real-node.log" 2>&1 <<YAML
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: bk-sync-testbed-real-node}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [nodes, nodes/status]}]
  matchConditions: [{name: is-the-real-node, expression: object.metadata.name == "$BED_REAL_NODE" && has(object.metadata.labels)}]
  failurePolicy: Fail
  reinvocationPolicy: Never
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: >-
        [JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("kubernetes.io/arch"), value: "arm64"},
         JSONPatch{op: "add", path: "/status/nodeInfo/architecture", value: "arm64"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: bk-sync-testbed-real-node}
spec: {policyName: bk-sync-testbed-real-node}
YAML
}
real_node_ready() {
  [ "$(real_node 'jsonpath={.metadata.labels.kubernetes\.io/arch} {.status.nodeInfo.architecture} {.status.conditions[?(@.type=="Ready")].status}')" = "arm64 arm64 True" ]
}
real_node_env() { echo "BK_SYNC_TEST_REAL_NODE=$BED_REAL_NODE"; }
real_node() { bed_kubectl get node "$BED_REAL_NODE" -o "$1"; }

# node_stop: its pods first, while there is a kubelet that knows how, then whatever is left of them.
node_stop() {
  local hierarchy pid
  if quietly kubelet_ready && quietly kube_apiserver_ready; then
    quietly bed_kubectl delete pods --all-namespaces --field-selector "spec.nodeName=$BED_REAL_NODE" --grace-period 1 --timeout 20s || true
  fi
  stop_daemon kubelet
  find /sys/fs/cgroup/*"$BED_NODE_CGROUP" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u | while read -r pid; do kill -KILL "$pid" 2>/dev/null; done || true
  stop_daemon containerd-node
  kill_shims "$BED_NODE_SOCKET"
  for hierarchy in /sys/fs/cgroup/*"$BED_NODE_CGROUP"; do
    [ ! -d "$hierarchy" ] || find "$hierarchy" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  unmount_below "$BED_NODE_RUN" "$BED_NODE"
  if [ -e "$BED_NODE_RUN/bridge" ]; then ip link delete "$BED_POD_BRIDGE" 2>/dev/null || true; fi
  rm -rf "$BED_NODE_RUN" "$BED_NODE/kubelet" "$BED_NODE/pod-logs"
}

# A BuildKit in a pod of the real node, for `kube-pod://`: privileged, and on the host's network, where the registries are.
buildkit_pod_start() {
  local rootfs image=$BED_NODE/buildkit-amd64 library
  rootfs=$image
  rm -rf "$image"*
  make_rootfs amd64 "$rootfs" && mkdir -p "$rootfs"/{etc/buildkit,lib64,var/lib} && cp -L "$BED_BIN/buildkitd" "$BED_BIN/buildctl" "$BED_ROOT/amd64/usr/sbin/runc" "$rootfs/usr/bin/" || return 1
  # runc is linked to a few libraries of this machine's.
  for library in $(ldd "$BED_ROOT/amd64/usr/sbin/runc" | grep -o '/[^ ]*'); do
    mkdir -p "$rootfs${library%/*}" && cp -L "$library" "$rootfs$library" || return 1
  done
  printf '[registry."127.0.0.1:%s"]\nhttp = true\n' "$BED_PORT_REGISTRY" "$BED_PORT_REGISTRY_TOKEN" "$BED_PORT_REGISTRY_BASIC" "$BED_PORT_REGISTRY_SECOND" >"$rootfs/etc/buildkit/buildkitd.toml"
  make_image amd64 "$image" && push_image "$BED_PORT_REGISTRY" base/buildkit amd64 "$image" || return 1
  bed_kubectl apply -f - >"$BED_LOGS/buildkit-pod.log" 2>&1 <<YAML
apiVersion: v1
kind: Namespace
metadata: {name: bk-sync-testbed}
---
apiVersion: v1
kind: Pod
metadata: {name: buildkitd, namespace: bk-sync-testbed}
spec:
  hostNetwork: true
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  nodeSelector: {bk-sync.test/node: real}
  tolerations: [{key: bk-sync.test/node, value: real}]
  containers:
  - name: buildkitd
    image: 127.0.0.1:$BED_PORT_REGISTRY/base/buildkit@$(digest_of "$image.manifest.json")
    command: [/usr/bin/buildkitd]
    securityContext: {privileged: true}
    volumeMounts: [{name: state, mountPath: /var/lib/buildkit}]
  volumes: [{name: state, emptyDir: {}}]
YAML
}
buildkit_pod_ready() { bed_kubectl exec --namespace bk-sync-testbed buildkitd -- buildctl --timeout 5 debug workers; }
buildkit_pod_env() { echo "BK_SYNC_TEST_KUBE_POD=kube-pod://buildkitd?namespace=bk-sync-testbed"; }
