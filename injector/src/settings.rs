//! What the mesh is set up with, the same for every pod: the file `injector.yaml`, as typed and as meant.
//! All that is wrong is reported at once.

use std::fmt;
use std::time::Duration;

use heddle_model::access_log::{AccessLog, AccessLogFormat, AccessLogMode};
use heddle_model::identity::TrustDomain;
use heddle_model::installation::TRUST_ANCHORS_CONFIG_MAP;
use heddle_runtime::logging::Format;
use heddle_runtime::{duration, logging};
use serde::Deserialize;

use crate::quantity::Quantity;
use crate::telemetry::{Protocol, SecretName, TelemetrySettings, TraceRatio, parse_collector};

/// Settings as meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshSettings {
    /// The proxy's image.
    pub proxy_image: String,
    /// When nodes fetch it; nothing: as Kubernetes has it by default.
    pub image_pull_policy: Option<PullPolicy>,
    /// `host:port` of the control plane.
    pub control_plane: String,
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// The ConfigMap with `trust-anchors.pem`, present in every meshed namespace.
    pub trust_anchors_config_map: String,
    /// What proxies log, unless their pods say otherwise.
    pub log: String,
    /// How log lines look.
    pub log_format: Format,
    /// What proxies write down of requests and connections, unless namespaces or pods say otherwise.
    pub access_log: AccessLog,
    /// How long connections may take to finish, unless a pod says otherwise.
    pub drain_grace: Duration,
    /// Of CPU, unless a pod says otherwise.
    pub cpu: Share,
    /// Of memory, unless a pod says otherwise.
    pub memory: Share,
    /// Who programs the redirect.
    pub redirect_user: RedirectUser,
    /// Whom they tell of traffic besides the control plane.
    pub telemetry: TelemetrySettings,
}

/// What a proxy is given of one resource. The request is not above the limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// What the scheduler reserves.
    pub request: Option<Quantity>,
    /// What it may take.
    pub limit: Option<Quantity>,
}

/// When nodes fetch an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// At each start.
    Always,
    /// If it is not there.
    IfNotPresent,
    /// Never.
    Never,
}

impl fmt::Display for PullPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        })
    }
}

/// Who programs the redirect, in the init container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectUser {
    /// The proxy's user, which has the one capability by the binary's file capability.
    Proxy,
    /// Root, with the one capability: for images that lost file capabilities on their way.
    Root,
}

/// Settings that will not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadMeshSettings(Vec<String>);

impl fmt::Display for BadMeshSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = if self.0.len() == 1 { "setting" } else { "settings" };
        write!(f, "{} bad {settings}: {}", self.0.len(), self.0.join("; "))
    }
}

impl std::error::Error for BadMeshSettings {}

impl MeshSettings {
    /// Reads the file's text. Fails with everything that is wrong with it.
    pub fn from_yaml(text: &str) -> Result<Self, BadMeshSettings> {
        let typed: Typed = serde_saphyr::from_str(text)
            .map_err(|error| BadMeshSettings(vec![format!("it cannot be read: {error}")]))?;
        let mut reader = Reader::default();
        let read = Self::read(typed, &mut reader);
        match read {
            Some(settings) if reader.0.is_empty() => Ok(settings),
            Some(_) | None => Err(BadMeshSettings(reader.0)),
        }
    }

    fn read(typed: Typed, reader: &mut Reader) -> Option<Self> {
        let pull_policy = typed.image_pull_policy.filter(|text| !text.is_empty());
        let resources = typed.resources.unwrap_or_else(default_resources);
        let Resources { requests, limits } = resources;
        let (cpu_want, memory_want) = ("an amount such as 100m", "an amount such as 64Mi");
        let mut share = |name, amounts: [Option<String>; 2], want, parse: fn(&str) -> _| {
            reader.share(name, amounts, want, parse)
        };
        let cpu = share("cpu", [requests.cpu, limits.cpu], cpu_want, Quantity::cpu);
        let memory =
            share("memory", [requests.memory, limits.memory], memory_want, Quantity::memory);
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let proxy_image = reader.read("proxyImage", typed.proxy_image, "an image's name", text);
        let image_pull_policy = pull_policy.map(|given| {
            let want = "Always, IfNotPresent or Never";
            reader.read("imagePullPolicy", Some(given), want, parse_pull_policy)
        });
        let control_plane =
            reader.read("controlPlane", typed.control_plane, "HOST:PORT", parse_host_port);
        let name = Some(typed.trust_domain.unwrap_or_else(|| DEFAULT_TRUST_DOMAIN.to_owned()));
        let want = "a lower-case DNS name such as cluster.local";
        let trust_domain = reader.read("trustDomain", name, want, |text| text.parse().ok());
        let name = typed.trust_anchors_config_map;
        let name = Some(name.unwrap_or_else(|| TRUST_ANCHORS_CONFIG_MAP.to_owned()));
        let trust_anchors_config_map =
            reader.read("trustAnchorsConfigMap", name, "the name of a ConfigMap", text);
        let filter = Some(typed.log.unwrap_or_else(|| DEFAULT_LOG.to_owned()));
        let log = reader.read("log", filter, "a filter such as info", |text| {
            logging::check(text).ok().map(|()| text.to_owned())
        });
        let format = Some(typed.log_format.unwrap_or_else(|| DEFAULT_LOG_FORMAT.to_owned()));
        let log_format = reader.read("logFormat", format, "text or json", |text| text.parse().ok());
        let access_log = access_log(typed.access_log, typed.access_log_format, reader);
        let grace = Some(typed.drain_grace.unwrap_or_else(|| DEFAULT_DRAIN_GRACE.to_owned()));
        let drain_grace = reader
            .read("drainGrace", grace, "a duration such as 30s", |text| duration::parse(text).ok());
        let redirect_user = match typed.redirect_as_root {
            Some(true) => RedirectUser::Root,
            Some(false) | None => RedirectUser::Proxy,
        };
        let telemetry = reader.telemetry(typed.telemetry);
        Some(Self {
            proxy_image: proxy_image?,
            image_pull_policy: image_pull_policy.flatten(),
            control_plane: control_plane?,
            trust_domain: trust_domain?,
            trust_anchors_config_map: trust_anchors_config_map?,
            log: log?,
            log_format: log_format?,
            access_log,
            drain_grace: drain_grace?,
            cpu,
            memory,
            redirect_user,
            telemetry: telemetry?,
        })
    }
}

/// Settings as typed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Typed {
    proxy_image: Option<String>,
    image_pull_policy: Option<String>,
    control_plane: Option<String>,
    trust_domain: Option<String>,
    trust_anchors_config_map: Option<String>,
    log: Option<String>,
    log_format: Option<String>,
    access_log: Option<String>,
    access_log_format: Option<String>,
    drain_grace: Option<String>,
    resources: Option<Resources>,
    redirect_as_root: Option<bool>,
    #[serde(default)]
    telemetry: TypedTelemetry,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TypedTelemetry {
    collector: String,
    protocol: Option<String>,
    trace_ratio: Option<f64>,
    headers_secret: String,
}

/// As in a container; with it, nothing is by default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Resources {
    requests: Amounts,
    limits: Amounts,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Amounts {
    cpu: Option<String>,
    memory: Option<String>,
}

/// Little, since it is paid for in every pod; no limit of CPU, which would only make requests slow.
fn default_resources() -> Resources {
    let amount = |text: &str| Some(text.to_owned());
    Resources {
        requests: Amounts { cpu: amount("10m"), memory: amount("32Mi") },
        limits: Amounts { cpu: None, memory: amount("256Mi") },
    }
}

#[derive(Default)]
struct Reader(Vec<String>);

impl Reader {
    fn read<T>(
        &mut self,
        name: &str,
        given: Option<String>,
        want: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let Some(text) = given else {
            self.0.push(format!("{name} is not set (want {want})"));
            return None;
        };
        let value = parse(&text);
        if value.is_none() {
            self.0.push(format!("{name}: {text:?} (want {want})"));
        }
        value
    }

    fn telemetry(&mut self, typed: TypedTelemetry) -> Option<TelemetrySettings> {
        let collector = (!typed.collector.is_empty()).then_some(typed.collector);
        let want = "a URL such as http://otel-collector.observability:4318";
        let collector =
            collector.map(|url| self.read("telemetry.collector", Some(url), want, parse_collector));
        let want = "http/protobuf or grpc";
        let protocol = typed
            .protocol
            .map(|protocol| self.read("telemetry.protocol", Some(protocol), want, Protocol::parse));
        let ratio = typed.trace_ratio.map(|ratio| {
            let (name, want) = ("telemetry.traceRatio", "a ratio from 0 to 1 such as 0.1");
            self.read(name, Some(ratio.to_string()), want, TraceRatio::parse)
        });
        let secret = (!typed.headers_secret.is_empty()).then_some(typed.headers_secret);
        let headers_secret = secret.map(|name| {
            let want = "the name of a Secret in the namespaces of the pods";
            self.read("telemetry.headersSecret", Some(name), want, SecretName::parse)
        });
        Some(TelemetrySettings {
            collector: collector.flatten(),
            headers_secret: headers_secret.flatten(),
            protocol: protocol.unwrap_or(Some(Protocol::default()))?,
            trace_ratio: ratio.unwrap_or(Some(TraceRatio::default()))?,
        })
    }

    fn share(
        &mut self,
        name: &str,
        [request, limit]: [Option<String>; 2],
        want: &str,
        parse: fn(&str) -> Option<Quantity>,
    ) -> Share {
        let mut read = |part: &str, amount: Option<String>| {
            let amount = amount.filter(|text| !text.is_empty());
            amount.and_then(|text| {
                self.read(&format!("resources.{part}.{name}"), Some(text), want, parse)
            })
        };
        let (request, limit) = (read("requests", request), read("limits", limit));
        if let (Some(request), Some(limit)) = (&request, &limit)
            && !limit.is_at_least(request)
        {
            let want = format!("at most resources.limits.{name}, which is {limit}");
            self.0.push(format!("resources.requests.{name}: \"{request}\" (want {want})"));
        }
        Share { request, limit }
    }
}

fn access_log(mode: Option<String>, format: Option<String>, reader: &mut Reader) -> AccessLog {
    let mode = mode.and_then(|text| {
        reader.read("accessLog", Some(text), AccessLogMode::WANT, |text| text.parse().ok())
    });
    let format = format.and_then(|text| {
        let parse = |text: &str| text.parse().ok();
        reader.read("accessLogFormat", Some(text), AccessLogFormat::WANT, parse)
    });
    AccessLog { mode: mode.unwrap_or_default(), format: format.unwrap_or_default() }
}

fn parse_pull_policy(text: &str) -> Option<PullPolicy> {
    [PullPolicy::Always, PullPolicy::IfNotPresent, PullPolicy::Never]
        .into_iter()
        .find(|policy| policy.to_string() == text)
}

fn parse_host_port(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let is_host = !host.is_empty() && host.chars().all(valid);
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    (is_host && is_port).then(|| text.to_owned())
}

/// As in most clusters.
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";
const DEFAULT_LOG: &str = "info";
const DEFAULT_LOG_FORMAT: &str = "text";
/// The proxy's own default.
const DEFAULT_DRAIN_GRACE: &str = "30s";

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn mesh() -> MeshSettings {
        let text = "proxyImage: heddle/proxy:test\ncontrolPlane: heddle-control-plane.heddle-system.svc:15210\n";
        MeshSettings::from_yaml(text).unwrap()
    }

    #[test]
    fn two_settings_are_enough() {
        let mesh = mesh();
        assert_eq!(mesh.drain_grace, Duration::from_secs(30));
        assert_eq!(mesh.redirect_user, RedirectUser::Proxy);
        assert_eq!(mesh.memory.limit, Quantity::memory("256Mi"));
        assert_eq!(mesh.cpu.limit, None);
    }

    #[test]
    fn all_can_be_set() {
        let mesh = MeshSettings::from_yaml(
            "proxyImage: p\nimagePullPolicy: IfNotPresent\ncontrolPlane: '[fd00::1]:15210'\ntrustDomain: a.b\n\
             trustAnchorsConfigMap: t\nlog: debug\nlogFormat: json\naccessLog: errors\naccessLogFormat: json\ndrainGrace: 1m\nredirectAsRoot: true\n\
             resources: {requests: {cpu: 1, memory: 1Gi}}\n\
             telemetry: {collector: 'http://c:4317', protocol: grpc, traceRatio: 0.25, headersSecret: key}\n",
        )
        .unwrap();
        assert_eq!(mesh.image_pull_policy, Some(PullPolicy::IfNotPresent));
        let access_log = AccessLog { mode: AccessLogMode::Errors, format: AccessLogFormat::Json };
        assert_eq!(mesh.access_log, access_log);
        assert_eq!(mesh.redirect_user, RedirectUser::Root);
        assert_eq!(mesh.telemetry.collector.as_deref(), Some("http://c:4317"));
        assert_eq!(mesh.telemetry.protocol, Protocol::Grpc);
        assert_eq!(mesh.telemetry.trace_ratio.to_string(), "0.25");
        assert_eq!(mesh.telemetry.headers_secret, SecretName::parse("key"));
        assert_eq!(mesh.memory, Share { request: Quantity::memory("1Gi"), limit: None });
    }

    #[test]
    fn every_bad_setting_is_reported_at_once() {
        let error = MeshSettings::from_yaml(
            "imagePullPolicy: Sometimes\ncontrolPlane: nowhere\ndrainGrace: 5\nlogFormat: xml\naccessLog: on\n\
             resources: {requests: {cpu: 2}, limits: {cpu: 1, memory: much}}\n\
             telemetry: {collector: 'c:4317', protocol: http/json, traceRatio: 10, headersSecret: api-key=abc}\n",
        )
        .unwrap_err();
        insta::assert_snapshot!(error, @r#"12 bad settings: resources.requests.cpu: "2" (want at most resources.limits.cpu, which is 1); resources.limits.memory: "much" (want an amount such as 64Mi); proxyImage is not set (want an image's name); imagePullPolicy: "Sometimes" (want Always, IfNotPresent or Never); controlPlane: "nowhere" (want HOST:PORT); logFormat: "xml" (want text or json); accessLog: "on" (want "off", "errors" or "all"); drainGrace: "5" (want a duration such as 30s); telemetry.collector: "c:4317" (want a URL such as http://otel-collector.observability:4318); telemetry.protocol: "http/json" (want http/protobuf or grpc); telemetry.traceRatio: "10" (want a ratio from 0 to 1 such as 0.1); telemetry.headersSecret: "api-key=abc" (want the name of a Secret in the namespaces of the pods)"#);
        let error = MeshSettings::from_yaml("proxyImages: a\n").unwrap_err().to_string();
        assert!(error.contains("proxyImages"), "{error}");
    }
}
