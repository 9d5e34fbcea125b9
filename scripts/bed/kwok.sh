# shellcheck shell=bash
# The cluster's simulated nodes: two of arm64, one of amd64, with kwok as their kubelet. A pod there runs and is ready at
# once, unless its annotations say otherwise:
#
#   bk-sync.test/fail           how it fails, one of the kinds below
#   bk-sync.test/fail-image     … only where one of its images contains this text (a digest); else it runs
#   bk-sync.test/container      which container fails (else the first with that image, else the first)
#   bk-sync.test/exit-code      what a crash exits with (1)
#   bk-sync.test/message        the message instead of the usual one; of a crash, its termination message
#   bk-sync.test/object, key    the name of what is missing ("settings"), and the key ("token")
#   bk-sync.test/image-id       the digest to report as the one that runs, instead of the one asked for
#   bk-sync.test/delay          how long it takes to start or to fail ("0s")
#   bk-sync.test/runs-for       how long a container runs before it crashes ("500ms")
#   bk-sync.test/recover-after  it runs and is ready after all, so long after its failure
#   bk-sync.test/stop-after     how long it takes to end when it is deleted ("0s")
#
# Kinds: ErrImagePull and ErrImagePull-{denied,unauthorized,forbidden,secret,platform,timeout,dns,tls,disk},
# ImagePullBackOff, InitErrImagePull, RateLimited, RegistryUnavailable, InvalidImageName, ErrImageNeverPull,
# CreateContainerConfigError (a secret) and CreateContainerConfigError-{configmap,key,configmap-key,root},
# CreateContainerError, RunContainerError, CrashLoopBackOff, InitFailing, ExecFormat, OOMKilled, Completed,
# LivenessFailing, StartupFailing, ReadinessFailing, ReadinessGate, FailedMount, FailedMount-secret,
# FailedAttachVolume, FailedCreatePodSandBox, Stuck, Evicted, NodeShutdown, OutOfcpu.
#
# Logs: of a container `exec-format`, `panicking` or `silent` what the name says, of any other a few lines that end in
# an error. Both of what runs and of what ran before.

readonly BED_KWOK=$BED_CLUSTER/kwok
readonly BED_KWOK_TEMPLATES=$BED_CHECKOUT/tests/bed/kwok

kwok_start() {
  mkdir -p "$BED_KWOK"
  {
    kwok_options
    kwok_node_stages
    kwok_pod_stages
    kwok_logs
  } >"$BED_KWOK/kwok.yaml"
  kwok_sources >"$BED_KWOK/sources"
  # What a kwok before this one held, or it would wait for these to expire.
  bed_kubectl delete leases --namespace kube-node-lease --all >"$BED_LOGS/kwok-leases.log" 2>&1 || return 1
  start_daemon kwok "$(readlink -f "$BED_BIN/kwok")" --config "$BED_KWOK/kwok.yaml" --kubeconfig "$BED_CLUSTER/kwok.kubeconfig" --v=WARN
}
# It runs, and what it runs is what these files say now.
kwok_ready() { daemon_pid kwok && [ "$(kwok_sources)" = "$(cat "$BED_KWOK/sources")" ] && answers_ok "https://127.0.0.1:$BED_PORT_KWOK/healthz" --insecure; }

kwok_sources() { cat "$BED_CHECKOUT/scripts/bed/kwok.sh" "$BED_KWOK_TEMPLATES"/*.tpl "$BED_KWOK_TEMPLATES/ends.yaml" | sha256sum; }

kwok_nodes_start() {
  local node
  for node in bed-arm64-1:arm64:a bed-arm64-2:arm64:b bed-amd64-1:amd64:a; do kwok_node "${node%%:*}" "$(cut -d: -f2 <<<"$node")" "${node##*:}"; done \
    | bed_kubectl apply -f - >"$BED_LOGS/kwok-nodes.log" 2>&1
}
kwok_nodes_ready() {
  [ "$(bed_kubectl get nodes -l bk-sync.test/node=kwok -o 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{" "}{end}')" = "True True True " ]
}

# kwok_node NAME ARCHITECTURE ZONE
kwok_node() {
  cat <<YAML
---
apiVersion: v1
kind: Node
metadata:
  name: $1
  labels: {bk-sync.test/node: kwok, kubernetes.io/hostname: $1, kubernetes.io/os: linux, kubernetes.io/arch: $2, topology.kubernetes.io/zone: $3}
status:
  allocatable: {cpu: "64", memory: 256Gi, ephemeral-storage: 1Ti, pods: "1000"}
  capacity: {cpu: "64", memory: 256Gi, ephemeral-storage: 1Ti, pods: "1000"}
YAML
}

kwok_options() {
  cat <<YAML
apiVersion: config.kwok.x-k8s.io/v1alpha1
kind: KwokConfiguration
metadata: {name: bed}
options:
  manageNodesWithLabelSelector: bk-sync.test/node=kwok
  manageAllNodes: false
  cidr: 10.244.0.0/16
  nodeIP: 127.0.0.1
  nodePort: $BED_PORT_KWOK
  serverAddress: 127.0.0.1:$BED_PORT_KWOK
  tlsCertFile: $BED_PKI/kwok.pem
  tlsPrivateKeyFile: $BED_PKI/kwok.key
  nodeLeaseDurationSeconds: 40
  nodeLeaseParallelism: 2
  nodePlayStageParallelism: 2
  podPlayStageParallelism: 8
  podsOnNodeSyncParallelism: 2
  enablePodsOnNodeSyncListPager: false
  enablePodsOnNodeSyncStreamWatch: false
  enableDebuggingHandlers: true
YAML
}

kwok_node_stages() {
  cat <<'YAML'
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: node-is-ready}
spec:
  resourceRef: {apiGroup: v1, kind: Node}
  selector:
    matchExpressions:
    - {key: '.status.conditions.[] | select( .type == "Ready" ) | .status', operator: NotIn, values: ["True"]}
  steps:
  - patch:
      subresource: status
      root: status
      template: |
        {{ $now := Now }}
        conditions:
        {{ range NodeConditions }}
        - {type: {{ .type }}, status: {{ .status | Quote }}, reason: {{ .reason }}, message: {{ .message | Quote }}, lastHeartbeatTime: {{ $now | Quote }}, lastTransitionTime: {{ $now | Quote }}}
        {{ end }}
        addresses:
        - {type: InternalIP, address: {{ NodeIP | Quote }}}
        - {type: Hostname, address: {{ NodeName | Quote }}}
        daemonEndpoints: {kubeletEndpoint: {Port: {{ NodePort }}}}
        nodeInfo:
          architecture: {{ index .metadata.labels "kubernetes.io/arch" }}
          operatingSystem: linux
          kubeletVersion: kwok-{{ Version }}
          containerRuntimeVersion: kwok-{{ Version }}
          kernelVersion: kwok
          osImage: kwok
          bootID: ""
          machineID: ""
          systemUUID: ""
          kubeProxyVersion: ""
        phase: Running
YAML
}

# What kind of failure a pod is to have, or `none`.
# shellcheck disable=SC2016
readonly BED_KWOK_KIND='(.metadata.annotations // {}) as $a | ($a["bk-sync.test/fail-image"] // "") as $i | if ($a["bk-sync.test/fail"] // "") != "" and ($i == "" or ([(.spec.initContainers // [])[], .spec.containers[]] | any(.image | contains($i)))) then $a["bk-sync.test/fail"] else "none" end'
# Where it has got to: `new`, what a container of it waits for, `down`, or `running`.
# shellcheck disable=SC2016
readonly BED_KWOK_TURN='.status as $s | if $s.phase == "Failed" or $s.phase == "Succeeded" then "over" elif ($s.containerStatuses // []) == [] then "new" else ([(($s.initContainerStatuses // [])[] | .state | if .terminated then (if .terminated.exitCode == 0 then empty else "down" end) elif .waiting then .waiting.reason else empty end), (($s.containerStatuses // [])[] | .state | if .terminated then "down" elif .waiting then .waiting.reason else empty end)] | map(select(. != "PodInitializing")) | .[0] // "running") end'
# How often its culprit was started again: 0, 1 or `more`.
readonly BED_KWOK_RESTARTS='[(.status.initContainerStatuses // [])[], (.status.containerStatuses // [])[]] | map(.restartCount) | max | if . == 0 then "0" elif . == 1 then "1" else "more" end'
readonly BED_KWOK_RECOVERS='.metadata.annotations["bk-sync.test/recover-after"]'

# shellcheck disable=SC2016
kwok_pod_stages() {
  local pulls waits stuck crashes unready ends
  pulls="ErrImagePull ErrImagePull-denied ErrImagePull-unauthorized ErrImagePull-forbidden ErrImagePull-secret ErrImagePull-platform ErrImagePull-timeout ErrImagePull-dns ErrImagePull-tls ErrImagePull-disk InitErrImagePull RateLimited RegistryUnavailable"
  waits="InvalidImageName ErrImageNeverPull CreateContainerConfigError CreateContainerConfigError-configmap CreateContainerConfigError-key CreateContainerConfigError-configmap-key CreateContainerConfigError-root CreateContainerError"
  stuck="FailedMount FailedMount-secret FailedAttachVolume FailedCreatePodSandBox"
  crashes="CrashLoopBackOff InitFailing ExecFormat OOMKilled Completed LivenessFailing StartupFailing"
  unready="ReadinessFailing ReadinessGate"
  ends="Evicted NodeShutdown OutOfcpu"

  stage runs running 0 delay "$BED_KWOK_KIND" "none" "$BED_KWOK_TURN" "new"

  stage pull-fails wait 0 delay "$BED_KWOK_KIND" "${pulls/ErrImagePull-secret /}" "$BED_KWOK_TURN" "new"
  event Normal '"Pulling"' 'printf "Pulling image %q" $image'
  event Warning '"Failed"' 'printf "Failed to pull image %q: %s" $image $message'
  event Warning '"Failed"' 'printf "Error: %s" $reason'
  stage pull-lacks-its-secret wait 0 delay "$BED_KWOK_KIND" "ErrImagePull-secret" "$BED_KWOK_TURN" "new"
  event Warning '"FailedToRetrieveImagePullSecret"' 'printf "Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed." $object'
  event Warning '"Failed"' 'printf "Failed to pull image %q: %s" $image $message'
  event Warning '"Failed"' '"Error: ErrImagePull"'
  stage pull-backs-off back-off 2000 "" "$BED_KWOK_KIND" "$pulls" "$BED_KWOK_TURN" "ErrImagePull RegistryUnavailable"
  event Normal '"BackOff"' 'printf "Back-off pulling image %q" $image'
  event Warning '"Failed"' '"Error: ImagePullBackOff"'
  stage pull-is-off back-off 0 delay "$BED_KWOK_KIND" "ImagePullBackOff" "$BED_KWOK_TURN" "new"
  event Normal '"BackOff"' 'printf "Back-off pulling image %q" $image'
  stage pull-fails-again wait 10000 "" "$BED_KWOK_KIND" "$pulls" "$BED_KWOK_TURN" "ImagePullBackOff" "$BED_KWOK_RECOVERS" ""
  event Warning '"Failed"' 'printf "Failed to pull image %q: %s" $image $message'

  stage waits wait 0 delay "$BED_KWOK_KIND" "$waits" "$BED_KWOK_TURN" "new"
  event Warning 'ternary "InspectFailed" (ternary "ErrImageNeverPull" "Failed" (eq $reason "ErrImageNeverPull")) (eq $reason "InvalidImageName")' \
    'ternary $message (printf "Error: %s" $message) (has $reason (list "InvalidImageName" "ErrImageNeverPull"))'
  stage is-stuck creating 0 delay "$BED_KWOK_KIND" "$stuck" "$BED_KWOK_TURN" "new"
  event Warning '$reason' '$message'
  stage is-silent creating 0 delay "$BED_KWOK_KIND" "Stuck" "$BED_KWOK_TURN" "new"

  stage cannot-start wait 0 delay "$BED_KWOK_KIND" "RunContainerError" "$BED_KWOK_TURN" "new"
  event Warning '"Failed"' 'printf "Error: %s" $message'
  stage cannot-start-again wait 10000 "" "$BED_KWOK_KIND" "RunContainerError" "$BED_KWOK_TURN" "CrashLoopBackOff" "$BED_KWOK_RECOVERS" ""
  stage start-backs-off crashed 1000 "" "$BED_KWOK_KIND" "RunContainerError" "$BED_KWOK_TURN" "RunContainerError"
  event Warning '"BackOff"' 'printf "Back-off restarting failed container %s in pod %s" $culprit $where'

  stage starts up 0 delay "$BED_KWOK_KIND" "$crashes ReadinessGate" "$BED_KWOK_TURN" "new"
  event Normal '"Started"' '"Container started"'
  stage crashes down 500 runs-for "$BED_KWOK_KIND" "CrashLoopBackOff InitFailing ExecFormat OOMKilled Completed" "$BED_KWOK_TURN" "running" \
    "if $BED_KWOK_RECOVERS then ($BED_KWOK_RESTARTS) else \"0\" end" "0 1"
  stage is-killed down 3000 runs-for "$BED_KWOK_KIND" "LivenessFailing StartupFailing" "$BED_KWOK_TURN" "running" \
    "if $BED_KWOK_RECOVERS then ($BED_KWOK_RESTARTS) else \"0\" end" "0 1"
  event Warning '"Unhealthy"' 'printf "%s probe failed: HTTP probe failed with statuscode: 500" (ternary "Startup" "Liveness" (eq $fail "StartupFailing"))'
  event Normal '"Killing"' 'printf "Container %s failed %s probe, will be restarted" $culprit (ternary "startup" "liveness" (eq $fail "StartupFailing"))'
  stage restarts up 200 "" "$BED_KWOK_KIND" "$crashes" "$BED_KWOK_TURN" "down" "$BED_KWOK_RESTARTS" "0"
  stage backs-off crashed 200 "" "$BED_KWOK_KIND" "$crashes" "$BED_KWOK_TURN" "down" "$BED_KWOK_RESTARTS" "1 more"
  event Warning '"BackOff"' 'printf "Back-off restarting failed container %s in pod %s" $culprit $where'
  stage restarts-again up 10000 "" "$BED_KWOK_KIND" "$crashes" "$BED_KWOK_TURN" "CrashLoopBackOff" "$BED_KWOK_RECOVERS" ""
  stage is-not-ready up 0 delay "$BED_KWOK_KIND" "ReadinessFailing" "$BED_KWOK_TURN" "new"
  event Normal '"Started"' '"Container started"'
  event Warning '"Unhealthy"' '"Readiness probe failed: HTTP probe failed with statuscode: 503"'

  stage recovers running 5000 recover-after "$BED_KWOK_KIND" "$pulls $waits $stuck $crashes ImagePullBackOff RunContainerError Stuck" \
    "$BED_KWOK_TURN" "ImagePullBackOff InvalidImageName ErrImageNeverPull CreateContainerConfigError CreateContainerError ContainerCreating CrashLoopBackOff" "$BED_KWOK_RECOVERS" "*"
  stage is-ready-at-last running 5000 recover-after "$BED_KWOK_KIND" "$unready" "$BED_KWOK_TURN" "running" \
    '.status.conditions[] | select(.type == "Ready") | .status' "False" "$BED_KWOK_RECOVERS" "*"

  stage is-over evicted 1000 delay "$BED_KWOK_KIND" "$ends" "$BED_KWOK_TURN" "new"
  event Warning '$reason' '$message'
  cat "$BED_KWOK_TEMPLATES/ends.yaml"
}

# stage NAME MODE MILLISECONDS ANNOTATION JQ VALUES…: a turn of a pod that is not being deleted, once every JQ gives one
# of its VALUES (`*`: anything; nothing: nothing). ANNOTATION, without its prefix, may set another delay.
stage() {
  local name=$1 mode=$2 delay=$3 annotation=$4
  shift 4
  cat <<YAML
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: $name}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  delay:
    durationMilliseconds: $delay
YAML
  [ -z "$annotation" ] || echo "    durationFrom: {expressionFrom: '.metadata.annotations[\"bk-sync.test/$annotation\"]'}"
  cat <<YAML
  selector:
    matchExpressions:
    - {key: .metadata.deletionTimestamp, operator: DoesNotExist}
YAML
  while [ $# -gt 0 ]; do
    echo "    - key: '$1'"
    case $2 in
      "*") echo "      operator: Exists" ;;
      "") echo "      operator: DoesNotExist" ;;
      *) printf '      operator: In\n      values: ["%s"]\n' "${2// /\", \"}" ;;
    esac
    shift 2
  done
  cat <<YAML
  steps:
  - patch:
      subresource: status
      root: status
      template: |
        {{- \$mode := "$mode" -}}
YAML
  sed 's/^./        &/' "$BED_KWOK_TEMPLATES/pod.tpl" "$BED_KWOK_TEMPLATES/pod-status.tpl"
  BED_KWOK_STAGE_MODE=$mode
}

# event TYPE REASON MESSAGE: one more step of the stage above, an event as the kubelet writes it. REASON and MESSAGE are
# expressions of the template.
event() {
  cat <<YAML
  - apply:
      template: |
        {{- \$mode := "$BED_KWOK_STAGE_MODE" -}}
YAML
  sed 's/^./        &/' "$BED_KWOK_TEMPLATES/pod.tpl"
  cat <<YAML
        {{- \$type := "$1" -}}
        {{- \$eventReason := $2 -}}
        {{- \$eventMessage := $3 -}}
YAML
  sed 's/^./        &/' "$BED_KWOK_TEMPLATES/event.tpl"
}

# kwok_logs: what the nodes answer when a container's log is asked for.
kwok_logs() {
  log_file exec-format "exec /usr/bin/app: exec format error"
  log_file panicking "starting" "thread 'main' panicked at src/main.rs:42:9:" "called \`Option::unwrap()\` on a \`None\` value"
  log_file silent
  log_file other "listening on 0.0.0.0:8080" "connecting to postgres://db.example.test:5432/app" "fatal: the database refused the connection: password authentication failed"
  cat <<YAML
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: ClusterLogs
metadata: {name: all}
spec:
  logs:
  - {containers: [exec-format], logsFile: "$BED_KWOK/exec-format.log", previousLogsFile: "$BED_KWOK/exec-format.log"}
  - {containers: [panicking], logsFile: "$BED_KWOK/panicking.log", previousLogsFile: "$BED_KWOK/panicking.log"}
  - {containers: [silent], logsFile: "$BED_KWOK/silent.log", previousLogsFile: "$BED_KWOK/silent.log"}
  - {logsFile: "$BED_KWOK/other.log", previousLogsFile: "$BED_KWOK/other.log"}
YAML
}

# log_file NAME LINE…: in the form that a container runtime writes.
log_file() {
  local name=$1 line
  shift
  for line in "$@"; do printf '2026-01-01T00:00:00.000000000Z stderr F %s\n' "$line"; done >"$BED_KWOK/$name.log"
}
