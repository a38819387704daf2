//! Which requests `meshctl tap` and `meshctl trace` are about, as typed.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use heddle_model::names::ServiceName;
use heddle_model::tap::{
    Filter, HIGHEST_RATE, LONGEST, Limits, SHOWN_VALUES_LIMIT, Shown, Side, StatusRange, Subject,
    Tap, TapRequest, Target as Called, is_secret_header,
};
use heddle_runtime::duration;

use crate::failure::Failure;
use crate::target::TargetArguments;

/// `meshctl tap`.
#[derive(Clone, Debug, Args)]
#[command(after_help = TAP_AFTER_HELP)]
pub struct TapArguments {
    /// Whose requests: deploy/NAME, sts/NAME, ds/NAME, job/NAME, pod/NAME, svc/NAME, ns/NAME [default: the namespace's]
    #[arg(value_name = "RESOURCE")]
    pub resource: Option<Resource>,
    /// Which of them.
    #[command(flatten)]
    pub which: Which,
    /// Show headers: names, and values of those that hold no secrets
    #[arg(long)]
    pub headers: bool,
    /// Show this header's value too, unless it holds a secret; may be there several times
    #[arg(long, value_name = "NAME", requires = "headers", value_parser = header_name)]
    pub show_header: Vec<String>,
    /// End after so many requests
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Lines::Text)]
    pub output: Lines,
}

/// How requests are printed, each when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lines {
    /// A line for each, for people.
    Text,
    /// A JSON object on a line, for machines; the fields are stable.
    Json,
}

/// Which requests.
#[derive(Clone, Debug, Args)]
pub struct Which {
    /// The namespace of RESOURCE [default: the context's]
    #[arg(short, long, conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// All workloads of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// As the workload sees it: requests that it gets, or that it sends
    #[arg(long, value_enum)]
    pub direction: Option<Direction>,
    /// With this method, such as GET
    #[arg(long, value_name = "METHOD", value_parser = short_text)]
    pub method: Option<String>,
    /// With a path that begins so
    #[arg(long, value_name = "PREFIX", value_parser = path)]
    pub path: Option<String>,
    /// That this route decided about
    #[arg(long, value_name = "NAME", value_parser = short_text)]
    pub route: Option<String>,
    /// Answered with this status, or one of this class: 503, 5xx
    #[arg(long, value_name = "STATUS", value_parser = status)]
    pub status: Option<StatusRange>,
    /// Calls of gRPC that ended so: UNAVAILABLE, 14
    #[arg(long, value_name = "STATUS", value_parser = grpc_status)]
    pub grpc_status: Option<u8>,
    /// With this identity at the other end: a SPIFFE ID, or NAMESPACE/ACCOUNT
    #[arg(long, value_name = "IDENTITY", value_parser = identity)]
    pub peer: Option<String>,
    /// Sent to this: svc/NAME, svc/NAME.NAMESPACE, pod/NAME
    #[arg(long, value_name = "RESOURCE")]
    pub to: Option<To>,
    /// How many requests a second each proxy tells of at most; more are counted
    #[arg(long, value_name = "N", default_value_t = DEFAULT_RATE, value_parser = clap::value_parser!(u32).range(1..=i64::from(HIGHEST_RATE)))]
    pub rate: u32,
    /// End after this time, up to 1h
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = lifetime)]
    pub duration: duration::Text,
    /// In a cluster: the service account that the right to tap is of [default: heddle-viewer of the mesh's namespace]
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub as_service_account: Option<Account>,
    /// Whose.
    #[command(flatten)]
    pub target: TargetArguments,
}

const TAP_AFTER_HELP: &str = "\
Shows requests when they are over, without queries of paths, without bodies, and without values of headers that may
hold secrets (docs/tap.md has the list). Ends with Ctrl-C. A proxy that has more to tell than --rate leaves the rest
out, and it is said how much.

In a cluster you need the right to create serviceaccounts/token of the account, and the account the right to create
taps.heddle.dev in the namespace; docs/tap.md shows the rules. On a local mesh its owner may tap.

Examples:
  meshctl tap deploy/api --status 5xx
  meshctl tap deploy/frontend --direction outbound --to svc/api --path /items
  meshctl tap -n shop -o json --count 100

Which mesh is meant: see `meshctl status --help`.";

/// Seen from the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// What it gets.
    Inbound,
    /// What it sends.
    Outbound,
}

/// Whose requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    kind: Kind,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Owner(&'static str),
    Pod,
    Service,
    Namespace,
}

/// Whom requests are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// Of a namespace, or of the one that is meant anyway.
    Service(String, Option<String>),
    /// By its name.
    Pod(String),
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl FromStr for Resource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let want = || format!("want such as deploy/api, one of {}", kinds().join(", "));
        let (kind, name) = text.split_once('/').ok_or_else(want)?;
        let kind = kind.to_ascii_lowercase();
        let found = KINDS.iter().find(|(names, _)| names.contains(&kind.as_str()));
        let (_, kind) = found.ok_or_else(want)?;
        object_name(name)?;
        Ok(Self { kind: *kind, name: name.to_owned() })
    }
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let want = || "want svc/NAME, svc/NAME.NAMESPACE or pod/NAME".to_owned();
        let (kind, name) = text.split_once('/').ok_or_else(want)?;
        match kind.to_ascii_lowercase().as_str() {
            "svc" | "service" | "services" => {
                let (name, namespace) = match name.split_once('.') {
                    Some((name, namespace)) => (name, Some(namespace)),
                    None => (name, None),
                };
                object_name(name)?;
                namespace.map(object_name).transpose()?;
                Ok(Self::Service(name.to_owned(), namespace.map(ToOwned::to_owned)))
            }
            "pod" | "pods" | "po" => {
                object_name(name)?;
                Ok(Self::Pod(name.to_owned()))
            }
            _ => Err(want()),
        }
    }
}

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) =
            text.split_once('/').ok_or("want NAMESPACE/NAME, such as shop/viewer")?;
        object_name(namespace)?;
        object_name(name)?;
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl TapArguments {
    /// As it is asked for, where names without a namespace are of this one.
    pub fn request(&self, default_namespace: &str) -> Result<TapRequest, Failure> {
        let named = self.show_header.iter().find(|name| is_secret_header(name));
        if let Some(name) = named {
            return Err(Failure::new(
                format!("the header {name} holds secrets, and no tap shows it"),
                "leave it out: the names of all headers are shown, and so it is told whether it is there",
            ));
        }
        if self.show_header.len() > SHOWN_VALUES_LIMIT {
            return Err(Failure::new(
                format!("{} headers are more than a tap shows", self.show_header.len()),
                format!("name at most {SHOWN_VALUES_LIMIT} with --show-header"),
            ));
        }
        let shown = Shown { headers: self.headers, values: self.show_header.clone() };
        let request = self.which.request(self.resource.as_ref(), default_namespace)?;
        Ok(TapRequest { tap: Tap { shown, ..request.tap }, ..request })
    }
}

impl Which {
    /// As it is asked for, of `resource`; without headers.
    pub fn request(
        &self,
        resource: Option<&Resource>,
        default_namespace: &str,
    ) -> Result<TapRequest, Failure> {
        let namespace = self.namespace.as_deref().unwrap_or(default_namespace);
        if self.to.is_some() && self.direction == Some(Direction::Inbound) {
            return Err(Failure::new(
                "--to is of requests that a workload sends, and --direction inbound of those that it gets",
                "leave one of them out, or tap the receiver: `meshctl tap svc/NAME --direction inbound`",
            ));
        }
        if let (true, Some(Resource { name, .. })) = (self.all_namespaces, resource) {
            return Err(Failure::new(
                format!("{name} is of one namespace, and --all-namespaces means all workloads"),
                "leave one of them out, or name its namespace with --namespace",
            ));
        }
        let to = self.to.clone().map(|to| match to {
            To::Service(name, own) => Called::Service(ServiceName {
                namespace: own.unwrap_or_else(|| namespace.to_owned()),
                name,
            }),
            To::Pod(name) => Called::Pod(name),
        });
        let side = self.direction.map(|direction| match direction {
            Direction::Inbound => Side::Inbound,
            Direction::Outbound => Side::Outbound,
        });
        let filter = Filter {
            side,
            method: self.method.clone(),
            path_prefix: self.path.clone(),
            route: self.route.clone(),
            status: self.status,
            grpc_status: self.grpc_status,
            peer: self.peer.clone(),
            to,
        };
        let limits = Limits { per_second: self.rate, lifetime: self.duration.0 };
        let tap = Tap { filter, limits, shown: Shown::default(), follow: None };
        Ok(TapRequest { subject: self.subject(resource, namespace), tap })
    }

    fn subject(&self, resource: Option<&Resource>, namespace: &str) -> Subject {
        let namespace = namespace.to_owned();
        match resource {
            None if self.all_namespaces => Subject::All,
            None => Subject::Namespace(namespace),
            Some(Resource { kind, name }) => {
                let name = name.clone();
                match kind {
                    Kind::Owner(kind) => {
                        Subject::Workload { namespace, kind: (*kind).to_owned(), name }
                    }
                    Kind::Pod => Subject::Pod { namespace, name },
                    Kind::Service => Subject::Service(ServiceName { namespace, name }),
                    Kind::Namespace => Subject::Namespace(name),
                }
            }
        }
    }
}

fn kinds() -> Vec<&'static str> {
    KINDS.iter().filter_map(|(names, _)| names.first().copied()).collect()
}

/// What a name of an object may be. Source: Kubernetes, "Object Names and IDs".
fn object_name(text: &str) -> Result<(), String> {
    let good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let is_good = (1..=253).contains(&text.len()) && text.bytes().all(good);
    if is_good { Ok(()) } else { Err(format!("{text:?} is no name of an object")) }
}

fn short_text(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.len() <= TEXT_LIMIT && !text.contains(char::is_control);
    if good { Ok(text.to_owned()) } else { Err("want a word".to_owned()) }
}

fn path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("want such as /items: a path begins with a slash".to_owned());
    }
    if text.contains('?') {
        return Err("want a path without a query: no tap sees queries".to_owned());
    }
    short_text(text)
}

fn identity(text: &str) -> Result<String, String> {
    let is_short = text.split('/').count() == 2 && text.split('/').all(|part| !part.is_empty());
    if !is_short && !text.starts_with("spiffe://") {
        return Err("want NAMESPACE/ACCOUNT or spiffe://…".to_owned());
    }
    short_text(text)
}

fn header_name(text: &str) -> Result<String, String> {
    let name: http::HeaderName = text.parse().map_err(|_| format!("{text:?} is no header"))?;
    short_text(name.as_str())
}

fn status(text: &str) -> Result<StatusRange, String> {
    let want = || "want a status such as 503, or a class such as 5xx".to_owned();
    let status = |text: &str| {
        let number = text.parse::<u16>().map_err(|_| want())?;
        if (100..=599).contains(&number) { Ok(number) } else { Err(want()) }
    };
    if let Some(class) = text.to_ascii_lowercase().strip_suffix("xx") {
        let first = status(&format!("{class}00"))?;
        return Ok(StatusRange { first, last: first + 99 });
    }
    let only = status(text)?;
    Ok(StatusRange { first: only, last: only })
}

fn grpc_status(text: &str) -> Result<u8, String> {
    let named = GRPC_STATUSES.iter().position(|name| text.eq_ignore_ascii_case(name));
    let number = named.or_else(|| text.parse().ok()).filter(|number| *number < GRPC_STATUSES.len());
    let number = number.and_then(|number| u8::try_from(number).ok());
    number.ok_or_else(|| "want such as UNAVAILABLE, or its number, 0 to 16".to_owned())
}

/// The name of a status of gRPC.
pub fn grpc_name(number: u32) -> String {
    let name = usize::try_from(number).ok().and_then(|number| GRPC_STATUSES.get(number));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

fn lifetime(text: &str) -> Result<duration::Text, String> {
    let lifetime: duration::Text = text.parse().map_err(|error| format!("{error}"))?;
    if !(Duration::from_secs(1)..=LONGEST).contains(&lifetime.0) {
        return Err("want 1s to 1h: begin anew to look longer".to_owned());
    }
    Ok(lifetime)
}

/// Enough to watch, and little for a proxy.
const DEFAULT_RATE: u32 = 100;
/// As the control plane takes it.
const TEXT_LIMIT: usize = 512;
/// By number. Source: gRPC, "Status codes".
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// Names of kinds, as in kubectl; the first is told.
const KINDS: [(&[&str], Kind); 9] = [
    (&["deploy", "deployment", "deployments"], Kind::Owner("Deployment")),
    (&["sts", "statefulset", "statefulsets"], Kind::Owner("StatefulSet")),
    (&["ds", "daemonset", "daemonsets"], Kind::Owner("DaemonSet")),
    (&["job", "jobs"], Kind::Owner("Job")),
    (&["rs", "replicaset", "replicasets"], Kind::Owner("ReplicaSet")),
    (&["rollout", "rollouts"], Kind::Owner("Rollout")),
    (&["pod", "pods", "po"], Kind::Pod),
    (&["svc", "service", "services"], Kind::Service),
    (&["ns", "namespace", "namespaces"], Kind::Namespace),
];

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        tap: TapArguments,
    }

    fn request(arguments: &[&str]) -> Result<TapRequest, String> {
        let line = Line::try_parse_from([&["tap"], arguments].concat());
        let line = line.map_err(|error| error.to_string())?;
        line.tap.request("shop").map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_resource_is_named_as_in_kubectl() {
        let service = |namespace: &str| {
            Subject::Service(ServiceName { namespace: namespace.into(), name: "api".into() })
        };
        let owner = |kind: &str| Subject::Workload {
            namespace: "shop".into(),
            kind: kind.into(),
            name: "api".into(),
        };
        for (arguments, expected) in [
            (&[][..], Subject::Namespace("shop".into())),
            (&["-n", "web"], Subject::Namespace("web".into())),
            (&["-A"], Subject::All),
            (&["deploy/api"], owner("Deployment")),
            (&["StatefulSet/api"], owner("StatefulSet")),
            (&["pod/api-1"], Subject::Pod { namespace: "shop".into(), name: "api-1".into() }),
            (&["svc/api"], service("shop")),
            (&["svc/api", "-n", "web"], service("web")),
            (&["ns/web"], Subject::Namespace("web".into())),
        ] {
            assert_eq!(request(arguments).unwrap().subject, expected, "case: {arguments:?}");
        }
    }

    #[test]
    fn filters_are_read() {
        let range = |first, last| Some(StatusRange { first, last });
        let of = |arguments: &[&str]| request(arguments).unwrap().tap.filter;
        assert_eq!(of(&[]), Filter::default());
        assert_eq!(of(&["--status", "503"]).status, range(503, 503));
        assert_eq!(of(&["--status", "5xx"]).status, range(500, 599));
        assert_eq!(of(&["--grpc-status", "unavailable"]).grpc_status, Some(14));
        assert_eq!(of(&["--grpc-status", "0"]).grpc_status, Some(0));
        assert_eq!(of(&["--direction", "outbound"]).side, Some(Side::Outbound));
        let service = |namespace: &str| {
            let name = ServiceName { namespace: namespace.into(), name: "api".into() };
            Some(Called::Service(name))
        };
        assert_eq!(of(&["--to", "svc/api"]).to, service("shop"));
        assert_eq!(of(&["--to", "svc/api.web"]).to, service("web"));
        assert_eq!(of(&["--to", "pod/api-1"]).to, Some(Called::Pod("api-1".into())));
        let all = of(&["--method", "GET", "--path", "/a", "--route", "r", "--peer", "shop/web"]);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!((all.method, all.path_prefix), (text("GET"), text("/a")));
        assert_eq!((all.route, all.peer), (text("r"), text("shop/web")));
        let shown = request(&["--headers", "--show-header", "X-User"]).unwrap().tap.shown;
        assert_eq!(shown, Shown { headers: true, values: vec!["x-user".into()] });
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_would_do() {
        for (arguments, expected) in [
            (&["api"][..], "want such as deploy/api"),
            (&["node/a"], "one of deploy, sts"),
            (&["deploy/"], "no name of an object"),
            (&["deploy/a", "-A"], "is of one namespace"),
            (&["--status", "600"], "a class such as 5xx"),
            (&["--status", "xx"], "a class such as 5xx"),
            (&["--grpc-status", "17"], "0 to 16"),
            (&["--path", "items"], "begins with a slash"),
            (&["--path", "/a?b=c"], "without a query"),
            (&["--peer", "web"], "NAMESPACE/ACCOUNT"),
            (&["--to", "deploy/api"], "svc/NAME"),
            (&["--to", "svc/api", "--direction", "inbound"], "leave one of them out"),
            (&["--rate", "0"], "1..=1000"),
            (&["--duration", "2h"], "1s to 1h"),
            (&["--show-header", "x-user"], "--headers"),
            (&["--headers", "--show-header", "Authorization"], "no tap shows it"),
            (&["--headers", "--show-header", "x-api-key"], "no tap shows it"),
            (&["--as-service-account", "viewer"], "NAMESPACE/NAME"),
        ] {
            let error = request(arguments).unwrap_err();
            assert!(error.contains(expected), "case: {arguments:?}: {error}");
        }
    }
}
