{{/*
Values that contradict each other, which a schema cannot detect. Each message says what to change.
*/}}
{{- define "rexd.checks" -}}
{{- include "rexd.checkDrain" . }}
{{- include "rexd.checkMemory" . }}
{{- include "rexd.checkAddresses" . }}
{{- include "rexd.checkEnvironment" . }}
{{- include "rexd.checkArguments" . }}
{{- include "rexd.checkLabels" . }}
{{- include "rexd.checkTls" . }}
{{- include "rexd.checkCaBundles" . }}
{{- include "rexd.checkCallers" . }}
{{- include "rexd.checkCache" . }}
{{- include "rexd.checkScaling" . }}
{{- include "rexd.checkRoutes" . }}
{{- include "rexd.checkMonitoring" . }}
{{- end }}

{{/*
Milliseconds of a duration such as `30s`, `1m30s` or `500ms`.
Argument: dict "key" the configuration key, for the message, "value" the duration.
*/}}
{{- define "rexd.milliseconds" -}}
{{- $value := toString .value }}
{{- if not (regexMatch "^([0-9]+(ms|s|m|h) ?)+$" $value) }}
{{- fail (printf "config.%s is %q: write a duration of whole numbers with h, m, s or ms, such as 30s or 1m30s" .key $value) }}
{{- end }}
{{- $total := 0 }}
{{- range regexFindAll "[0-9]+(ms|s|m|h)" $value -1 }}
{{- $unit := get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) (regexFind "[a-z]+" .) }}
{{- $total = add $total (mul (regexFind "[0-9]+" . | atoi) $unit) }}
{{- end }}
{{- $total }}
{{- end }}

{{/* On SIGTERM rexd waits drain_pause, drains for up to drain_grace, and ends at most 1 s later. One more second is a margin. */}}
{{- define "rexd.checkDrain" -}}
{{- $limits := .Values.config.limits | default dict }}
{{- $pause := include "rexd.milliseconds" (dict "key" "limits.drain_pause" "value" ($limits.drain_pause | default "2s")) | atoi }}
{{- $grace := include "rexd.milliseconds" (dict "key" "limits.drain_grace" "value" ($limits.drain_grace | default "30s")) | atoi }}
{{- $least := add (div (add $pause $grace 999) 1000) 2 }}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $least) }}
{{- fail (printf "terminationGracePeriodSeconds is %d, too short for config.limits.drain_pause plus drain_grace plus 2 s: set it to %d or more, or shorten config.limits.drain_grace" (int .Values.terminationGracePeriodSeconds) $least) }}
{{- end }}
{{- end }}

{{/* Calls may use their whole budget. rexd must refuse calls with OVERLOADED before the kernel kills the process.
Only limits in Mi and Gi are checked. */}}
{{- define "rexd.checkMemory" -}}
{{- $memory := toString (dig "limits" "memory" "" .Values.resources) }}
{{- $mebi := dict "Mi" 1 "Gi" 1024 }}
{{- if regexMatch "^[0-9]+(Mi|Gi)$" $memory }}
{{- $limit := mul (regexFind "^[0-9]+" $memory | atoi) (get $mebi (regexFind "[MG]i$" $memory)) }}
{{- $budget := dig "limits" "memory_bytes" 0 .Values.config | int64 }}
{{- $half := mul $limit 524288 | int64 }}
{{- $kept := dig "cache" "memory_bytes" 67108864 .Values.config | int64 }}
{{- $least := add (div (add ($budget | default $half) $kept 1048575) 1048576) 64 }}
{{- if and (or $budget (dig "cache" "memory_bytes" 0 .Values.config)) (lt $limit $least) }}
{{- fail (printf "resources.limits.memory is %s, too little for %d MiB of calls (config.limits.memory_bytes), %d MiB that are kept (config.cache.memory_bytes) and 64 MiB: set it to %dMi or more, or lower one of the keys" $memory (div ($budget | default $half) 1048576) (div $kept 1048576) $least) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "rexd.checkAddresses" -}}
{{- range $key := list "listen" "ops_listen" }}
{{- $address := get $.Values.config $key | default "" }}
{{- if or (hasPrefix "127." $address) (hasPrefix "[::1]" $address) (hasPrefix "localhost:" $address) }}
{{- fail (printf "config.%s is %s, the pod's own loopback, where neither callers nor probes reach it: leave it out or use 0.0.0.0 or [::]" $key $address) }}
{{- end }}
{{- end }}
{{- if eq (include "rexd.grpcPort" .) (include "rexd.opsPort" .) }}
{{- fail (printf "config.listen and config.ops_listen both use port %s: give one of them another port" (include "rexd.grpcPort" .)) }}
{{- end }}
{{- end }}

{{/* Environment variables override the file, but the chart makes ports, probes and memory limits from the file. */}}
{{- define "rexd.checkEnvironment" -}}
{{- $keys := dict "REXD_LISTEN" "listen" "REXD_OPS_LISTEN" "ops_listen" "REXD_LIMITS" "limits" "REXD_LIMITS__DRAIN_PAUSE" "limits.drain_pause" "REXD_LIMITS__DRAIN_GRACE" "limits.drain_grace" "REXD_LIMITS__MEMORY_BYTES" "limits.memory_bytes" }}
{{- range tpl (toYaml .Values.extraEnv) . | fromYamlArray }}
{{- $name := upper .name }}
{{- $key := get $keys $name }}
{{- if regexMatch "^REXD_TLS(__|$)" $name }}
{{- $key = "tls" }}
{{- else if regexMatch "^REXD_CACHE(__STORE|__SHARED|__MEMORY_BYTES|$)" $name }}
{{- $key = "cache" }}
{{- end }}
{{- if $key }}
{{- fail (printf "extraEnv sets %s, which the chart does not read: set config.%s instead" .name $key) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Arguments override the file too. */}}
{{- define "rexd.checkArguments" -}}
{{- $values := dict "--listen" "config.listen" "--ops-listen" "config.ops_listen" "--config" "config" }}
{{- range .Values.extraArgs }}
{{- $argument := tpl . $ }}
{{- $value := get $values (splitList "=" $argument | first) }}
{{- if $value }}
{{- fail (printf "extraArgs sets %s, which the chart does not read: set %s instead" (splitList "=" $argument | first) $value) }}
{{- end }}
{{- end }}
{{- end }}

{{/* A second label of the same name replaces the first, so that the selectors match no pod. */}}
{{- define "rexd.checkLabels" -}}
{{- $selector := include "rexd.selectorLabels" . | fromYaml }}
{{- range $value := list "commonLabels" "podLabels" }}
{{- range $label, $_ := get $.Values $value }}
{{- if hasKey $selector $label }}
{{- fail (printf "%s sets %s, which is a selector label of the chart: choose another label, or set nameOverride" $value $label) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "rexd.checkTls" -}}
{{- if .Values.tls.enabled }}
{{- if .Values.config.tls }}
{{- fail "tls.enabled and config.tls both configure TLS: use tls for a Secret or cert-manager, or config.tls for files of extraVolumes" }}
{{- end }}
{{- if and .Values.tls.existingSecret .Values.tls.certManager.enabled }}
{{- fail "tls.existingSecret and tls.certManager.enabled are both set: choose one source for the certificate" }}
{{- end }}
{{- if not (or .Values.tls.existingSecret .Values.tls.certManager.enabled) }}
{{- fail "tls.enabled needs a certificate: set tls.existingSecret or tls.certManager.enabled" }}
{{- end }}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.certManager.issuerRef.name) }}
{{- fail "tls.certManager.enabled needs tls.certManager.issuerRef.name: the Issuer or ClusterIssuer of the certificate" }}
{{- end }}
{{- with .Values.tls.clientCA }}
{{- if eq (empty .secret) (empty .configMap) }}
{{- fail "tls.clientCA needs exactly one of secret and configMap" }}
{{- end }}
{{- end }}
{{- else if or .Values.tls.existingSecret .Values.tls.certManager.enabled .Values.tls.clientCA }}
{{- fail "tls has a certificate or a client CA but tls.enabled is false: set tls.enabled to true, or the service would listen in plain text" }}
{{- end }}
{{- end }}

{{- define "rexd.checkCaBundles" -}}
{{- range $bundle := .Values.caBundles }}
{{- if eq (empty $bundle.secret) (empty $bundle.configMap) }}
{{- fail (printf "caBundles %q needs exactly one of secret and configMap" $bundle.name) }}
{{- end }}
{{- range $registry := $bundle.registries }}
{{- $listed := $.Values.config.registries | default dict }}
{{- if not (hasKey $listed $registry) }}
{{- fail (printf "caBundles %q names the registry %s, which config.registries does not list: add it there" $bundle.name $registry) }}
{{- end }}
{{- if get (get $listed $registry | default dict) "ca_file" }}
{{- fail (printf "caBundles %q and config.registries both set ca_file of %s: remove one" $bundle.name $registry) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* No pod would start if a token file were in a Secret that is not mounted. */}}
{{- define "rexd.checkCallers" -}}
{{- $mounted := list }}
{{- range .Values.callerSecrets }}
{{- $mounted = append $mounted .name }}
{{- end }}
{{- range $name, $caller := .Values.config.callers }}
{{- $file := $caller.token_file | default "" }}
{{- if hasPrefix "/var/run/rexd/callers/" $file }}
{{- $secret := trimPrefix "/var/run/rexd/callers/" $file | splitList "/" | first }}
{{- if not (has $secret $mounted) }}
{{- fail (printf "config.callers.%s.token_file is %s, but callerSecrets does not name the Secret %s: add it there" $name $file $secret) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Zero is a valid bound, so compare with null. */}}
{{- define "rexd.checkScaling" -}}
{{- with .Values.podDisruptionBudget }}
{{- if and .enabled (eq (kindIs "invalid" .minAvailable) (kindIs "invalid" .maxUnavailable)) }}
{{- fail "podDisruptionBudget needs exactly one of minAvailable and maxUnavailable: set the other to null" }}
{{- end }}
{{- end }}
{{- with .Values.autoscaling }}
{{- if .enabled }}
{{- if not (or .targetCPUUtilizationPercentage .targetMemoryUtilizationPercentage .metrics) }}
{{- fail "autoscaling.enabled needs a metric: set targetCPUUtilizationPercentage, targetMemoryUtilizationPercentage or metrics" }}
{{- end }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
{{- fail (printf "autoscaling.minReplicas is %d, more than maxReplicas %d: lower one or raise the other" (int .minReplicas) (int .maxReplicas)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "rexd.checkRoutes" -}}
{{- if and .Values.grpcRoute.enabled (not .Values.grpcRoute.parentRefs) }}
{{- fail "grpcRoute.enabled needs grpcRoute.parentRefs: the Gateway that should offer the service" }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- fail "ingress.enabled needs ingress.hosts: at least one host name" }}
{{- end }}
{{- end }}

{{- define "rexd.checkMonitoring" -}}
{{- if .Values.monitoring.serviceMonitor.enabled }}
{{- if .Values.monitoring.podMonitor.enabled }}
{{- fail "monitoring.podMonitor and monitoring.serviceMonitor are both enabled: Prometheus would read each pod twice, so choose one" }}
{{- end }}
{{- if not .Values.service.headless }}
{{- fail "monitoring.serviceMonitor.enabled needs service.headless, whose Service names each pod: set it to true, or use monitoring.podMonitor" }}
{{- end }}
{{- end }}
{{- end }}
