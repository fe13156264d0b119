{{/*
The service's configuration file: the value `config`, and the paths of the files that the chart mounts. Keys in `config`
are never overwritten: if both set a key, the checks fail. The checks run here because every render needs the
configuration.
*/}}
{{- define "rexd.config" -}}
{{- include "rexd.checks" . }}
{{- $config := deepCopy .Values.config }}
{{- $_ := set $config "listen" (.Values.config.listen | default "0.0.0.0:50051") }}
{{- $_ := set $config "ops_listen" (.Values.config.ops_listen | default "0.0.0.0:9090") }}
{{- $budget := include "rexd.memoryBudget" . }}
{{- if $budget }}
{{- $limits := get $config "limits" | default dict }}
{{- $_ := set $config "limits" (set $limits "memory_bytes" (int64 $budget)) }}
{{- end }}
{{- $files := .Values.config.docker_configs | default list }}
{{- range .Values.pullSecrets }}
{{- $files = append $files (printf "/var/run/rexd/pull/%s/.dockerconfigjson" .name) }}
{{- end }}
{{- if $files }}
{{- $_ := set $config "docker_configs" $files }}
{{- end }}
{{- range $bundle := .Values.caBundles }}
{{- range $registry := $bundle.registries }}
{{- $entry := get $config.registries $registry | default dict }}
{{- $_ := set $entry "ca_file" (printf "/var/run/rexd/ca/%s/ca.crt" $bundle.name) }}
{{- $_ := set $config.registries $registry $entry }}
{{- end }}
{{- end }}
{{- if .Values.tls.enabled }}
{{- $tls := dict "cert_file" "/var/run/rexd/tls/tls.crt" "key_file" "/var/run/rexd/tls/tls.key" }}
{{- if .Values.tls.clientCA }}
{{- $_ := set $tls "client_ca_file" "/var/run/rexd/client-ca/ca.crt" }}
{{- end }}
{{- $_ := set $config "tls" $tls }}
{{- end }}
{{- include "rexd.setCache" (dict "root" . "config" $config) }}
{{- toYaml $config }}
{{- end }}

{{/* The service's memory budget in bytes: half of the pod's memory limit, unless `config` has a budget. Empty if the limit is
not in Mi or Gi; then the service reads the limit of its cgroup. */}}
{{- define "rexd.memoryBudget" -}}
{{- $memory := toString (dig "limits" "memory" "" .Values.resources) }}
{{- if and (not (dig "limits" "memory_bytes" 0 .Values.config)) (regexMatch "^[0-9]+(Mi|Gi)$" $memory) }}
{{- mul (regexFind "^[0-9]+" $memory | atoi) (get (dict "Mi" 524288 "Gi" 536870912) (regexFind "[MG]i$" $memory)) }}
{{- end }}
{{- end }}

{{/* The ports come from the addresses in the configuration. */}}
{{- define "rexd.grpcPort" -}}
{{- .Values.config.listen | default "0.0.0.0:50051" | splitList ":" | last }}
{{- end }}

{{- define "rexd.opsPort" -}}
{{- .Values.config.ops_listen | default "0.0.0.0:9090" | splitList ":" | last }}
{{- end }}

{{/* The registry that NOTES.txt and `helm test` ping: one that the service accepts. */}}
{{- define "rexd.pingRegistry" -}}
{{- $first := keys (.Values.config.registries | default dict) | sortAlpha | first | default "docker.io" }}
{{- .Values.helmTest.registry | default .Values.config.default_registry | default $first }}
{{- end }}

{{/* A file of a ConfigMap or Secret (`{configMap|secret: {name, key}}`) as a volume source with the file ca.crt. */}}
{{- define "rexd.caVolumeSource" -}}
{{- if .secret -}}
secret:
  secretName: {{ .secret.name }}
  optional: false
  defaultMode: 0440
  items: [{key: {{ .secret.key | default "ca.crt" | quote }}, path: ca.crt}]
{{- else -}}
configMap:
  name: {{ .configMap.name }}
  items: [{key: {{ .configMap.key | default "ca.crt" | quote }}, path: ca.crt}]
{{- end }}
{{- end }}

{{/*
Volumes and mounts. Everything is mounted as a directory and never with `subPath`, which does not update a
rotated file. Only the pod's group (fsGroup) can read files of Secrets. A pod does not start without its Secrets;
otherwise it would read registries anonymously.
*/}}
{{- define "rexd.volumes" -}}
- name: config
  configMap:
    name: {{ include "rexd.fullname" . }}
{{- range $i, $secret := .Values.pullSecrets }}
- name: pull-{{ $i }}
  secret:
    secretName: {{ $secret.name }}
    optional: false
    defaultMode: 0440
{{- end }}
{{- range $i, $secret := .Values.callerSecrets }}
- name: callers-{{ $i }}
  secret:
    secretName: {{ $secret.name }}
    optional: false
    defaultMode: 0440
{{- end }}
{{- range $i, $bundle := .Values.caBundles }}
- name: ca-{{ $i }}
  {{- include "rexd.caVolumeSource" $bundle | nindent 2 }}
{{- end }}
{{- if .Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "rexd.tlsSecret" . }}
    optional: false
    defaultMode: 0440
{{- with .Values.tls.clientCA }}
- name: client-ca
  {{- include "rexd.caVolumeSource" . | nindent 2 }}
{{- end }}
{{- end }}
{{- with include "rexd.cacheVolumes" . | trim }}
{{ . }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end }}

{{- define "rexd.volumeMounts" -}}
- name: config
  mountPath: /etc/rexd
  readOnly: true
{{- range $i, $secret := .Values.pullSecrets }}
- name: pull-{{ $i }}
  mountPath: /var/run/rexd/pull/{{ $secret.name }}
  readOnly: true
{{- end }}
{{- range $i, $secret := .Values.callerSecrets }}
- name: callers-{{ $i }}
  mountPath: /var/run/rexd/callers/{{ $secret.name }}
  readOnly: true
{{- end }}
{{- range $i, $bundle := .Values.caBundles }}
- name: ca-{{ $i }}
  mountPath: /var/run/rexd/ca/{{ $bundle.name }}
  readOnly: true
{{- end }}
{{- if .Values.tls.enabled }}
- name: tls
  mountPath: /var/run/rexd/tls
  readOnly: true
{{- if .Values.tls.clientCA }}
- name: client-ca
  mountPath: /var/run/rexd/client-ca
  readOnly: true
{{- end }}
{{- end }}
{{- with include "rexd.cacheMounts" . | trim }}
{{ . }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end }}
