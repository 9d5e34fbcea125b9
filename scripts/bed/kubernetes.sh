# shellcheck shell=bash
# The cluster's control plane: etcd, API server, controllers and scheduler, all real. It starts empty: what was in it
# goes when the bed is ended.

readonly BED_CLUSTER=$BED_STATE/kubernetes
readonly BED_PKI=$BED_CLUSTER/pki
readonly BED_KUBECONFIG=$BED_CLUSTER/admin.kubeconfig
readonly BED_AUDIT=$BED_LOGS/kube-apiserver-audit.log
# The node that runs containers, and its address: the gateway of its pods.
readonly BED_REAL_NODE=bed-real
readonly BED_POD_GATEWAY=$BED_POD_NETWORK.1

etcd_start() {
  start_daemon etcd "$(readlink -f "$BED_BIN/etcd")" --name bed --data-dir "$BED_STATE/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "http://127.0.0.1:$BED_PORT_ETCD" --advertise-client-urls "http://127.0.0.1:$BED_PORT_ETCD" \
    --listen-peer-urls "http://127.0.0.1:$BED_PORT_ETCD_PEER" --initial-advertise-peer-urls "http://127.0.0.1:$BED_PORT_ETCD_PEER" \
    --initial-cluster "bed=http://127.0.0.1:$BED_PORT_ETCD_PEER" --auto-compaction-retention 10m
}
etcd_ready() { daemon_pid etcd && answers_ok "http://127.0.0.1:$BED_PORT_ETCD/health"; }
etcd_stop() {
  stop_daemon etcd
  rm -rf "$BED_STATE/etcd"
}

# The audit log has one line for each request that is not the cluster's own: what a client asked for, countable.
kube_apiserver_start() {
  make_cluster_certificates || return 1
  cat >"$BED_CLUSTER/audit.yaml" <<'YAML'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  userGroups: ["system:nodes", "system:serviceaccounts:kube-system", "bk-sync-testbed:kwok"]
- level: None
  users: ["system:apiserver", "system:anonymous", "system:kube-controller-manager", "system:kube-scheduler"]
- level: Metadata
YAML
  start_daemon kube-apiserver "$(readlink -f "$BED_BIN/kube-apiserver")" --etcd-servers "http://127.0.0.1:$BED_PORT_ETCD" \
    --bind-address 127.0.0.1 --secure-port "$BED_PORT_KUBE_APISERVER" --advertise-address 127.0.0.1 --endpoint-reconciler-type none \
    --service-cluster-ip-range 10.213.96.0/24 --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged \
    --client-ca-file "$BED_PKI/ca.pem" --tls-cert-file "$BED_PKI/kube-apiserver.pem" --tls-private-key-file "$BED_PKI/kube-apiserver.key" \
    --kubelet-client-certificate "$BED_PKI/kubelet-client.pem" --kubelet-client-key "$BED_PKI/kubelet-client.key" \
    --kubelet-preferred-address-types InternalIP --cert-dir "$BED_CLUSTER" \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$BED_PKI/service-accounts.pub" \
    --service-account-signing-key-file "$BED_PKI/service-accounts.key" --profiling=false \
    --audit-policy-file "$BED_CLUSTER/audit.yaml" --audit-log-path "$BED_AUDIT" --audit-log-maxsize 200 --audit-log-maxbackup 1
}
kube_apiserver_ready() { daemon_pid kube-apiserver && answers_ok "https://127.0.0.1:$BED_PORT_KUBE_APISERVER/readyz" --cacert "$BED_PKI/ca.pem"; }
kube_apiserver_env() {
  echo "BK_SYNC_TEST_KUBECONFIG=$BED_KUBECONFIG"
  echo "BK_SYNC_TEST_KUBE_AUDIT_LOG=$BED_AUDIT"
}

kube_controller_manager_start() {
  start_daemon kube-controller-manager "$(readlink -f "$BED_BIN/kube-controller-manager")" --kubeconfig "$BED_CLUSTER/kube-controller-manager.kubeconfig" \
    --authentication-kubeconfig "$BED_CLUSTER/kube-controller-manager.kubeconfig" --authorization-kubeconfig "$BED_CLUSTER/kube-controller-manager.kubeconfig" \
    --authentication-skip-lookup --bind-address 127.0.0.1 --secure-port "$BED_PORT_KUBE_CONTROLLER_MANAGER" --cert-dir "$BED_CLUSTER" \
    --leader-elect=false --use-service-account-credentials --service-account-private-key-file "$BED_PKI/service-accounts.key" --root-ca-file "$BED_PKI/ca.pem" \
    --kube-api-qps 200 --kube-api-burst 400 --terminated-pod-gc-threshold 200 --profiling=false
}
kube_controller_manager_ready() { daemon_pid kube-controller-manager && answers_ok "https://127.0.0.1:$BED_PORT_KUBE_CONTROLLER_MANAGER/healthz" --insecure; }

kube_scheduler_start() {
  cat >"$BED_CLUSTER/scheduler.yaml" <<YAML
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
clientConnection: {kubeconfig: "$BED_CLUSTER/kube-scheduler.kubeconfig", qps: 200, burst: 400}
YAML
  start_daemon kube-scheduler "$(readlink -f "$BED_BIN/kube-scheduler")" --config "$BED_CLUSTER/scheduler.yaml" \
    --authentication-kubeconfig "$BED_CLUSTER/kube-scheduler.kubeconfig" --authorization-kubeconfig "$BED_CLUSTER/kube-scheduler.kubeconfig" \
    --authentication-skip-lookup --bind-address 127.0.0.1 --secure-port "$BED_PORT_KUBE_SCHEDULER" --cert-dir "$BED_CLUSTER"
}
kube_scheduler_ready() { daemon_pid kube-scheduler && answers_ok "https://127.0.0.1:$BED_PORT_KUBE_SCHEDULER/healthz" --insecure; }

answers_ok() {
  local url=$1
  shift
  curl -fsS --max-time 5 -o /dev/null "$@" "$url"
}

bed_kubectl() { KUBECONFIG=$BED_KUBECONFIG "$BED_BIN/kubectl" --request-timeout=20s --cache-dir="$BED_CLUSTER/cache" "$@"; }

# make_cluster_certificates: an authority, a certificate for each program, a key for service accounts, kubeconfigs.
make_cluster_certificates() {
  [ ! -e "$BED_PKI/.complete" ] || return 0
  local name
  rm -rf "$BED_PKI"
  mkdir -p "$BED_PKI"
  {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=bk-sync test bed cluster" \
      -keyout "$BED_PKI/ca.key" -out "$BED_PKI/ca.pem" \
      && openssl ecparam -name prime256v1 -genkey -noout -out "$BED_PKI/service-accounts.key" \
      && openssl ec -in "$BED_PKI/service-accounts.key" -pubout -out "$BED_PKI/service-accounts.pub" \
      && cluster_certificate kube-apiserver "/CN=kube-apiserver" serverAuth "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.213.96.1" \
      && cluster_certificate kubelet-client "/O=system:masters/CN=kube-apiserver-kubelet-client" clientAuth \
      && cluster_certificate admin "/O=system:masters/CN=bk-sync-testbed-admin" clientAuth \
      && cluster_certificate kwok "/O=system:masters/O=bk-sync-testbed:kwok/CN=bk-sync-testbed-kwok" clientAuth,serverAuth "IP:127.0.0.1" \
      && cluster_certificate kube-controller-manager "/CN=system:kube-controller-manager" clientAuth \
      && cluster_certificate kube-scheduler "/CN=system:kube-scheduler" clientAuth \
      && cluster_certificate kubelet "/O=system:nodes/CN=system:node:$BED_REAL_NODE" clientAuth,serverAuth "DNS:$BED_REAL_NODE,IP:$BED_POD_GATEWAY"
  } >"$BED_LOGS/openssl.log" 2>&1 || return 1
  for name in admin kwok kube-controller-manager kube-scheduler kubelet; do make_kubeconfig "$name" || return 1; done
  touch "$BED_PKI/.complete"
}

# cluster_certificate NAME SUBJECT USAGE ALTERNATIVE_NAMES
cluster_certificate() {
  local name=$1 extensions="extendedKeyUsage=$3"
  [ -z "${4:-}" ] || extensions+=$'\n'"subjectAltName=$4"
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$BED_PKI/$name.key" -out "$BED_PKI/$name.csr" \
    && openssl x509 -req -in "$BED_PKI/$name.csr" -CA "$BED_PKI/ca.pem" -CAkey "$BED_PKI/ca.key" -CAcreateserial -days 3650 \
      -extfile <(echo "$extensions") -out "$BED_PKI/$name.pem"
}

# make_kubeconfig NAME: with everything in it, so that it can be copied.
make_kubeconfig() {
  (umask 077 && cat >"$BED_CLUSTER/$1.kubeconfig") <<YAML
apiVersion: v1
kind: Config
current-context: bed
contexts:
- {name: bed, context: {cluster: bed, user: $1}}
clusters:
- name: bed
  cluster:
    server: https://127.0.0.1:$BED_PORT_KUBE_APISERVER
    certificate-authority-data: $(base64 -w0 <"$BED_PKI/ca.pem")
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w0 <"$BED_PKI/$1.pem")
    client-key-data: $(base64 -w0 <"$BED_PKI/$1.key")
YAML
}
