//! Settings: as typed (flags, environment) → as meant. Every bad one is reported at once.

pub mod collector;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use heddle_model::identity::TrustDomain;
use heddle_runtime::duration;
use heddle_runtime::logging::Format;
use heddle_runtime::settings::{BadSettings, names};
use heddle_tls::authority::LEAF_LIFETIME_MINIMUM;

use crate::config::collector::{CollectorTyped, ForwardSettings};

/// Settings as typed.
#[derive(Clone, Debug, Default, Parser)]
#[command(
    name = "heddle-control-plane",
    version,
    about = "The control plane of the mesh: reads configuration, issues certificates, tells proxies"
)]
pub struct Typed {
    /// Directory of Kubernetes YAML to read and watch
    #[arg(long, env = "HEDDLE_DIRECTORY", value_name = "DIR")]
    pub directory: Option<String>,
    /// Directory for the certificate authority's keys; trust-anchors.pem is written there
    #[arg(long, env = "HEDDLE_STATE_DIRECTORY", value_name = "DIR")]
    pub state_directory: Option<String>,
    /// JSON file of join tokens' hashes and whom they were given to
    #[arg(long, env = "HEDDLE_JOIN_TOKENS", value_name = "FILE")]
    pub join_tokens: Option<String>,
    /// Read the Kubernetes API instead of a directory: true or false [default: false]
    #[arg(long, env = "HEDDLE_KUBERNETES", value_name = "BOOL")]
    pub kubernetes: Option<String>,
    /// On Kubernetes: the namespace of the mesh [default: heddle-system]
    #[arg(long, env = "HEDDLE_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// On Kubernetes: the name of this pod
    #[arg(long, env = "HEDDLE_POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
    /// Address to serve proxies at [default: 0.0.0.0:15210]
    #[arg(long, env = "HEDDLE_LISTEN", value_name = "ADDR")]
    pub listen: Option<String>,
    /// Unix socket to serve the status at, for its owner alone
    #[arg(long, env = "HEDDLE_ADMIN_SOCKET", value_name = "PATH")]
    pub admin_socket: Option<String>,
    /// Loopback address to serve the status at, such as 127.0.0.1:15211
    #[arg(long, env = "HEDDLE_ADMIN_LISTEN", value_name = "ADDR")]
    pub admin_listen: Option<String>,
    /// Address to serve /metrics, /ready and /live at
    #[arg(long, env = "HEDDLE_METRICS_LISTEN", value_name = "ADDR")]
    pub metrics_listen: Option<String>,
    /// Trust domain of all identities [default: cluster.local]
    #[arg(long, env = "HEDDLE_TRUST_DOMAIN", value_name = "NAME")]
    pub trust_domain: Option<String>,
    /// How long certificates of workloads are valid [default: 24h]
    #[arg(long, env = "HEDDLE_LEAF_LIFETIME", value_name = "DURATION")]
    pub leaf_lifetime: Option<String>,
    /// How long open requests may take to finish after SIGTERM [default: 5s]
    #[arg(long, env = "HEDDLE_DRAIN_GRACE", value_name = "DURATION")]
    pub drain_grace: Option<String>,
    /// What to log, such as "info" or "info,heddle_control_plane=debug" [default: info]
    #[arg(long, env = "HEDDLE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How log lines look: text or json [default: text]
    #[arg(long, env = "HEDDLE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Where the metrics of proxies go on to
    #[command(flatten)]
    pub collector: CollectorTyped,
}

/// Settings as meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What to read and watch.
    pub source: Source,
    /// Where proxies are served.
    pub listen: SocketAddr,
    /// Where the status is served; `None`: nowhere.
    pub admin_socket: Option<PathBuf>,
    /// Where the status is served, too: a loopback address; `None`: nowhere.
    pub admin_listen: Option<SocketAddr>,
    /// Where metrics are served; `None`: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Of all identities.
    pub trust_domain: TrustDomain,
    /// Of certificates of workloads; at least [`LEAF_LIFETIME_MINIMUM`].
    pub leaf_lifetime: Duration,
    /// How long open requests may take to finish.
    pub drain_grace: Duration,
    /// What to log.
    pub log: String,
    /// How log lines look.
    pub log_format: Format,
    /// Where the metrics of proxies go on to; `None`: nowhere.
    pub forward: Option<ForwardSettings>,
}

/// Where configuration, keys and identities come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory of Kubernetes YAML.
    Directory {
        /// What to read and watch.
        directory: PathBuf,
        /// Where the authority's keys are.
        state_directory: PathBuf,
        /// Hashes of join tokens.
        join_tokens: PathBuf,
    },
    /// A cluster.
    Kubernetes {
        /// The mesh's own.
        namespace: String,
        /// Of this pod.
        pod_name: String,
    },
}

impl Config {
    /// Reads all settings, or reports every bad one.
    pub fn new(typed: Typed) -> Result<Self, BadSettings> {
        let mut reader = Reader::default();
        let source = reader.source(SourceTyped {
            kubernetes: typed.kubernetes,
            directory: typed.directory,
            state_directory: typed.state_directory,
            join_tokens: typed.join_tokens,
            namespace: typed.namespace,
            pod_name: typed.pod_name,
        });
        let listen = reader.read(("listen", typed.listen), Some(DEFAULT_LISTEN), ADDRESS, |text| {
            text.parse().ok()
        });
        let admin_listen = reader.loopback("admin-listen", typed.admin_listen);
        let metrics_listen =
            reader.read(("metrics-listen", typed.metrics_listen), None, ADDRESS, |text| {
                text.parse().ok()
            });
        let trust_domain = reader.read(
            ("trust-domain", typed.trust_domain),
            Some(DEFAULT_TRUST_DOMAIN),
            "a lower-case DNS name such as cluster.local",
            |text| text.parse().ok(),
        );
        let leaf_lifetime = reader.read(
            ("leaf-lifetime", typed.leaf_lifetime),
            Some(DEFAULT_LEAF_LIFETIME),
            "a duration of 30s to 365 days, such as \"24h\"",
            |text| {
                let lifetime = duration::parse(text).ok()?;
                (LEAF_LIFETIME_MINIMUM..=LEAF_LIFETIME_MAXIMUM)
                    .contains(&lifetime)
                    .then_some(lifetime)
            },
        );
        let drain_grace = reader.read(
            ("drain-grace", typed.drain_grace),
            Some(DEFAULT_DRAIN_GRACE),
            "a duration such as \"5s\"",
            |text| duration::parse(text).ok(),
        );
        let log_format = reader.read(
            ("log-format", typed.log_format),
            Some(DEFAULT_LOG_FORMAT),
            "text or json",
            |text| text.parse().ok(),
        );
        let forward = ForwardSettings::read(&typed.collector);
        let forward = forward.map_err(|problems| reader.bad.extend(problems)).ok();
        let admin_socket = typed.admin_socket.filter(|path| !path.is_empty()).map(PathBuf::from);
        let log = typed.log.unwrap_or_else(|| DEFAULT_LOG.to_owned());
        let all = (|| {
            Some(Self {
                source: source?,
                listen: listen?,
                admin_socket,
                admin_listen,
                metrics_listen,
                trust_domain: trust_domain?,
                leaf_lifetime: leaf_lifetime?,
                drain_grace: drain_grace?,
                log,
                log_format: log_format?,
                forward: forward?,
            })
        })();
        match all {
            Some(config) if reader.bad.is_empty() => Ok(config),
            Some(_) | None => Err(BadSettings::new(reader.bad)),
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let optional = |path: Option<String>| path.unwrap_or_else(|| "none".to_owned());
        write!(
            f,
            "{} listen={} admin-socket={} admin-listen={} \
             metrics-listen={} trust-domain={} leaf-lifetime={} drain-grace={} collector={} log={} log-format={}",
            self.source,
            self.listen,
            optional(self.admin_socket.as_ref().map(|path| path.display().to_string())),
            optional(self.admin_listen.map(|address| address.to_string())),
            optional(self.metrics_listen.map(|address| address.to_string())),
            self.trust_domain,
            duration::Text(self.leaf_lifetime),
            duration::Text(self.drain_grace),
            optional(self.forward.as_ref().map(|forward| forward.collector.shown_endpoint())),
            self.log,
            self.log_format,
        )
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { directory, state_directory, join_tokens } => write!(
                f,
                "directory={} state-directory={} join-tokens={}",
                directory.display(),
                state_directory.display(),
                join_tokens.display(),
            ),
            Self::Kubernetes { namespace, pod_name } => {
                write!(f, "kubernetes=true namespace={namespace} pod-name={pod_name}")
            }
        }
    }
}

#[derive(Default)]
struct Reader {
    bad: Vec<String>,
}

/// The settings of a source, as typed.
struct SourceTyped {
    kubernetes: Option<String>,
    directory: Option<String>,
    state_directory: Option<String>,
    join_tokens: Option<String>,
    namespace: Option<String>,
    pod_name: Option<String>,
}

impl Reader {
    fn source(&mut self, typed: SourceTyped) -> Option<Source> {
        let on_kubernetes =
            self.read(("kubernetes", typed.kubernetes), Some("false"), "true or false", |text| {
                text.parse::<bool>().ok()
            })?;
        if !on_kubernetes {
            let directory = self.required("directory", typed.directory);
            let state_directory = self.required("state-directory", typed.state_directory);
            let join_tokens = self.required("join-tokens", typed.join_tokens);
            return Some(Source::Directory {
                directory: directory?,
                state_directory: state_directory?,
                join_tokens: join_tokens?,
            });
        }
        for (flag, typed) in [
            ("directory", typed.directory),
            ("state-directory", typed.state_directory),
            ("join-tokens", typed.join_tokens),
        ] {
            if typed.is_some_and(|text| !text.is_empty()) {
                let message = "will not do with --kubernetes=true (want one of them)";
                self.bad.push(format!("{} {message}", names(flag)));
            }
        }
        let is_name = |text: &str| is_name(text).then(|| text.to_owned());
        let namespace =
            self.read(("namespace", typed.namespace), Some(DEFAULT_NAMESPACE), NAME, is_name);
        let pod_name = self.read(("pod-name", typed.pod_name), Some(""), NAME, is_name);
        Some(Source::Kubernetes { namespace: namespace?, pod_name: pod_name? })
    }

    fn loopback(&mut self, flag: &str, typed: Option<String>) -> Option<SocketAddr> {
        let want = "a loopback address and a port such as 127.0.0.1:15211: whoever reaches it may ask \
                    for anything, and rotate keys";
        let typed = typed.filter(|text| !text.is_empty());
        self.read((flag, typed), None, want, |text| {
            text.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback())
        })
    }

    fn required(&mut self, flag: &str, typed: Option<String>) -> Option<PathBuf> {
        match typed.filter(|text| !text.is_empty()) {
            Some(text) => Some(PathBuf::from(text)),
            None => {
                self.bad.push(format!("{} is missing (want a path)", names(flag)));
                None
            }
        }
    }

    fn read<T>(
        &mut self,
        (flag, typed): (&str, Option<String>),
        default: Option<&str>,
        want: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = typed.or_else(|| default.map(str::to_owned))?;
        let value = parse(&text);
        if value.is_none() {
            self.bad.push(format!("{}={text:?} (want {want})", names(flag)));
        }
        value
    }
}

/// As Kubernetes has it.
fn is_name(text: &str) -> bool {
    let of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=NAME_LIMIT_BYTES).contains(&text.len())
        && text.bytes().all(|byte| of_name(byte) || matches!(byte, b'-' | b'.'))
}

const NAME: &str = "a name of Kubernetes: lower-case letters, digits, - and .";
/// RFC 1123, as Kubernetes has it.
const NAME_LIMIT_BYTES: usize = 253;
/// Where the mesh's own parts are.
const DEFAULT_NAMESPACE: &str = "heddle-system";
const ADDRESS: &str = "an address and a port such as 0.0.0.0:15210";
/// The control plane's port; see ARCHITECTURE.md, "Ports and ids".
const DEFAULT_LISTEN: &str = "0.0.0.0:15210";
/// As in most clusters.
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";
/// Short enough to do without revocation, long enough to outlast a night without a control plane.
const DEFAULT_LEAF_LIFETIME: &str = "24h";
/// Longer than any certificate should live.
const LEAF_LIFETIME_MAXIMUM: Duration = Duration::from_secs(365 * 24 * 3600);
/// Requests are short; streams end at once.
const DEFAULT_DRAIN_GRACE: &str = "5s";
/// Life cycles and everything worse.
const DEFAULT_LOG: &str = "info";
/// For people.
const DEFAULT_LOG_FORMAT: &str = "text";

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Typed {
        Typed {
            directory: Some("/d".into()),
            state_directory: Some("/s".into()),
            join_tokens: Some("/t".into()),
            ..Typed::default()
        }
    }

    #[test]
    fn defaults_fill_what_is_not_set() {
        let config = Config::new(good()).unwrap();
        insta::assert_snapshot!(config, @"directory=/d state-directory=/s join-tokens=/t listen=0.0.0.0:15210 admin-socket=none admin-listen=none metrics-listen=none trust-domain=cluster.local leaf-lifetime=24h drain-grace=5s collector=none log=info log-format=text");
    }

    #[test]
    fn the_status_is_served_on_loopback_addresses_only() {
        for (address, good) in [
            ("127.0.0.1:15211", true),
            ("[::1]:15211", true),
            ("0.0.0.0:15211", false),
            ("10.0.0.7:15211", false),
            ("localhost:15211", false),
        ] {
            let typed = Typed { admin_listen: Some(address.into()), ..self::good() };
            match Config::new(typed) {
                Ok(config) => assert!(good && config.admin_listen.is_some(), "case: {address}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!good && error.contains("want a loopback address"), "{error}");
                }
            }
        }
    }

    #[test]
    fn on_kubernetes_there_is_no_directory() {
        let on_kubernetes = |typed: Typed| Typed { kubernetes: Some("true".into()), ..typed };
        let typed = Typed { pod_name: Some("heddle-control-plane-1".into()), ..Typed::default() };
        let config = Config::new(on_kubernetes(typed)).unwrap();
        insta::assert_snapshot!(config.source, @"kubernetes=true namespace=heddle-system pod-name=heddle-control-plane-1");
        let error = Config::new(on_kubernetes(good())).unwrap_err();
        insta::assert_snapshot!(error, @r#"4 bad settings: --directory (HEDDLE_DIRECTORY) will not do with --kubernetes=true (want one of them); --state-directory (HEDDLE_STATE_DIRECTORY) will not do with --kubernetes=true (want one of them); --join-tokens (HEDDLE_JOIN_TOKENS) will not do with --kubernetes=true (want one of them); --pod-name (HEDDLE_POD_NAME)="" (want a name of Kubernetes: lower-case letters, digits, - and .)"#);
        let typed = Typed { kubernetes: Some("yes".into()), ..good() };
        insta::assert_snapshot!(Config::new(typed).unwrap_err(), @r#"1 bad setting: --kubernetes (HEDDLE_KUBERNETES)="yes" (want true or false)"#);
    }

    #[test]
    fn every_bad_setting_is_reported_at_once() {
        let typed = Typed {
            directory: None,
            listen: Some("15210".into()),
            metrics_listen: Some("x".into()),
            trust_domain: Some("Mesh".into()),
            leaf_lifetime: Some("5s".into()),
            log_format: Some("xml".into()),
            ..good()
        };
        insta::assert_snapshot!(Config::new(typed).unwrap_err());
    }
}
