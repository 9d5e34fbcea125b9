{{- /* An event about the pod, as a kubelet writes it; pod.tpl and $type, $eventReason, $eventMessage come before it. */ -}}
{{ toJson (dict
  "apiVersion" "v1" "kind" "Event" "type" $type "reason" $eventReason "message" $eventMessage "count" 1
  "metadata" (dict "name" (printf "%s.%s" .metadata.name (lower (randAlphaNum 16))) "namespace" .metadata.namespace)
  "involvedObject" (dict "apiVersion" "v1" "kind" "Pod" "name" .metadata.name "namespace" .metadata.namespace "uid" .metadata.uid "fieldPath" (ternary "" (printf "spec.%s{%s}" (ternary "initContainers" "containers" $initFails) $culprit) (has $mode (list "creating" "evicted"))))
  "source" (dict "component" "kubelet" "host" .spec.nodeName) "reportingComponent" "kubelet" "reportingInstance" .spec.nodeName
  "firstTimestamp" $now "lastTimestamp" $now) }}
