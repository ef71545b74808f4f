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

{{- define "ringfence.secretName" -}}
{{- .Values.tls.secretName | default (printf "%s-tls" (include "ringfence.name" .)) }}
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

{{/* The part that both webhooks share. */}}
{{- define "ringfence.webhook" -}}
admissionReviewVersions: [v1]
sideEffects: None
matchPolicy: Equivalent
timeoutSeconds: {{ .Values.webhooks.timeoutSeconds }}
rules:
  - apiGroups: [networking.k8s.io]
    apiVersions: [v1]
    resources: [networkpolicies]
    operations: [CREATE, UPDATE]
    scope: Namespaced
namespaceSelector:
  matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values:
        {{- range include "ringfence.excludedNamespaces" . | fromJsonArray }}
        - {{ . | quote }}
        {{- end }}
{{- end }}
