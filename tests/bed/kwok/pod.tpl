{{- /*
What the templates for a pod on one of kwok's nodes share: who fails, why, and what the kubelet would say. kwok renders
this with the pod as its data; scripts/bed/kwok.sh puts a line before it that sets the pod's turn, $mode:

  running    every container runs and is ready
  creating   nothing has started yet
  wait       the culprit waits with a reason and a message; it has not started
  back-off   the same, of an image that is to be pulled again
  up         the culprit runs, for now
  down       the culprit has ended
  crashed    the culprit waits to be started again
  evicted    the pod is over
*/ -}}
{{- $now := Now -}}
{{- $pod := . -}}
{{- $notes := or .metadata.annotations dict -}}
{{- $fail := or (index $notes "bk-sync.test/fail") "" -}}
{{- $status := or .status dict -}}
{{- $inits := or .spec.initContainers list -}}

{{- /* The culprit: the container named, the first with the image named, or the first. */ -}}
{{- $culprit := or (index $notes "bk-sync.test/container") "" -}}
{{- $image := or (index $notes "bk-sync.test/fail-image") "" -}}
{{- if and (not $culprit) $image -}}
  {{- range concat $inits .spec.containers -}}{{- if and (not $culprit) (contains $image .image) -}}{{- $culprit = .name -}}{{- end -}}{{- end -}}
{{- end -}}
{{- if and (not $culprit) (hasPrefix "Init" $fail) $inits -}}{{- $culprit = (first $inits).name -}}{{- end -}}
{{- if not $culprit -}}{{- $culprit = (first .spec.containers).name -}}{{- end -}}
{{- $initFails := false -}}
{{- range concat $inits .spec.containers -}}{{- if eq .name $culprit -}}{{- $image = .image -}}{{- end -}}{{- end -}}
{{- range $inits -}}{{- if eq .name $culprit -}}{{- $initFails = not (has $mode (list "running" "evicted")) -}}{{- end -}}{{- end -}}
{{- $before := dict -}}
{{- range concat (or $status.initContainerStatuses list) (or $status.containerStatuses list) -}}{{- if eq .name $culprit -}}{{- $before = . -}}{{- end -}}{{- end -}}
{{- $stateBefore := or (index $before "state") dict -}}
{{- $lastBefore := or (index $before "lastState") dict -}}
{{- $restarts := atoi (toString (or (index $before "restartCount") "0")) -}}
{{- $ended := or (index $stateBefore "terminated") (index $lastBefore "terminated") -}}
{{- if and $ended (or (eq $mode "up") (and (eq $mode "wait") (eq $fail "RunContainerError")) (and (eq $mode "running") (index $stateBefore "waiting"))) -}}{{- $restarts = add1 $restarts -}}{{- end -}}

{{- $where := printf "%s_%s(%s)" .metadata.name .metadata.namespace .metadata.uid -}}
{{- $object := or (index $notes "bk-sync.test/object") "settings" -}}
{{- $exit := atoi (or (index $notes "bk-sync.test/exit-code") "1") -}}
{{- $ends := "Error" -}}
{{- $message := "" -}}
{{- $reason := $fail -}}
{{- $pull := printf "failed to pull and unpack image %q: failed to resolve image:" $image -}}
{{- if or (hasPrefix "ErrImagePull" $fail) (eq $fail "ImagePullBackOff") (eq $fail "InitErrImagePull") -}}
  {{- $reason = "ErrImagePull" -}}
  {{- $message = printf "rpc error: code = NotFound desc = %s %s: not found" $pull $image -}}
  {{- if has $fail (list "ErrImagePull-denied" "ErrImagePull-secret") -}}
    {{- $message = printf "%s pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed" $pull -}}
  {{- else if eq $fail "ErrImagePull-unauthorized" -}}
    {{- $message = printf "%s failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://auth.example.test/token?scope=repository%%3Aapp%%3Apull&service=registry.example.test: 401 Unauthorized" $pull -}}
  {{- else if eq $fail "ErrImagePull-forbidden" -}}
    {{- $message = printf "%s unexpected status from HEAD request to https://registry.example.test/v2/app/manifests/latest: 403 Forbidden" $pull -}}
  {{- else if eq $fail "ErrImagePull-platform" -}}
    {{- $message = printf "rpc error: code = NotFound desc = get image config descriptor: no match for platform in manifest sha256:%s: not found" (sha256sum $image) -}}
  {{- else if eq $fail "ErrImagePull-timeout" -}}
    {{- $message = printf "%s failed to do request: Head \"https://registry.example.test/v2/app/manifests/latest\": dial tcp 192.0.2.10:443: i/o timeout" $pull -}}
  {{- else if eq $fail "ErrImagePull-dns" -}}
    {{- $message = printf "%s failed to do request: Head \"https://registry.example.test/v2/app/manifests/latest\": dial tcp: lookup registry.example.test on 192.0.2.53:53: no such host" $pull -}}
  {{- else if eq $fail "ErrImagePull-tls" -}}
    {{- $message = printf "%s failed to do request: Head \"https://registry.example.test/v2/app/manifests/latest\": tls: failed to verify certificate: x509: certificate signed by unknown authority" $pull -}}
  {{- else if eq $fail "ErrImagePull-disk" -}}
    {{- $message = printf "failed to pull and unpack image %q: failed to extract layer sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef: write /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs/app: no space left on device" $image -}}
  {{- end -}}
{{- else if eq $fail "RateLimited" -}}
  {{- $reason = "ErrImagePull" -}}
  {{- $message = printf "%s unexpected status from HEAD request to https://registry.example.test/v2/app/manifests/latest: 429 Too Many Requests\ntoomanyrequests: You have reached your unauthenticated pull rate limit." $pull -}}
{{- else if eq $fail "RegistryUnavailable" -}}
  {{- $message = printf "rpc error: code = Unavailable desc = %s unexpected status from HEAD request to https://registry.example.test/v2/app/manifests/latest: 503 Service Unavailable" $pull -}}
{{- else if eq $fail "InvalidImageName" -}}
  {{- $message = printf "Failed to apply default image tag %q: couldn't parse image name %q: invalid reference format" $image $image -}}
{{- else if eq $fail "ErrImageNeverPull" -}}
  {{- $message = printf "Container image %q is not present with pull policy of Never" $image -}}
{{- else if hasPrefix "CreateContainerConfigError" $fail -}}
  {{- $reason = "CreateContainerConfigError" -}}
  {{- $message = printf "secret %q not found" $object -}}
  {{- if eq $fail "CreateContainerConfigError-configmap" -}}{{- $message = printf "configmap %q not found" $object -}}
  {{- else if eq $fail "CreateContainerConfigError-key" -}}{{- $message = printf "couldn't find key %s in Secret %s/%s" (or (index $notes "bk-sync.test/key") "token") .metadata.namespace $object -}}
  {{- else if eq $fail "CreateContainerConfigError-configmap-key" -}}{{- $message = printf "couldn't find key %s in ConfigMap %s/%s" (or (index $notes "bk-sync.test/key") "token") .metadata.namespace $object -}}
  {{- else if eq $fail "CreateContainerConfigError-root" -}}{{- $message = printf "container has runAsNonRoot and image will run as root (pod: \"%s\", container: %s)" $where $culprit -}}{{- end -}}
{{- else if eq $fail "CreateContainerError" -}}
  {{- $message = printf "failed to generate container %q spec: failed to generate spec: no command specified" (sha256sum $where) -}}
{{- else if eq $fail "RunContainerError" -}}
  {{- $message = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"/usr/bin/app\": stat /usr/bin/app: no such file or directory" -}}
{{- else if eq $fail "ExecFormat" -}}
  {{- $exit = 255 -}}
{{- else if eq $fail "OOMKilled" -}}
  {{- $exit = 137 -}}{{- $ends = "OOMKilled" -}}
{{- else if eq $fail "Completed" -}}
  {{- $exit = 0 -}}{{- $ends = "Completed" -}}
{{- else if has $fail (list "LivenessFailing" "StartupFailing") -}}
  {{- $exit = 137 -}}
{{- else if eq $fail "Evicted" -}}
  {{- $message = "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 412Mi. " -}}
{{- else if eq $fail "NodeShutdown" -}}
  {{- $reason = "Terminated" -}}{{- $message = "Pod was terminated in response to imminent node shutdown." -}}
{{- else if eq $fail "FailedMount" -}}
  {{- $message = printf "MountVolume.SetUp failed for volume \"config\" : configmap %q not found" $object -}}
{{- else if eq $fail "FailedMount-secret" -}}
  {{- $reason = "FailedMount" -}}{{- $message = printf "MountVolume.SetUp failed for volume \"config\" : secret %q not found" $object -}}
{{- else if eq $fail "FailedAttachVolume" -}}
  {{- $message = printf "Multi-Attach error for volume %q Volume is already exclusively attached to one node and can't be attached to another" $object -}}
{{- else if eq $fail "FailedCreatePodSandBox" -}}
  {{- $message = printf "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox %q: plugin type=\"bridge\" failed (add): failed to allocate for range 0: no IP addresses available in range set: 10.0.0.1-10.0.0.254" (sha256sum $where) -}}
{{- else if eq $fail "OutOfcpu" -}}
  {{- $message = "Pod was rejected: Node didn't have enough resource: cpu, requested: 4000, used: 30000, capacity: 32000" -}}
{{- end -}}
{{- $message = or (index $notes "bk-sync.test/message") $message -}}
{{- $death := dict "exitCode" $exit "reason" $ends "startedAt" (or (index (or (index $stateBefore "running") dict) "startedAt") $now) "finishedAt" $now "containerID" (printf "containerd://%s" (sha256sum (printf "%s/%s/%d" .metadata.uid $culprit (int $restarts)))) -}}
{{- if and (index $notes "bk-sync.test/message") (not (has $fail (list "RunContainerError"))) -}}{{- $death = set $death "message" $message -}}{{- end -}}
