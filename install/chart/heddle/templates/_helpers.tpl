{{/* Labels of every object. Give it root, the top of all values, and component. */}}
{{- define "heddle.labels" -}}
{{ include "heddle.selector" . }}
app.kubernetes.io/part-of: heddle
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{/* What pods are found by; it never changes. */}}
{{- define "heddle.selector" -}}
app.kubernetes.io/name: heddle
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* An image by name: control-plane, injector or proxy. */}}
{{- define "heddle.image" -}}
{{- $image := .root.Values.image -}}
{{- if $image.registry }}{{ $image.registry }}/{{ end }}{{ $image.repository }}/{{ .name }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{/* Where pods go, the same for both Deployments. Give it root, component, and settings: the values of the component. */}}
{{- define "heddle.scheduling" -}}
{{- with .settings.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .settings.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "heddle.selector" . | nindent 8 }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "heddle.selector" . | nindent 8 }}
{{- end -}}

{{/* What PodSecurity's "restricted" asks of a pod, and of a container. */}}
{{- define "heddle.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}
{{- define "heddle.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Probes on the port named metrics. */}}
{{- define "heddle.probes" -}}
startupProbe:
  httpGet:
    path: /live
    port: metrics
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /live
    port: metrics
  periodSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /ready
    port: metrics
  periodSeconds: 2
  failureThreshold: 2
{{- end -}}

{{/* What the injector and `meshctl inject` write into pods: the serde form of MeshSettings. */}}
{{- define "heddle.injectorSettings" -}}
proxyImage: {{ include "heddle.image" (dict "root" $ "name" "proxy") | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
controlPlane: {{ printf "heddle-control-plane.%s.svc.%s:15210" .Release.Namespace .Values.clusterDomain | quote }}
trustDomain: {{ .Values.trustDomain | quote }}
trustAnchorsConfigMap: heddle-trust-anchors
log: {{ .Values.proxy.log | quote }}
logFormat: {{ .Values.proxy.logFormat }}
accessLog: {{ .Values.proxy.accessLog | quote }}
accessLogFormat: {{ .Values.proxy.accessLogFormat }}
resources: {{ .Values.proxy.resources | toJson }}
drainGrace: {{ .Values.proxy.drainGrace | quote }}
redirectAsRoot: {{ .Values.proxy.redirectAsRoot }}
telemetry: {{ .Values.proxy.telemetry | toJson }}
{{- end -}}

{{/* Egress to the API server and to DNS. */}}
{{- define "heddle.egress" -}}
# The API server, and names.
- ports:
    {{- range .Values.networkPolicy.apiServerPorts }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end -}}
