//! Settings of `heddle-proxy run`: from flags and variables as typed to a [`Config`] as meant. All that
//! is wrong is reported at once.

mod access_log;
mod limits;
mod telemetry;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use heddle_model::access_log::AccessLog;
use heddle_model::identity::{PodUid, TrustDomain};
use heddle_model::names::Port;
use heddle_runtime::{duration, logging};
use heddle_telemetry::settings::TelemetrySettings;
use heddle_telemetry::settings::variables::variables;

use crate::listen::DataPathSettings;
use crate::telemetry::owner::Owner;

/// What a proxy runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the control plane is.
    pub control_plane: HostPort,
    /// A file with the trust anchors to begin with, PEM.
    pub trust_anchors: PathBuf,
    /// A file with the token that proves which workload this is; read again for each certificate.
    pub token_file: PathBuf,
    /// The pod this proxy serves.
    pub pod_uid: PodUid,
    /// What made the pod, if that is known; for telemetry.
    pub owner: Option<Owner>,
    /// The trust domain of the mesh.
    pub trust_domain: TrustDomain,
    /// Where outgoing connections are redirected to.
    pub outbound_port: Port,
    /// Where incoming connections are redirected to.
    pub inbound_port: Port,
    /// Where `/metrics`, `/ready` and `/live` are.
    pub admin_port: Port,
    /// Put on every socket that the proxy opens (SO_MARK), so that the redirect lets it pass.
    pub mark: Option<u32>,
    /// How long connections may take to finish after SIGTERM; zero: none.
    pub drain_grace: Duration,
    /// Limits on time, number and memory; without the mark.
    pub limits: DataPathSettings,
    /// How many threads carry traffic. One: beside an application there is rarely work for two, and a task that wakes
    /// another thread's pays for that with system calls.
    pub workers: usize,
    /// Where telemetry goes.
    pub telemetry: TelemetrySettings,
    /// The Secret that the headers for the collector are to be from.
    pub headers_secret: Option<String>,
    /// How often the control plane is told of all metrics.
    pub telemetry_interval: Duration,
    /// What is written down of requests and connections, unless the workload says otherwise.
    pub access_log: AccessLog,
    /// What is logged, as `tracing-subscriber` reads it.
    pub log: String,
    /// How log lines look.
    pub log_format: logging::Format,
}

/// A host, by name or address, with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: Port,
}

impl FromStr for HostPort {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or(())?,
            // Without brackets the last part of an IPv6 address would be taken for a port.
            None if host.contains(':') => return Err(()),
            None => host,
        };
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
        if host.is_empty() || !host.chars().all(valid) {
            return Err(());
        }
        Ok(Self { host: host.to_owned(), port: parse_port(port).ok_or(())? })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Every setting that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSettings(Vec<String>);

impl fmt::Display for BadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.0.len() == 1 { "setting" } else { "settings" };
        write!(f, "{} bad {noun}: {}", self.0.len(), self.0.join("; "))
    }
}

impl std::error::Error for BadSettings {}

impl Config {
    /// Reads what was typed. No value is refused by clap itself, so that all bad ones are reported.
    pub fn read(matches: &ArgMatches) -> Result<Self, BadSettings> {
        let mut reader = Reader { matches, problems: Vec::new() };
        let path = "a path";
        let port = "1-65535";
        let control_plane = reader.required(&CONTROL_PLANE, "HOST:PORT", |text| text.parse().ok());
        let trust_anchors = reader.required(&TRUST_ANCHORS, path, parse_path);
        let token_file = reader.required(&TOKEN_FILE, path, parse_path);
        let pod_uid =
            reader.required(&POD_UID, "a pod's UID: a DNS label", |text| text.parse().ok());
        let owner = reader.optional(&OWNER, "KIND/NAME", |text| text.parse().ok());
        let trust_domain =
            reader.required(&TRUST_DOMAIN, "a lower-case DNS name", |text| text.parse().ok());
        let outbound_port = reader.required(&OUTBOUND_PORT, port, parse_port);
        let inbound_port = reader.required(&INBOUND_PORT, port, parse_port);
        let admin_port = reader.required(&ADMIN_PORT, port, parse_port);
        let mark = reader.optional(&MARK, "1-4294967295, or hexadecimal as 0x1", parse_mark);
        let drain_grace = reader.required(&DRAIN_GRACE, "a duration such as \"30s\"", |text| {
            duration::parse(text).ok()
        });
        let limits = limits::read(&mut reader);
        let workers = limits::workers(&mut reader);
        let telemetry = telemetry::read(&mut reader);
        let headers_secret = reader.text(&HEADERS_SECRET);
        let want = "a duration above zero such as \"10s\"";
        let telemetry_interval = reader.required(&TELEMETRY_INTERVAL, want, |text| {
            duration::parse(text).ok().filter(|interval| !interval.is_zero())
        });
        let access_log = access_log::read(&mut reader);
        let log = reader.required(&LOG, "a filter such as \"info\"", |text| Some(text.to_owned()));
        let log_format = reader.required(&LOG_FORMAT, "text or json", |text| text.parse().ok());
        reader.distinct([
            (&OUTBOUND_PORT, outbound_port),
            (&INBOUND_PORT, inbound_port),
            (&ADMIN_PORT, admin_port),
        ]);
        let problems = std::mem::take(&mut reader.problems);
        let complete = || {
            Some(Self {
                control_plane: control_plane?,
                trust_anchors: trust_anchors?,
                token_file: token_file?,
                pod_uid: pod_uid?,
                owner,
                trust_domain: trust_domain?,
                outbound_port: outbound_port?,
                inbound_port: inbound_port?,
                admin_port: admin_port?,
                mark,
                drain_grace: drain_grace?,
                limits,
                workers: workers?,
                telemetry: telemetry?,
                headers_secret,
                telemetry_interval: telemetry_interval?,
                access_log,
                log: log?,
                log_format: log_format?,
            })
        };
        match complete() {
            Some(config) if problems.is_empty() => Ok(config),
            Some(_) | None => Err(BadSettings(problems)),
        }
    }
}

impl Config {
    /// The Secret that no headers for the collector have come from, though they were to.
    pub fn missing_headers(&self) -> Option<&str> {
        let TelemetrySettings { metrics, traces, logs, .. } = &self.telemetry;
        let mut collectors = [metrics, traces, logs].into_iter().flatten();
        let is_missing = collectors.any(|collector| collector.headers.is_empty());
        self.headers_secret.as_deref().filter(|_| is_missing)
    }
}

impl fmt::Display for Config {
    /// For the log. The token is in a file, so that nothing here is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "control-plane={}", self.control_plane)?;
        write!(f, " trust-anchors={}", self.trust_anchors.display())?;
        write!(f, " token-file={}", self.token_file.display())?;
        write!(f, " pod-uid={} trust-domain={}", self.pod_uid, self.trust_domain)?;
        write!(f, " outbound-port={}", self.outbound_port)?;
        write!(f, " inbound-port={} admin-port={}", self.inbound_port, self.admin_port)?;
        write!(f, " workers={}", self.workers)?;
        match self.mark {
            Some(mark) => write!(f, " mark={mark}")?,
            None => f.write_str(" mark=none")?,
        }
        write!(f, " drain-grace={}", duration::Text(self.drain_grace))?;
        limits::show(&self.limits, f)?;

        write!(f, " telemetry={}", self.telemetry)?;
        access_log::show(self.access_log, f)?;
        write!(f, " log={} log-format={}", self.log, self.log_format)
    }
}

/// The subcommand with all settings.
pub fn command(name: &'static str) -> Command {
    let settings = [
        &CONTROL_PLANE,
        &TRUST_ANCHORS,
        &TOKEN_FILE,
        &POD_UID,
        &OWNER,
        &TRUST_DOMAIN,
        &OUTBOUND_PORT,
        &INBOUND_PORT,
        &ADMIN_PORT,
        &MARK,
        &DRAIN_GRACE,
        &HEADERS_SECRET,
        &TELEMETRY_INTERVAL,
        &LOG,
        &LOG_FORMAT,
    ];
    let settings = settings.into_iter().chain(access_log::SETTINGS).chain(limits::settings());
    let command = settings.fold(Command::new(name), |command, setting| {
        let argument = Arg::new(setting.flag)
            .long(setting.flag)
            .env(setting.variable)
            .value_name(setting.value_name)
            .help(setting.help);
        command.arg(match setting.default {
            Some(default) => argument.default_value(default),
            None => argument,
        })
    });
    variables().fold(command, |command, variable| {
        let argument = Arg::new(variable.flag)
            .long(variable.flag)
            .env(variable.name)
            .hide_env_values(true)
            .value_name(variable.value_name)
            .help_heading("OpenTelemetry")
            .help(variable.help);
        command.arg(argument)
    })
}

struct Setting {
    flag: &'static str,
    variable: &'static str,
    value_name: &'static str,
    default: Option<&'static str>,
    help: &'static str,
}

/// Reads settings one by one and remembers what is wrong.
struct Reader<'a> {
    matches: &'a ArgMatches,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn required<T>(
        &mut self,
        setting: &Setting,
        want: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        if self.text(setting).is_none() {
            let name = setting.variable;
            self.problems.push(format!("{name} is not set (want {want}, or --{})", setting.flag));
            return None;
        }
        self.optional(setting, want, parse)
    }

    fn optional<T>(
        &mut self,
        setting: &Setting,
        want: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(setting)?;
        let value = parse(&text);
        if value.is_none() {
            let name = self.name(setting);
            self.problems.push(format!("{name}={text:?} (want {want})"));
        }
        value
    }

    fn distinct(&mut self, ports: [(&Setting, Option<Port>); 3]) {
        for (index, (setting, port)) in ports.iter().enumerate() {
            let Some(port) = port else { continue };
            let earlier = ports.iter().take(index).find(|(_, other)| other.as_ref() == Some(port));
            if let Some((other, _)) = earlier {
                let name = self.name(setting);
                let want = format!("another one than --{} has", other.flag);
                self.problems.push(format!("{name}=\"{port}\" (want {want})"));
            }
        }
    }

    /// An empty text is as good as none: that is how manifests leave a variable out.
    fn text(&self, setting: &Setting) -> Option<String> {
        self.matches.get_one::<String>(setting.flag).filter(|text| !text.is_empty()).cloned()
    }

    /// As it was typed: a flag or a variable.
    fn name(&self, setting: &Setting) -> String {
        match self.matches.value_source(setting.flag) {
            Some(ValueSource::CommandLine) => format!("--{}", setting.flag),
            Some(_) | None => setting.variable.to_owned(),
        }
    }
}

fn parse_path(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(text))
}

fn parse_port(text: &str) -> Option<Port> {
    text.parse().ok().and_then(Port::new)
}

fn parse_mark(text: &str) -> Option<u32> {
    let mark = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => text.parse().ok()?,
    };
    // Every socket has mark zero to begin with: it exempts nothing.
    (mark != 0).then_some(mark)
}

const CONTROL_PLANE: Setting = Setting {
    flag: "control-plane",
    variable: "HEDDLE_CONTROL_PLANE",
    value_name: "HOST:PORT",
    default: None,
    help: "Where the control plane is",
};
const TRUST_ANCHORS: Setting = Setting {
    flag: "trust-anchors",
    variable: "HEDDLE_TRUST_ANCHORS",
    value_name: "FILE",
    default: None,
    help: "Trust anchors to begin with, PEM",
};
const TOKEN_FILE: Setting = Setting {
    flag: "token-file",
    variable: "HEDDLE_TOKEN_FILE",
    value_name: "FILE",
    default: None,
    help: "The token that proves which workload this is; read again for each certificate",
};
const POD_UID: Setting = Setting {
    flag: "pod-uid",
    variable: "HEDDLE_POD_UID",
    value_name: "UID",
    default: None,
    help: "The pod that this proxy serves",
};
const OWNER: Setting = Setting {
    flag: "owner",
    variable: "HEDDLE_OWNER",
    value_name: "KIND/NAME",
    default: None,
    help: "What made the pod, such as Deployment/api; for telemetry",
};
const TRUST_DOMAIN: Setting = Setting {
    flag: "trust-domain",
    variable: "HEDDLE_TRUST_DOMAIN",
    value_name: "NAME",
    default: Some("cluster.local"),
    help: "The trust domain of the mesh",
};
const OUTBOUND_PORT: Setting = Setting {
    flag: "outbound-port",
    variable: "HEDDLE_OUTBOUND_PORT",
    value_name: "PORT",
    default: Some("15101"),
    help: "Where outgoing connections are redirected to",
};
const INBOUND_PORT: Setting = Setting {
    flag: "inbound-port",
    variable: "HEDDLE_INBOUND_PORT",
    value_name: "PORT",
    default: Some("15106"),
    help: "Where incoming connections are redirected to",
};
const ADMIN_PORT: Setting = Setting {
    flag: "admin-port",
    variable: "HEDDLE_ADMIN_PORT",
    value_name: "PORT",
    default: Some("15190"),
    help: "Where /metrics, /ready and /live are",
};
const MARK: Setting = Setting {
    flag: "mark",
    variable: "HEDDLE_MARK",
    value_name: "NUMBER",
    default: None,
    help: "Put on every socket that the proxy opens (SO_MARK), so that the redirect lets it pass",
};
const DRAIN_GRACE: Setting = Setting {
    flag: "drain-grace",
    variable: "HEDDLE_DRAIN_GRACE",
    value_name: "DURATION",
    default: Some("30s"),
    help: "How long connections may take to finish after SIGTERM",
};
const HEADERS_SECRET: Setting = Setting {
    flag: "collector-headers-secret",
    variable: "HEDDLE_COLLECTOR_HEADERS_SECRET",
    value_name: "NAME",
    default: None,
    help: "The Secret that OTEL_EXPORTER_OTLP_HEADERS is to come from; if it does not, the proxy warns, and exports without",
};
const TELEMETRY_INTERVAL: Setting = Setting {
    flag: "telemetry-interval",
    variable: "HEDDLE_TELEMETRY_INTERVAL",
    value_name: "DURATION",
    default: Some("10s"),
    help: "How often the control plane is told of all metrics",
};
const LOG: Setting = Setting {
    flag: "log",
    variable: "HEDDLE_LOG",
    value_name: "FILTER",
    default: Some("info"),
    help: "What is logged, such as info or info,heddle_proxy=debug",
};
const LOG_FORMAT: Setting = Setting {
    flag: "log-format",
    variable: "HEDDLE_LOG_FORMAT",
    value_name: "FORMAT",
    default: Some("text"),
    help: "How log lines look: text or json",
};

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Config, BadSettings> {
        let complete = [
            "run",
            "--control-plane=10.42.0.1:15210",
            "--trust-anchors=/a.pem",
            "--token-file=/token",
            "--pod-uid=uid-1",
        ];
        let arguments = complete.iter().chain(arguments);
        // The last of several wins, as a test needs it.
        let command = command("run").args_override_self(true);
        Config::read(&command.try_get_matches_from(arguments).unwrap())
    }

    #[test]
    fn defaults_are_those_of_the_design() {
        let config = read(&[]).unwrap();
        let ports = [config.outbound_port, config.inbound_port, config.admin_port];
        assert_eq!(ports.map(Port::number), [15101, 15106, 15190]);
        assert_eq!(config.mark, None);
        assert_eq!(config.drain_grace, Duration::from_secs(30));
    }

    #[test]
    fn all_bad_settings_are_reported_at_once() {
        let bad = [
            "--drain-grace=5",
            "--inbound-port=0",
            "--pod-uid=A_B",
            "--body-idle-timeout=0",
            "--access-log=on",
        ];
        let error = read(&bad).unwrap_err();
        assert_eq!(
            error.to_string(),
            "5 bad settings: --pod-uid=\"A_B\" (want a pod's UID: a DNS label); \
             --inbound-port=\"0\" (want 1-65535); \
             --drain-grace=\"5\" (want a duration such as \"30s\"); \
             --body-idle-timeout=\"0\" (want a duration above zero such as \"30s\"); \
             --access-log=\"on\" (want \"off\", \"errors\" or \"all\")"
        );
    }

    #[test]
    fn two_listeners_cannot_share_a_port() {
        let error = read(&["--admin-port=15106"]).unwrap_err();
        let expected =
            "1 bad setting: --admin-port=\"15106\" (want another one than --inbound-port has)";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn marks_are_numbers_but_zero() {
        for (text, expected) in [("1", Some(1)), ("0x10", Some(16)), ("0", None), ("x", None)] {
            assert_eq!(parse_mark(text), expected, "case: {text}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses_with_a_port() {
        for text in ["10.42.0.1:15210", "[fd42::1]:15210", "heddle.heddle-system.svc:1"] {
            let parsed: HostPort = text.parse().unwrap();
            assert_eq!(parsed.to_string(), text, "case: {text}");
        }
        for text in ["", "host", "host:", "host:0", ":1", "fd42::1", "[fd42::1", "a b:1", "h:65536"]
        {
            assert!(text.parse::<HostPort>().is_err(), "case: {text}");
        }
    }

    #[test]
    fn headers_that_did_not_come_from_their_secret_are_missed() {
        let secret = "--collector-headers-secret=key";
        let endpoint = "--otel-exporter-otlp-endpoint=http://c:4318";
        let headers = "--otel-exporter-otlp-headers=api-key=abc";
        for (case, arguments, expected) in [
            ("nothing is named", &[endpoint][..], None),
            ("it is not there", &[endpoint, secret], Some("key")),
            ("it is empty", &[endpoint, secret, "--otel-exporter-otlp-headers="], Some("key")),
            ("it is none", &[endpoint, secret, "--otel-exporter-otlp-headers=abc"], Some("key")),
            ("it is there", &[endpoint, secret, headers], None),
            ("there is no collector", &[secret], None),
        ] {
            let config = read(arguments).unwrap();
            assert_eq!(config.missing_headers(), expected, "case: {case}");
            assert!(!format!("{config} {config:?}").contains("abc"), "case: {case}");
        }
        for (case, arguments) in [
            (
                "headers that are none, and of no Secret",
                &[endpoint, "--otel-exporter-otlp-headers=abc"][..],
            ),
            (
                "something else is wrong, too",
                &[
                    endpoint,
                    secret,
                    "--otel-exporter-otlp-headers=abc",
                    "--otel-exporter-otlp-protocol=x",
                ],
            ),
        ] {
            let bad = read(arguments).unwrap_err().to_string();
            assert!(
                bad.contains("OTEL_EXPORTER_OTLP_HEADERS") && !bad.contains("abc"),
                "case: {case}: {bad}"
            );
        }
    }

    #[test]
    fn the_number_of_workers_has_bounds() {
        for (text, expected) in [("1", Some(1)), ("256", Some(256)), ("0", None), ("257", None)] {
            let read = read(&[&format!("--workers={text}")]);
            match (read, expected) {
                (Ok(config), Some(workers)) => assert_eq!(config.workers, workers),
                (Err(bad), None) => assert!(bad.to_string().contains("from 1 to 256"), "{bad}"),
                (read, _) => panic!("case {text}: {read:?}"),
            }
        }
        assert!(read(&[]).unwrap().to_string().contains(" workers=1 "), "it is logged");
    }

    #[test]
    fn the_effective_config_is_printed_whole() {
        let limits = ["--mark=7", "--body-idle-timeout=7s", "--memory-limit=1Mi"];
        let limited = read(&limits).unwrap().to_string();
        let expected = "drain-grace=30s body-idle-timeout=7s memory-limit=1048576 telemetry=control-plane log=info";
        assert!(limited.contains(expected), "{limited}");
        let logged = read(&["--access-log=all", "--access-log-format=json"]).unwrap().to_string();
        assert!(logged.contains(" access-log=all access-log-format=json log=info"), "{logged}");
        let printed = read(&["--mark=7"]).unwrap().to_string();
        assert!(
            printed.contains(
                "mark=7 drain-grace=30s telemetry=control-plane log=info log-format=text"
            ),
            "{printed}"
        );
    }
}
