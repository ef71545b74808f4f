{{/* The name of everything: the release's, which is "ringfence" unless somebody chose otherwise. */}}
{{- define "ringfence.name" -}}
{{- if contains "ringfence" .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}{{ printf "%s-ringfence" .Release.Name | trunc 53 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* Cluster-scoped names carry the namespace when two releases could meet. */}}
{{- define "ringfence.clusterName" -}}
{{- if eq .Release.Namespace "ringfence-system" }}{{ include "ringfence.name" . }}
{{- else }}{{ printf "%s.%s" (include "ringfence.name" .) .Release.Namespace }}{{ end }}
{{- end }}

{{/* What tells pods apart; given (list $ "admission") or (list $ "agent"). */}}
{{- define "ringfence.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: ringfence
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{- define "ringfence.labels" -}}
{{- $root := first . -}}
{{ include "ringfence.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "ringfence.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The Secret that somebody else fills; none where Ringfence makes its certificates itself. */}}
{{- define "ringfence.secretName" -}}
{{- if .Values.tls.certManager.enabled }}{{ printf "%s-tls" (include "ringfence.name" .) }}
{{- else }}{{ .Values.tls.secretName }}{{ end }}
{{- end }}

{{/* Annotations of both webhook configurations. */}}
{{- define "ringfence.webhookAnnotations" -}}
{{- $annotations := dict }}
{{- if .Values.tls.certManager.enabled }}
  {{- $_ := set $annotations "cert-manager.io/inject-ca-from" (printf "%s/%s" .Release.Namespace (include "ringfence.name" .)) }}
{{- end }}
{{- with merge (deepCopy .Values.webhooks.annotations) $annotations }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* Namespaces that are never judged. */}}
{{- define "ringfence.excludedNamespaces" -}}
{{- concat (list "kube-system" "kube-node-lease" .Release.Namespace) .Values.webhooks.excludedNamespaces | uniq | toJson }}
{{- end }}

{{/* Who writes what the controller keeps. */}}
{{- define "ringfence.user" -}}
{{ printf "system:serviceaccount:%s:%s" .Release.Namespace (include "ringfence.name" .) }}
{{- end }}

{{/* What all webhooks share; given (list $ PATH). */}}
{{- define "ringfence.webhook" -}}
{{- $root := first . -}}
admissionReviewVersions: [v1]
sideEffects: None
matchPolicy: Equivalent
timeoutSeconds: {{ $root.Values.webhooks.timeoutSeconds }}
clientConfig:
  service:
    name: {{ include "ringfence.name" $root }}
    namespace: {{ $root.Release.Namespace }}
    path: {{ last . }}
    port: 443
  {{- with $root.Values.tls.caBundle }}
  caBundle: {{ . }}
  {{- end }}
namespaceSelector:
  matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values:
        {{- range include "ringfence.excludedNamespaces" $root | fromJsonArray }}
        - {{ . | quote }}
        {{- end }}
{{- end }}

{{- define "ringfence.webhook.policies" -}}
rules:
  - apiGroups: [networking.k8s.io]
    apiVersions: [v1]
    resources: [networkpolicies]
    operations: [CREATE, UPDATE]
    scope: Namespaced
matchConditions:
  # Baselines are shown also while no webhook answers yet.
  - name: not-our-own
    expression: {{ printf "request.userInfo.username != '%s'" (include "ringfence.user" .) | quote }}
{{- end }}

{{- define "ringfence.webhook.pods" -}}
rules:
  - apiGroups: [""]
    apiVersions: [v1]
    resources: [pods]
    operations: [CREATE, UPDATE]
    scope: Namespaced
  # A rule for pods does not speak of them.
  - apiGroups: [""]
    apiVersions: [v1]
    resources: [pods/ephemeralcontainers]
    operations: [UPDATE]
    scope: Namespaced
matchConditions:
  # Kubelets write the mirrors of static pods, which run whatever is said here.
  - name: not-a-kubelet
    expression: "!('system:nodes' in request.userInfo.groups)"
  # Of a pod that runs, policies see the labels.
  - name: policies-see-it
    expression: >-
      request.operation != 'UPDATE' || request.subResource != ''
      || (has(object.metadata.labels) ? object.metadata.labels : {})
      != (has(oldObject.metadata.labels) ? oldObject.metadata.labels : {})
  - name: not-going
    expression: "!has(object.metadata.deletionTimestamp)"
{{- end }}

{{- define "ringfence.webhook.workloads" -}}
rules:
  - apiGroups: [apps]
    apiVersions: [v1]
    resources: [deployments, statefulsets, daemonsets]
    operations: [CREATE, UPDATE]
    scope: Namespaced
  - apiGroups: [batch]
    apiVersions: [v1]
    resources: [jobs, cronjobs]
    operations: [CREATE, UPDATE]
    scope: Namespaced
matchConditions:
  # Only people read warnings; what a controller makes was told to whoever wrote its owner.
  - name: nobody-owns-it
    expression: "!has(object.metadata.ownerReferences) || size(object.metadata.ownerReferences) == 0"
  - name: its-spec-changed
    expression: "request.operation != 'UPDATE' || object.spec != oldObject.spec"
{{- end }}

{{- define "ringfence.webhook.namespaces" -}}
rules:
  - apiGroups: [""]
    apiVersions: [v1]
    resources: [namespaces]
    operations: [CREATE, UPDATE]
    scope: Cluster
matchConditions:
  # Words of ours, and labels by which policies of others may select the namespace.
  - name: speaks-to-us
    expression: >-
      has(object.metadata.labels) && object.metadata.labels.exists(key, key.startsWith('ringfence.dev/'))
      || has(object.metadata.annotations) && object.metadata.annotations.exists(key, key.startsWith('ringfence.dev/'))
      || request.operation == 'UPDATE' && (has(object.metadata.labels) ? object.metadata.labels : {})
      != (has(oldObject.metadata.labels) ? oldObject.metadata.labels : {})
  - name: not-going
    expression: "!has(object.metadata.deletionTimestamp)"
{{- end }}
