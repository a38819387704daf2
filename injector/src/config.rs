//! Settings of the injector's process: as typed (flags, environment) → as meant. Every bad one is reported
//! at once. What pods are given is in settings.rs.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use heddle_runtime::logging::Format;
use heddle_runtime::settings::{BadSettings, names};
use heddle_runtime::{duration, logging};

/// Settings as typed.
#[derive(Clone, Debug, Default, Parser)]
#[command(
    name = "heddle-injector",
    version,
    about = "The webhook of the mesh: gives new pods their proxy"
)]
pub struct Typed {
    /// The namespace that the injector runs in
    #[arg(long, env = "HEDDLE_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// The injector's own pod, which its events are from
    #[arg(long, env = "HEDDLE_POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
    /// Address to serve the webhook at, over HTTPS [default: 0.0.0.0:15243]
    #[arg(long, env = "HEDDLE_LISTEN", value_name = "ADDR")]
    pub listen: Option<String>,
    /// Address to serve /metrics, /ready and /live at [default: 0.0.0.0:15291]
    #[arg(long, env = "HEDDLE_METRICS_LISTEN", value_name = "ADDR")]
    pub metrics_listen: Option<String>,
    /// File with what pods are given
    #[arg(long, env = "HEDDLE_INJECTOR_CONFIG", value_name = "FILE")]
    pub injector_config: Option<String>,
    /// The MutatingWebhookConfiguration whose caBundle is kept [default: heddle-injector]
    #[arg(long, env = "HEDDLE_WEBHOOK_CONFIGURATION", value_name = "NAME")]
    pub webhook_configuration: Option<String>,
    /// How long the webhook's own certificate is valid; renewed after two thirds [default: 2160h]
    #[arg(long, env = "HEDDLE_CERTIFICATE_LIFETIME", value_name = "DURATION")]
    pub certificate_lifetime: Option<String>,
    /// How long open requests may take to finish after SIGTERM [default: 10s]
    #[arg(long, env = "HEDDLE_DRAIN_GRACE", value_name = "DURATION")]
    pub drain_grace: Option<String>,
    /// What to log, such as "info" or "info,heddle_injector=debug" [default: info]
    #[arg(long, env = "HEDDLE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How log lines look: text or json [default: text]
    #[arg(long, env = "HEDDLE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// Settings as meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the injector, its Service and its Secret are.
    pub namespace: String,
    /// Its own pod.
    pub pod_name: String,
    /// Where the webhook is served.
    pub listen: SocketAddr,
    /// Where metrics are served.
    pub metrics_listen: SocketAddr,
    /// What pods are given.
    pub injector_config: PathBuf,
    /// Whose `caBundle` is kept.
    pub webhook_configuration: String,
    /// Of the webhook's own certificate; at least [`CERTIFICATE_LIFETIME_MINIMUM`].
    pub certificate_lifetime: Duration,
    /// How long open requests may take to finish.
    pub drain_grace: Duration,
    /// What to log.
    pub log: String,
    /// How log lines look.
    pub log_format: Format,
}

impl Config {
    /// Reads all settings, or reports every bad one.
    pub fn new(typed: Typed) -> Result<Self, BadSettings> {
        let mut reader = Reader::default();
        let namespace = reader.name(("namespace", typed.namespace), None);
        let pod_name = reader.name(("pod-name", typed.pod_name), Some(DEFAULT_NAME));
        let listen = reader.address(("listen", typed.listen), DEFAULT_LISTEN);
        let metrics_listen =
            reader.address(("metrics-listen", typed.metrics_listen), DEFAULT_METRICS_LISTEN);
        let injector_config = reader.read(
            ("injector-config", typed.injector_config),
            Some(DEFAULT_INJECTOR_CONFIG),
            "a path",
            |text| Some(PathBuf::from(text)),
        );
        let configuration = ("webhook-configuration", typed.webhook_configuration);
        let webhook_configuration = reader.name(configuration, Some(DEFAULT_NAME));
        let certificate_lifetime = reader.read(
            ("certificate-lifetime", typed.certificate_lifetime),
            Some(DEFAULT_CERTIFICATE_LIFETIME),
            "a duration of 5m to 8760h, such as \"2160h\"",
            |text| {
                let lifetime = duration::parse(text).ok()?;
                let allowed = CERTIFICATE_LIFETIME_MINIMUM..=CERTIFICATE_LIFETIME_MAXIMUM;
                allowed.contains(&lifetime).then_some(lifetime)
            },
        );
        let drain_grace = reader.read(
            ("drain-grace", typed.drain_grace),
            Some(DEFAULT_DRAIN_GRACE),
            "a duration such as \"10s\"",
            |text| duration::parse(text).ok(),
        );
        let log = reader.read(
            ("log", typed.log),
            Some(DEFAULT_LOG),
            "a filter such as \"info\"",
            |text| logging::check(text).ok().map(|()| text.to_owned()),
        );
        let log_format = reader.read(
            ("log-format", typed.log_format),
            Some(DEFAULT_LOG_FORMAT),
            "text or json",
            |text| text.parse().ok(),
        );
        let bad = reader.bad;
        let all = move || {
            Some(Self {
                namespace: namespace?,
                pod_name: pod_name?,
                listen: listen?,
                metrics_listen: metrics_listen?,
                injector_config: injector_config?,
                webhook_configuration: webhook_configuration?,
                certificate_lifetime: certificate_lifetime?,
                drain_grace: drain_grace?,
                log: log?,
                log_format: log_format?,
            })
        };
        match all() {
            Some(config) if bad.is_empty() => Ok(config),
            Some(_) | None => Err(BadSettings::new(bad)),
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "namespace={} pod-name={} listen={} metrics-listen={} injector-config={} \
             webhook-configuration={} certificate-lifetime={} drain-grace={} log={} log-format={}",
            self.namespace,
            self.pod_name,
            self.listen,
            self.metrics_listen,
            self.injector_config.display(),
            self.webhook_configuration,
            duration::Text(self.certificate_lifetime),
            duration::Text(self.drain_grace),
            self.log,
            self.log_format,
        )
    }
}

#[derive(Default)]
struct Reader {
    bad: Vec<String>,
}

impl Reader {
    fn name(&mut self, typed: (&str, Option<String>), default: Option<&str>) -> Option<String> {
        self.read(typed, default, "a name such as heddle-system", parse_name)
    }

    fn address(&mut self, typed: (&str, Option<String>), default: &str) -> Option<SocketAddr> {
        let want = "an address and a port such as 0.0.0.0:15243";
        self.read(typed, Some(default), want, |text| text.parse().ok())
    }

    /// An empty text is as good as none: that is how manifests leave a variable out.
    fn read<T>(
        &mut self,
        (flag, typed): (&str, Option<String>),
        default: Option<&str>,
        want: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let typed = typed.filter(|text| !text.is_empty());
        let Some(text) = typed.or_else(|| default.map(str::to_owned)) else {
            self.bad.push(format!("{} is missing (want {want})", names(flag)));
            return None;
        };
        let value = parse(&text);
        if value.is_none() {
            self.bad.push(format!("{}={text:?} (want {want})", names(flag)));
        }
        value
    }
}

/// A DNS subdomain, as names of objects are (RFC 1123): some become part of a certificate.
pub(crate) fn parse_name(text: &str) -> Option<String> {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_label = |label: &str| {
        label.starts_with(alphanumeric)
            && label.ends_with(alphanumeric)
            && label.chars().all(|c| alphanumeric(c) || c == '-')
    };
    (text.len() <= 253 && text.split('.').all(is_label)).then(|| text.to_owned())
}

/// A third of it is left for a renewal, which takes one minute at least, and for an API server that is away.
pub const CERTIFICATE_LIFETIME_MINIMUM: Duration = Duration::from_secs(300);
/// Longer than any certificate should live.
const CERTIFICATE_LIFETIME_MAXIMUM: Duration = Duration::from_hours(365 * 24);
const DEFAULT_LISTEN: &str = "0.0.0.0:15243";
const DEFAULT_METRICS_LISTEN: &str = "0.0.0.0:15291";
const DEFAULT_INJECTOR_CONFIG: &str = "/etc/heddle/injector.yaml";
/// Of the webhook configuration; and of the pod, where it does not say.
const DEFAULT_NAME: &str = "heddle-injector";
/// 90 days: it is renewed after 60.
const DEFAULT_CERTIFICATE_LIFETIME: &str = "2160h";
/// The API server waits for an admission 30 seconds at most, and usually 5.
const DEFAULT_DRAIN_GRACE: &str = "10s";
const DEFAULT_LOG: &str = "info";
const DEFAULT_LOG_FORMAT: &str = "text";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_enough() {
        let typed = Typed { namespace: Some("heddle-system".into()), ..Typed::default() };
        insta::assert_snapshot!(Config::new(typed).unwrap(), @"namespace=heddle-system pod-name=heddle-injector listen=0.0.0.0:15243 metrics-listen=0.0.0.0:15291 injector-config=/etc/heddle/injector.yaml webhook-configuration=heddle-injector certificate-lifetime=2160h drain-grace=10s log=info log-format=text");
    }

    #[test]
    fn every_bad_setting_is_reported_at_once() {
        let typed = Typed {
            listen: Some("15243".into()),
            certificate_lifetime: Some("1s".into()),
            webhook_configuration: Some("A_B".into()),
            log_format: Some("xml".into()),
            ..Typed::default()
        };
        insta::assert_snapshot!(Config::new(typed).unwrap_err(), @r#"5 bad settings: --namespace (HEDDLE_NAMESPACE) is missing (want a name such as heddle-system); --listen (HEDDLE_LISTEN)="15243" (want an address and a port such as 0.0.0.0:15243); --webhook-configuration (HEDDLE_WEBHOOK_CONFIGURATION)="A_B" (want a name such as heddle-system); --certificate-lifetime (HEDDLE_CERTIFICATE_LIFETIME)="1s" (want a duration of 5m to 8760h, such as "2160h"); --log-format (HEDDLE_LOG_FORMAT)="xml" (want text or json)"#);
    }

    #[test]
    fn names_are_those_of_objects() {
        for (text, good) in
            [("a", true), ("a-1.b", true), ("", false), ("-a", false), ("a.", false), ("A", false)]
        {
            assert_eq!(parse_name(text).is_some(), good, "case: {text}");
        }
    }
}
