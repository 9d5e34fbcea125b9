{{- /* The status of the pod, as a kubelet would report it; pod.tpl comes before it. */ -}}
{{- /* What is reported of each container. */ -}}
{{- $allReady := true -}}
{{- $unready := list -}}
{{- $waits := false -}}
{{- $passed := false -}}
{{- $initStatuses := list -}}
{{- $statuses := list -}}
{{- range $kind := list "init" "main" -}}
{{- range $container := ternary $inits $pod.spec.containers (eq $kind "init") -}}
  {{- $sidecar := and (eq $kind "init") (eq (or $container.restartPolicy "") "Always") -}}
  {{- $id := printf "%s/%s/0" $pod.metadata.uid $container.name -}}
  {{- $one := dict "name" $container.name "image" $container.image "restartCount" 0 "lastState" dict "ready" true "started" true -}}
  {{- $pinned := regexReplaceAll ":[^/@]*@" $container.image "@" -}}
  {{- if not (contains "@" $pinned) -}}{{- $pinned = printf "%s@sha256:%s" (regexReplaceAll ":[^/]*$" $pinned "") (sha256sum $container.image) -}}{{- end -}}
  {{- if index $notes "bk-sync.test/image-id" -}}{{- $pinned = printf "%s@%s" (regexReplaceAll "@.*$" $pinned "") (index $notes "bk-sync.test/image-id") -}}{{- end -}}
  {{- $state := dict "running" (dict "startedAt" $now) -}}
  {{- range or (ternary $status.initContainerStatuses $status.containerStatuses (eq $kind "init")) list -}}
    {{- if and (eq .name $container.name) .state -}}{{- if .state.running -}}{{- $state = dict "running" .state.running -}}{{- end -}}{{- end -}}
  {{- end -}}
  {{- if and (eq $kind "init") (not $sidecar) -}}
    {{- $before := dict -}}
    {{- range or $status.initContainerStatuses list -}}{{- if eq .name $container.name -}}{{- $before = or .state.terminated dict -}}{{- end -}}{{- end -}}
    {{- $state = dict "terminated" (dict "exitCode" 0 "reason" "Completed" "startedAt" (or $before.startedAt $now) "finishedAt" (or $before.finishedAt $now) "containerID" (printf "containerd://%s" (sha256sum $id))) -}}
    {{- $one = set $one "started" false -}}
  {{- end -}}
  {{- $runs := true -}}
  {{- if or (eq $mode "creating") (and $initFails (or (eq $kind "main") $passed)) -}}
    {{- $runs = false -}}
    {{- $state = dict "waiting" (dict "reason" (ternary "PodInitializing" "ContainerCreating" (or $initFails (gt (len $inits) 0)))) -}}
    {{- $one = set (set $one "ready" false) "started" false -}}
  {{- else if and (eq $container.name $culprit) (eq $mode "running") -}}
    {{- if or (eq $kind "main") $sidecar -}}
      {{- $one = set $one "restartCount" (int $restarts) -}}
      {{- if $ended -}}{{- $one = set $one "lastState" (dict "terminated" $ended) -}}{{- $id = printf "%s/%s/%d" $pod.metadata.uid $container.name (int $restarts) -}}{{- end -}}
    {{- end -}}
  {{- else if and (eq $container.name $culprit) (ne $mode "evicted") -}}
    {{- $one = set $one "restartCount" (int $restarts) -}}
    {{- if $ended -}}{{- $one = set $one "lastState" (dict "terminated" $ended) -}}{{- end -}}
    {{- $id = printf "%s/%s/%d" $pod.metadata.uid $container.name (int $restarts) -}}
    {{- $passed = true -}}
    {{- if has $mode (list "wait" "back-off") -}}
      {{- $runs = eq $fail "RunContainerError" -}}
      {{- $waiting := dict "reason" $reason "message" $message -}}
      {{- if and (eq $mode "back-off") (not $runs) -}}{{- $waiting = dict "reason" "ImagePullBackOff" "message" (printf "Back-off pulling image %q: %s: %s" $image $reason $message) -}}{{- end -}}
      {{- if $runs -}}{{- $one = set $one "lastState" (dict "terminated" (dict "exitCode" 128 "reason" "StartError" "message" $message "startedAt" "1970-01-01T00:00:00Z" "finishedAt" $now "containerID" (printf "containerd://%s" (sha256sum $id)))) -}}{{- end -}}
      {{- $state = dict "waiting" $waiting -}}
      {{- $one = set (set $one "ready" false) "started" false -}}
    {{- else if eq $mode "up" -}}
      {{- $state = dict "running" (dict "startedAt" $now) -}}
      {{- $one = set $one "started" (ne $fail "StartupFailing") -}}
      {{- $one = set $one "ready" (and (not (has $fail (list "ReadinessFailing" "StartupFailing" "ReadinessGate"))) (not $container.readinessProbe) (not $container.startupProbe) (or (eq $kind "main") $sidecar)) -}}
      {{- if eq $fail "ReadinessGate" -}}{{- $one = set $one "ready" true -}}{{- end -}}
    {{- else if eq $mode "down" -}}
      {{- $state = dict "terminated" $death -}}
      {{- $one = set (set $one "ready" false) "started" false -}}
      {{- $one = set $one "lastState" $lastBefore -}}
    {{- else if eq $mode "crashed" -}}
      {{- $wait := min 300 (mul 10 (ternary 1 (ternary 2 4 (lt (int $restarts) 3)) (lt (int $restarts) 2))) -}}
      {{- $state = dict "waiting" (dict "reason" "CrashLoopBackOff" "message" (printf "back-off %ds restarting failed container=%s pod=%s" $wait $culprit $where)) -}}
      {{- $one = set (set $one "ready" false) "started" false -}}
    {{- end -}}
  {{- else if eq $mode "evicted" -}}
    {{- $runs = false -}}
    {{- $state = dict "terminated" (dict "exitCode" 137 "reason" "ContainerStatusUnknown" "message" "The container could not be located when the pod was terminated" "startedAt" nil "finishedAt" nil) -}}
    {{- $one = set (set $one "ready" false) "started" false -}}
  {{- end -}}
  {{- $one = set $one "state" $state -}}
  {{- $one = set $one "imageID" (ternary $pinned "" $runs) -}}
  {{- if $runs -}}{{- $one = set $one "containerID" (printf "containerd://%s" (sha256sum $id)) -}}{{- end -}}
  {{- if and (or (eq $kind "main") $sidecar) (not $one.ready) -}}{{- $allReady = false -}}{{- $unready = append $unready $container.name -}}{{- end -}}
  {{- if and (eq $kind "main") $state.waiting (not $one.lastState.terminated) -}}{{- $waits = true -}}{{- end -}}
  {{- if eq $kind "init" -}}{{- $initStatuses = append $initStatuses $one -}}{{- else -}}{{- $statuses = append $statuses $one -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The conditions, which keep the time of their last change. */ -}}
{{- $initialized := not (or $initFails (and (eq $mode "creating") (gt (len $inits) 0))) -}}
{{- $gate := not (and (eq $fail "ReadinessGate") (eq $mode "up")) -}}
{{- $conditions := list
  (dict "type" "PodReadyToStartContainers" "status" (ternary "False" "True" (has $mode (list "creating" "evicted"))))
  (dict "type" "Initialized" "status" (ternary "True" "False" $initialized))
  (dict "type" "ContainersReady" "status" (ternary "True" "False" $allReady))
  (dict "type" "Ready" "status" (ternary "True" "False" (and $allReady $gate))) -}}
{{- if eq $mode "evicted" -}}{{- $conditions = append $conditions (dict "type" "DisruptionTarget" "status" "True" "reason" "TerminationByKubelet" "message" $message) -}}{{- end -}}
{{- if $gate -}}{{- range .spec.readinessGates -}}{{- $conditions = append $conditions (dict "type" .conditionType "status" "True") -}}{{- end -}}{{- end -}}
{{- range $conditions -}}
  {{- $one := . -}}
  {{- $since := $now -}}
  {{- range or $status.conditions list -}}{{- if and (eq .type $one.type) (eq .status $one.status) -}}{{- $since = .lastTransitionTime -}}{{- end -}}{{- end -}}
  {{- $_ := set $one "lastTransitionTime" $since -}}
  {{- if not (hasKey $one "reason") -}}{{- $_ := set (set $one "reason" nil) "message" nil -}}{{- end -}}
  {{- if eq $one.status "False" -}}
    {{- if eq $one.type "Initialized" -}}{{- $_ := set (set $one "reason" "ContainersNotInitialized") "message" (printf "containers with incomplete status: [%s]" $culprit) -}}
    {{- else if and (eq $one.type "Ready") $allReady -}}{{- $_ := set (set $one "reason" "ReadinessGatesNotReady") "message" (printf "corresponding condition of pod readiness gate %q does not exist." (or (index $notes "bk-sync.test/object") "example.test/gate")) -}}
    {{- else if and (eq $mode "evicted") (ne $one.type "PodReadyToStartContainers") -}}{{- $_ := set $one "reason" "PodFailed" -}}
    {{- else if ne $one.type "PodReadyToStartContainers" -}}{{- $_ := set (set $one "reason" "ContainersNotReady") "message" (printf "containers with unready status: [%s]" (join " " $unready)) -}}{{- end -}}
  {{- end -}}
{{- end -}}

{{- $answer := dict "conditions" $conditions "containerStatuses" $statuses "startTime" (or $status.startTime $now) -}}
{{- if $inits -}}{{- $answer = set $answer "initContainerStatuses" $initStatuses -}}{{- end -}}
{{- $answer = set $answer "phase" (ternary "Pending" "Running" (or $waits $initFails (eq $mode "creating"))) -}}
{{- if eq $mode "evicted" -}}{{- $answer = set (set (set $answer "phase" "Failed") "reason" $reason) "message" $message -}}{{- end -}}
{{- $host := NodeIPWith .spec.nodeName -}}
{{- $answer = set (set $answer "hostIP" $host) "hostIPs" (list (dict "ip" $host)) -}}
{{- if not (has $mode (list "creating" "evicted")) -}}
  {{- $ip := $status.podIP -}}
  {{- if not $ip -}}{{- $ip = PodIPWith .spec.nodeName (or .spec.hostNetwork false) .metadata.uid .metadata.name .metadata.namespace -}}{{- end -}}
  {{- $answer = set (set $answer "podIP" $ip) "podIPs" (list (dict "ip" $ip)) -}}
{{- end -}}
{{ toJson $answer }}
