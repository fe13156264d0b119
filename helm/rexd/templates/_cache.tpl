{{/*
What is kept: the volume or the bucket of `cache.store`, and the engine of `cache.shared`, as configuration, volumes and
checks.
*/}}

{{/* Whether blobs are in a volume of the pod. */}}
{{- define "rexd.storeHasVolume" -}}
{{- if has .Values.cache.store.type (list "emptyDir" "ephemeral" "claim") }}true{{ end }}
{{- end }}

{{/* Mebibytes of `cache.store.size`. */}}
{{- define "rexd.storeMebibytes" -}}
{{- $size := .Values.cache.store.size }}
{{- mul (regexFind "^[0-9]+" $size | atoi) (get (dict "Mi" 1 "Gi" 1024 "Ti" 1048576) (regexFind "[MGT]i$" $size)) }}
{{- end }}

{{/* The bytes that the service may use: a tenth less than the size, for the file system, and because the kubelet evicts a pod
whose emptyDir is larger than its limit. */}}
{{- define "rexd.storeBytes" -}}
{{- mul (include "rexd.storeMebibytes" . | int64) 943718 }}
{{- end }}

{{/* The names of the credential's files, by the scheme of the bucket's URL: the key of the configuration, the key of the Secret. */}}
{{- define "rexd.bucketFiles" -}}
{{- $secret := .Values.cache.store.secret }}
{{- $scheme := splitList "://" .Values.cache.store.url | first }}
{{- if eq $scheme "s3" }}
access_key_id_file: {{ $secret.accessKeyIdKey | default "access_key_id" }}
secret_access_key_file: {{ $secret.secretAccessKeyKey | default "secret_access_key" }}
{{- else if eq $scheme "gs" }}
service_account_file: {{ $secret.serviceAccountKey | default "service_account.json" }}
{{- else }}
account_key_file: {{ $secret.accountKeyKey | default "account_key" }}
{{- end }}
{{- end }}

{{/* Sets the keys below `cache`. Argument: dict "root" the context, "config" the configuration. */}}
{{- define "rexd.setCache" -}}
{{- $values := .root.Values.cache }}
{{- $cache := get .config "cache" | default dict }}
{{- if $values.store.type }}
{{- $store := get $cache "store" | default dict }}
{{- if not (hasKey $store "max_bytes") }}
{{- $_ := set $store "max_bytes" (include "rexd.storeBytes" .root | int64) }}
{{- end }}
{{- if eq $values.store.type "bucket" }}
{{- $_ := set $store "url" $values.store.url }}
{{- $_ := set $store "spool_dir" "/var/cache/rexd" }}
{{- if $values.store.secret }}
{{- range $key, $file := include "rexd.bucketFiles" .root | fromYaml }}
{{- $_ := set $store $key (printf "/var/run/rexd/bucket/%s" $file) }}
{{- end }}
{{- end }}
{{- if $values.store.ca }}
{{- $_ := set $store "ca_file" "/var/run/rexd/bucket-ca/ca.crt" }}
{{- end }}
{{- else }}
{{- $_ := set $store "url" "file:///var/cache/rexd" }}
{{- end }}
{{- $_ := set $cache "store" $store }}
{{- end }}
{{- with $values.shared }}
{{- if .url }}
{{- $shared := dict "url" .url }}
{{- if .prefix }}
{{- $_ := set $shared "prefix" .prefix }}
{{- end }}
{{- if .username }}
{{- $_ := set $shared "username" .username }}
{{- end }}
{{- if .passwordSecret }}
{{- $_ := set $shared "password_file" (printf "/var/run/rexd/engine/%s" (.passwordSecret.key | default "password")) }}
{{- end }}
{{- if .ca }}
{{- $_ := set $shared "ca_file" "/var/run/rexd/engine-ca/ca.crt" }}
{{- end }}
{{- $_ := set $cache "shared" $shared }}
{{- end }}
{{- end }}
{{- if $cache }}
{{- $_ := set .config "cache" $cache }}
{{- end }}
{{- end }}

{{/* The name of the claim: an existing one, or the chart's. */}}
{{- define "rexd.claimName" -}}
{{- .Values.cache.store.existingClaim | default (printf "%s-cache" (include "rexd.fullname" .)) }}
{{- end }}

{{- define "rexd.claimSpec" -}}
accessModes: [ReadWriteOnce]
{{- with .Values.cache.store.storageClass }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ .Values.cache.store.size }}}}
{{- end }}

{{- define "rexd.cacheVolumes" -}}
{{- $store := .Values.cache.store }}
{{- if $store.type }}
- name: cache
  {{- if eq $store.type "claim" }}
  persistentVolumeClaim: {claimName: {{ include "rexd.claimName" . }}}
  {{- else if eq $store.type "ephemeral" }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        {{- include "rexd.claimSpec" . | nindent 8 }}
  {{- else }}
  emptyDir: {sizeLimit: {{ $store.size }}}
  {{- end }}
{{- end }}
{{- if and (eq $store.type "bucket") $store.secret }}
- name: bucket
  secret:
    secretName: {{ $store.secret.name }}
    optional: false
    defaultMode: 0440
{{- end }}
{{- if and (eq $store.type "bucket") $store.ca }}
- name: bucket-ca
  {{- include "rexd.caVolumeSource" $store.ca | nindent 2 }}
{{- end }}
{{- with .Values.cache.shared }}
{{- if and .url .passwordSecret }}
- name: engine
  secret:
    secretName: {{ .passwordSecret.name }}
    optional: false
    defaultMode: 0440
    items: [{key: {{ .passwordSecret.key | default "password" | quote }}, path: {{ .passwordSecret.key | default "password" | quote }}}]
{{- end }}
{{- if and .url .ca }}
- name: engine-ca
  {{- include "rexd.caVolumeSource" .ca | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "rexd.cacheMounts" -}}
{{- $store := .Values.cache.store }}
{{- if $store.type }}
- name: cache
  mountPath: /var/cache/rexd
{{- end }}
{{- if and (eq $store.type "bucket") $store.secret }}
- name: bucket
  mountPath: /var/run/rexd/bucket
  readOnly: true
{{- end }}
{{- if and (eq $store.type "bucket") $store.ca }}
- name: bucket-ca
  mountPath: /var/run/rexd/bucket-ca
  readOnly: true
{{- end }}
{{- with .Values.cache.shared }}
{{- if and .url .passwordSecret }}
- name: engine
  mountPath: /var/run/rexd/engine
  readOnly: true
{{- end }}
{{- if and .url .ca }}
- name: engine-ca
  mountPath: /var/run/rexd/engine-ca
  readOnly: true
{{- end }}
{{- end }}
{{- end }}

{{/* The ports of the engine, and of a bucket whose endpoint has a port of its own. */}}
{{- define "rexd.cachePorts" -}}
{{- $ports := list }}
{{- with .Values.cache.shared.url }}
{{- $hosts := regexReplaceAll "^[^/]*//([^/?]*).*$" . "${1}" }}
{{- range regexFindAll ":[0-9]+(,|$)" $hosts -1 }}
{{- $ports = append $ports (regexFind "[0-9]+" . | atoi) }}
{{- end }}
{{- if regexMatch "^rediss?[+]sentinel:" . }}
{{- /* The Sentinels name the server, which has another port than they have. */}}
{{- $ports = append $ports 6379 }}
{{- end }}
{{- if not $ports }}
{{- $ports = list 6379 }}
{{- end }}
{{- end }}
{{- with dig "cache" "store" "endpoint" "" .Values.config }}
{{- $port := regexFind ":[0-9]+(/|$)" . }}
{{- if $port }}
{{- $ports = append $ports (regexFind "[0-9]+" $port | atoi) }}
{{- else if hasPrefix "http:" . }}
{{- $ports = append $ports 80 }}
{{- end }}
{{- end }}
{{- uniq $ports | toJson }}
{{- end }}

{{/* A bucket with the role of the service account, in a cloud whose pods get the credential from a metadata address. */}}
{{- define "rexd.bucketRoleEgress" -}}
{{- $store := .Values.cache.store }}
{{- if and (eq $store.type "bucket") (not $store.secret) }}
{{- if hasPrefix "gs://" $store.url }}
# The credential of the service account's role: GKE's metadata server, which needs both.
- to: [{ipBlock: {cidr: 169.254.169.254/32}}]
  ports: [{port: 80}]
- to: [{ipBlock: {cidr: 169.254.169.252/32}}]
  ports: [{port: 988}]
{{- else if hasPrefix "s3://" $store.url }}
# The credential of the service account's role: the agent of EKS Pod Identity. A web identity token needs port 443 only.
- to: [{ipBlock: {cidr: 169.254.170.23/32}}]
  ports: [{port: 80}]
{{- end }}
{{- end }}
{{- end }}

{{- define "rexd.checkCache" -}}
{{- $store := .Values.cache.store }}
{{- $config := dig "cache" "store" dict .Values.config }}
{{- if and $store.type $config.url }}
{{- fail "cache.store.type and config.cache.store.url both say where blobs are kept: use cache.store for a volume or a bucket of the chart, or config.cache.store.url for a directory of extraVolumes" }}
{{- end }}
{{- if and (eq $store.type "bucket") (not $store.url) }}
{{- fail "cache.store.type is bucket, but cache.store.url is empty: set it to s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX" }}
{{- end }}
{{- if ne $store.type "bucket" }}
{{- range $key := list "url" "secret" "ca" }}
{{- if get $store $key }}
{{- fail (printf "cache.store.%s is for a bucket, but cache.store.type is %q: set it to bucket" $key $store.type) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $store.existingClaim (ne $store.type "claim") }}
{{- fail (printf "cache.store.existingClaim names a claim, but cache.store.type is %q: set it to claim" $store.type) }}
{{- end }}
{{- if and (eq $store.type "claim") (or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1)) }}
{{- fail "cache.store.type claim is one volume, which belongs to one replica: set replicaCount to 1, or use ephemeral, emptyDir or bucket" }}
{{- end }}
{{- range $key := list "access_key_id_file" "secret_access_key_file" "service_account_file" "account_key_file" "ca_file" }}
{{- if and $store.type (get $config $key) }}
{{- fail (printf "config.cache.store.%s names a file, but cache.store.type is set: use cache.store.secret and cache.store.ca, which the chart mounts" $key) }}
{{- end }}
{{- end }}
{{- if and $store.ca (eq (empty $store.ca.secret) (empty $store.ca.configMap)) }}
{{- fail "cache.store.ca needs exactly one of secret and configMap" }}
{{- end }}
{{- $bytes := $config.max_bytes | default 0 | int64 }}
{{- if and $store.type $bytes (gt $bytes (include "rexd.storeBytes" . | int64)) }}
{{- fail (printf "config.cache.store.max_bytes is %d, more than nine tenths of cache.store.size %s: leave it out or make the volume larger" $bytes $store.size) }}
{{- end }}
{{- $shared := .Values.cache.shared }}
{{- if and $shared.url (dig "cache" "shared" dict .Values.config) }}
{{- fail "cache.shared and config.cache.shared both name an engine: use cache.shared, whose Secrets the chart mounts, or config.cache.shared for files of extraVolumes" }}
{{- end }}
{{- if not $shared.url }}
{{- range $key := list "username" "passwordSecret" "ca" "prefix" }}
{{- if get $shared $key }}
{{- fail (printf "cache.shared.%s is set, but cache.shared.url is empty: set it to the engine's address, such as rediss://valkey:6379" $key) }}
{{- end }}
{{- end }}
{{- range $name, $registry := .Values.config.registries }}
{{- if and (get ($registry | default dict) "fleet") (not (dig "cache" "shared" dict $.Values.config)) }}
{{- fail (printf "config.registries.%s.fleet is a budget of all replicas, which needs cache.shared.url" $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $shared.username (not $shared.passwordSecret) }}
{{- fail "cache.shared.username needs cache.shared.passwordSecret: the Secret with the user's password" }}
{{- end }}
{{- if $shared.ca }}
{{- if eq (empty $shared.ca.secret) (empty $shared.ca.configMap) }}
{{- fail "cache.shared.ca needs exactly one of secret and configMap" }}
{{- end }}
{{- if not (hasPrefix "rediss" $shared.url) }}
{{- fail (printf "cache.shared.ca is for TLS, but cache.shared.url is %s: write rediss instead of redis" $shared.url) }}
{{- end }}
{{- end }}
{{- end }}
