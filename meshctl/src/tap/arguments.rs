//! Which requests `meshctl tap` and `meshctl trace` are about, as typed.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use heddle_model::tap::typed::{
    Resource, To, grpc_status, identity, object_name, path, short_text, status,
};
use heddle_model::tap::{
    DEFAULT_RATE, Filter, HIGHEST_RATE, LONGEST, Limits, SHOWN_VALUES_LIMIT, Shown, Side,
    StatusRange, Subject, Tap, TapRequest, is_secret_header,
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

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
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
        if let (true, Some(resource)) = (self.all_namespaces, resource) {
            let name = resource.name();
            return Err(Failure::new(
                format!("{name} is of one namespace, and --all-namespaces means all workloads"),
                "leave one of them out, or name its namespace with --namespace",
            ));
        }
        let to = self.to.as_ref().map(|to| to.target(namespace));
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
        match resource {
            None if self.all_namespaces => Subject::All,
            None => Subject::Namespace(namespace.to_owned()),
            Some(resource) => resource.subject(namespace),
        }
    }
}

fn header_name(text: &str) -> Result<String, String> {
    let name: http::HeaderName = text.parse().map_err(|_| format!("{text:?} is no header"))?;
    short_text(name.as_str())
}

fn lifetime(text: &str) -> Result<duration::Text, String> {
    let lifetime: duration::Text = text.parse().map_err(|error| format!("{error}"))?;
    if !(Duration::from_secs(1)..=LONGEST).contains(&lifetime.0) {
        return Err("want 1s to 1h: begin anew to look longer".to_owned());
    }
    Ok(lifetime)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use heddle_model::names::ServiceName;
    use heddle_model::tap::Target as Called;

    use super::*;

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
