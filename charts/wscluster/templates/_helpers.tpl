{{/* Names and namespaces are written with toYaml, which quotes those that YAML would take for a number or a truth value. */}}

{{/* Name of the operator's objects. */}}
{{- define "wscluster.name" -}}
{{- if contains "wscluster" .Release.Name -}}
{{ printf "%s-operator" (.Release.Name | trunc 50) }}
{{- else -}}
{{ printf "%s-wscluster-operator" (.Release.Name | trunc 40) }}
{{- end -}}
{{- end -}}

{{/* What selects the operator's pods. A Deployment's selector cannot change: neither can this. */}}
{{- define "wscluster.selector" -}}
app.kubernetes.io/name: wscluster-operator
app.kubernetes.io/instance: {{ toYaml .Release.Name }}
{{- end -}}

{{- define "wscluster.labels" -}}
{{ include "wscluster.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ include "wscluster.chart" . }}
{{- end -}}

{{/* Name and version of the chart. A label takes no plus, which a version may have (SemVer, build metadata). */}}
{{- define "wscluster.chart" -}}
{{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "wscluster.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "wscluster.name" .) }}
{{- end -}}

{{/* Reference of an image: repository and digest, or tag. */}}
{{- define "wscluster.image" -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag }}
{{- end -}}
{{- end -}}

{{/* Namespace of the WsCluster that the release speaks of. */}}
{{- define "wscluster.clusterNamespace" -}}
{{- $namespace := .Values.cluster.namespace | default .Release.Namespace -}}
{{- if and .Values.namespaces (not (has $namespace .Values.namespaces)) (or .Values.cluster.create .Values.cluster.namespace) -}}
{{- fail (printf "the WsCluster would be in the namespace %s, where this operator does not look: set cluster.namespace to one of namespaces (%s), or add it to them" $namespace (join ", " .Values.namespaces)) -}}
{{- end -}}
{{ $namespace }}
{{- end -}}

{{/* Port that clients connect to. A null is the same as leaving a field out, on every level. */}}
{{- define "wscluster.gatewayPort" -}}
{{- $spec := .Values.cluster.spec | default dict -}}
{{- $gateway := $spec.gateway | default dict -}}
{{- $service := $gateway.service | default dict -}}
{{ $service.port | default 8080 }}
{{- end -}}

{{/* Security of a container that needs nothing: what Pod Security calls restricted, and a read-only root. */}}
{{- define "wscluster.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The user is that of the image, or the one that the cluster gives, as OpenShift does, which refuses any other. */}}
{{- define "wscluster.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The definition as an object. */}}
{{- define "wscluster.definition" -}}
{{ .Files.Get "files/wscluster.yaml" }}
{{- end -}}

{{/*
Fails for a field of .value that .schema does not know. An API server would drop it without a word, since Helm does not
ask it to be strict. Types and rules are left to the API server, which refuses what is wrong there.
*/}}
{{- define "wscluster.known" -}}
{{- $at := .at -}}
{{- $schema := .schema -}}
{{- if and (kindIs "map" .value) (hasKey $schema "properties") -}}
{{- range $name, $value := .value -}}
{{- if not (hasKey $schema.properties $name) -}}
{{- fail (printf "%s.%s is no field of a WsCluster; it has: %s" $at $name (keys $schema.properties | sortAlpha | join ", ")) -}}
{{- end -}}
{{- include "wscluster.known" (dict "at" (printf "%s.%s" $at $name) "value" $value "schema" (get $schema.properties $name)) -}}
{{- end -}}
{{- else if and (kindIs "slice" .value) (hasKey $schema "items") -}}
{{- range $index, $value := .value -}}
{{- include "wscluster.known" (dict "at" (printf "%s[%d]" $at $index) "value" $value "schema" $schema.items) -}}
{{- end -}}
{{- end -}}
{{- end -}}
