{{/* Names, labels and the image. */}}

{{- define "rexd.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 54 characters, so that the longest suffix (-headless) still fits a DNS label. */}}
{{- define "rexd.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 54 | trimSuffix "-" }}
{{- else }}
{{- $name := include "rexd.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 54 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 54 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* The component keeps the pod of `helm test` out of the Services. */}}
{{- define "rexd.selectorLabels" -}}
app.kubernetes.io/name: {{ include "rexd.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end }}

{{/* Labels of every object, without the component. */}}
{{- define "rexd.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: rexd
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "rexd.labels" -}}
{{ include "rexd.selectorLabels" . }}
{{ include "rexd.commonLabels" . }}
{{- end }}

{{- define "rexd.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "rexd.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "rexd.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* The Secret with the server's certificate: an existing one, or the one that cert-manager writes. */}}
{{- define "rexd.tlsSecret" -}}
{{- .Values.tls.existingSecret | default (printf "%s-tls" (include "rexd.fullname" .)) }}
{{- end }}

{{/* "true" when the main port uses TLS, including `config.tls` with files from extraVolumes. */}}
{{- define "rexd.tlsOn" -}}
{{- if or .Values.tls.enabled .Values.config.tls }}true{{ end }}
{{- end }}

{{/* "true" when `helm test` can call the service: it has no client certificate, and no token except helmTest.tokenSecret. */}}
{{- define "rexd.helmTest" -}}
{{- if and .Values.helmTest.enabled (not (include "rexd.mutualTls" .)) (or (not .Values.config.callers) .Values.helmTest.tokenSecret) }}true{{ end }}
{{- end }}

{{/* "true" when callers need a certificate. */}}
{{- define "rexd.mutualTls" -}}
{{- if or .Values.tls.clientCA (.Values.config.tls | default dict).client_ca_file }}true{{ end }}
{{- end }}
