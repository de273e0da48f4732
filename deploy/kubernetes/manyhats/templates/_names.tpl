{{- define "manyhats.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "manyhats.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "manyhats.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "manyhats.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "manyhats.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default (printf "%s%s" .Chart.AppVersion (ternary "-cuda" "" .Values.gpu.enabled)) }}
{{- end }}
{{- end }}

{{- define "manyhats.picker" -}}
{{ include "manyhats.name" . }}-picker
{{- end }}

{{- define "manyhats.pickerSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-picker
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "manyhats.pickerLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "manyhats.pickerSelector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "manyhats.pool" -}}
{{- with .Values.gateway.selector }}{{ toYaml . }}{{ else }}{{ include "manyhats.selector" . }}{{ end }}
{{- end }}

{{/* "true" where more than one server may run; refused where they would not have the same rows and bytes. */}}
{{- define "manyhats.severalServers" -}}
{{- if or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled }}
{{- $_ := required "database.existingSecret is required for several servers: they share a PostgreSQL" .Values.database.existingSecret }}
{{- $_ := required "settings.MANYHATS_BLOB_URL is required for several servers: they share a bucket" .Values.settings.MANYHATS_BLOB_URL }}true
{{- end }}
{{- end }}
