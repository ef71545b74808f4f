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

{{- define "ringfence.selector" -}}
app.kubernetes.io/name: ringfence
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: admission
{{- end }}

{{- define "ringfence.labels" -}}
{{ include "ringfence.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "ringfence.secretName" -}}
{{- .Values.tls.secretName | default (printf "%s-tls" (include "ringfence.name" .)) }}
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
        {{- range concat (list "kube-system" "kube-node-lease" .Release.Namespace) .Values.webhooks.excludedNamespaces | uniq }}
        - {{ . | quote }}
        {{- end }}
{{- end }}
