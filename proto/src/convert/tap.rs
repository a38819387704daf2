//! What a tap is asked for.

use std::time::Duration;

use heddle_model::names::ServiceName;
use heddle_model::tap::{
    ASKED_TEXT_LIMIT, Filter, Follow, HIGHEST_RATE, LONGEST, Limits, SHOWN_VALUES_LIMIT, Shown,
    Side, StatusRange, Subject, Tap, TapRequest, Target,
};

use super::{InvalidMessage, optional, part};
use crate::tap as wire;

impl From<&TapRequest> for wire::WatchRequest {
    fn from(request: &TapRequest) -> Self {
        let Tap { filter, limits, shown, follow } = &request.tap;
        Self {
            subject: Some((&request.subject).into()),
            filter: Some(filter.into()),
            limits: Some((*limits).into()),
            shown: Some(shown.clone().into()),
            follow: follow.map(Into::into),
            namespaces: Vec::new(),
        }
    }
}

impl TryFrom<wire::WatchRequest> for TapRequest {
    type Error = InvalidMessage;

    fn try_from(request: wire::WatchRequest) -> Result<Self, InvalidMessage> {
        let wire::WatchRequest { subject, filter, limits, shown, follow, namespaces: _ } = request;
        let parts = (filter, limits, shown, follow);
        Ok(Self { subject: part(subject, "subject")?, tap: tap(parts)? })
    }
}

type Parts =
    (Option<wire::Filter>, Option<wire::Limits>, Option<wire::Shown>, Option<wire::Follow>);

fn tap((filter, limits, shown, follow): Parts) -> Result<Tap, InvalidMessage> {
    Ok(Tap {
        filter: part(filter, "filter")?,
        limits: part(limits, "limits")?,
        shown: part(shown, "shown")?,
        follow: optional(follow, "follow")?,
    })
}

impl wire::Begin {
    /// What a proxy is told to begin with.
    pub fn new(number: u64, tap: &Tap, marks: bool) -> Self {
        Self {
            tap: number,
            filter: Some((&tap.filter).into()),
            limits: Some(tap.limits.into()),
            shown: Some(tap.shown.clone().into()),
            follow: tap.follow.map(Into::into),
            marks,
        }
    }
}

impl TryFrom<wire::Begin> for Tap {
    type Error = InvalidMessage;

    fn try_from(begin: wire::Begin) -> Result<Self, InvalidMessage> {
        tap((begin.filter, begin.limits, begin.shown, begin.follow))
    }
}

impl From<&Subject> for wire::Subject {
    fn from(subject: &Subject) -> Self {
        let of = |namespace: &str, kind: &str, name: &str| Self {
            namespace: namespace.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        };
        match subject {
            Subject::All => of("", "", ""),
            Subject::Namespace(namespace) => of(namespace, "", ""),
            Subject::Workload { namespace, kind, name } => of(namespace, kind, name),
            Subject::Pod { namespace, name } => of(namespace, POD, name),
            Subject::Service(service) => of(&service.namespace, SERVICE, &service.name),
        }
    }
}

impl TryFrom<wire::Subject> for Subject {
    type Error = InvalidMessage;

    fn try_from(subject: wire::Subject) -> Result<Self, InvalidMessage> {
        let wire::Subject { namespace, kind, name } = subject;
        for (field, text) in [("namespace", &namespace), ("kind", &kind), ("name", &name)] {
            short(text, field)?;
        }
        match (namespace.is_empty(), kind.is_empty(), name.is_empty()) {
            (true, true, true) => Ok(Self::All),
            (false, true, true) => Ok(Self::Namespace(namespace)),
            (false, false, false) => Ok(match kind.as_str() {
                POD => Self::Pod { namespace, name },
                SERVICE => Self::Service(ServiceName { namespace, name }),
                _ => Self::Workload { namespace, kind, name },
            }),
            (true, _, _) => Err(InvalidMessage::new("namespace", "a kind and a name are of one")),
            (false, _, _) => {
                Err(InvalidMessage::new("name", "want both a kind and a name, or neither"))
            }
        }
    }
}

impl From<&Filter> for wire::Filter {
    fn from(filter: &Filter) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let side = match filter.side {
            None => wire::Side::Unspecified,
            Some(Side::Inbound) => wire::Side::Inbound,
            Some(Side::Outbound) => wire::Side::Outbound,
        };
        Self {
            side: side.into(),
            method: text(&filter.method),
            path_prefix: text(&filter.path_prefix),
            route: text(&filter.route),
            status: filter.status.map(|StatusRange { first, last }| wire::Status {
                first: u32::from(first),
                last: u32::from(last),
            }),
            grpc_status: filter.grpc_status.map(u32::from),
            peer: text(&filter.peer),
            to: filter.to.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::Filter> for Filter {
    type Error = InvalidMessage;

    fn try_from(filter: wire::Filter) -> Result<Self, InvalidMessage> {
        let side = match filter.side() {
            wire::Side::Unspecified if filter.side != 0 => {
                return Err(InvalidMessage::new("side", format!("{} is none", filter.side)));
            }
            wire::Side::Unspecified => None,
            wire::Side::Inbound => Some(Side::Inbound),
            wire::Side::Outbound => Some(Side::Outbound),
        };
        let grpc_status = filter.grpc_status.map(|number| {
            let status = u8::try_from(number).ok().filter(|number| *number <= LAST_GRPC_STATUS);
            status.ok_or_else(|| InvalidMessage::new("grpc_status", format!("{number} is none")))
        });
        Ok(Self {
            side,
            method: text(filter.method, "method")?,
            path_prefix: text(filter.path_prefix, "path_prefix")?,
            route: text(filter.route, "route")?,
            status: optional(filter.status, "status")?,
            grpc_status: grpc_status.transpose()?,
            peer: text(filter.peer, "peer")?,
            to: optional(filter.to, "to")?,
        })
    }
}

impl TryFrom<wire::Status> for StatusRange {
    type Error = InvalidMessage;

    fn try_from(status: wire::Status) -> Result<Self, InvalidMessage> {
        let number = |number: u32, field: &str| {
            let status = u16::try_from(number).ok().filter(|status| (100..=999).contains(status));
            status.ok_or_else(|| InvalidMessage::new(field, format!("{number} is no status")))
        };
        let (first, last) = (number(status.first, "first")?, number(status.last, "last")?);
        if first > last {
            return Err(InvalidMessage::new("last", "is before the first"));
        }
        Ok(Self { first, last })
    }
}

impl From<&Target> for wire::Target {
    fn from(target: &Target) -> Self {
        use wire::target::Kind;
        match target {
            Target::Service(ServiceName { namespace, name }) => {
                Self { namespace: namespace.clone(), kind: Some(Kind::Service(name.clone())) }
            }
            Target::Pod(name) => {
                Self { namespace: String::new(), kind: Some(Kind::Pod(name.clone())) }
            }
        }
    }
}

impl TryFrom<wire::Target> for Target {
    type Error = InvalidMessage;

    fn try_from(target: wire::Target) -> Result<Self, InvalidMessage> {
        use wire::target::Kind;
        short(&target.namespace, "namespace")?;
        let named = |name: String, field: &str| {
            text(name, field)?.ok_or_else(|| InvalidMessage::missing(field))
        };
        match target.kind {
            Some(Kind::Service(name)) => {
                let namespace = named(target.namespace, "namespace")?;
                Ok(Self::Service(ServiceName { namespace, name: named(name, "service")? }))
            }
            Some(Kind::Pod(name)) => Ok(Self::Pod(named(name, "pod")?)),
            None => Err(InvalidMessage::missing("kind")),
        }
    }
}

impl From<Limits> for wire::Limits {
    fn from(Limits { per_second, lifetime }: Limits) -> Self {
        let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
        Self { per_second, seconds }
    }
}

impl TryFrom<wire::Limits> for Limits {
    type Error = InvalidMessage;

    fn try_from(limits: wire::Limits) -> Result<Self, InvalidMessage> {
        let wire::Limits { per_second, seconds } = limits;
        if !(1..=HIGHEST_RATE).contains(&per_second) {
            let reason = format!("{per_second} is not 1 to {HIGHEST_RATE}");
            return Err(InvalidMessage::new("per_second", reason));
        }
        let lifetime = Duration::from_secs(u64::from(seconds));
        if lifetime.is_zero() || lifetime > LONGEST {
            let reason = format!("{seconds} is not 1 to {}", LONGEST.as_secs());
            return Err(InvalidMessage::new("seconds", reason));
        }
        Ok(Self { per_second, lifetime })
    }
}

impl From<Shown> for wire::Shown {
    fn from(Shown { headers, values }: Shown) -> Self {
        Self { headers, values }
    }
}

impl TryFrom<wire::Shown> for Shown {
    type Error = InvalidMessage;

    fn try_from(wire::Shown { headers, values }: wire::Shown) -> Result<Self, InvalidMessage> {
        if values.len() > SHOWN_VALUES_LIMIT {
            let reason = format!("{} are more than {SHOWN_VALUES_LIMIT}", values.len());
            return Err(InvalidMessage::new("values", reason));
        }
        for (index, value) in values.iter().enumerate() {
            let field = format!("values[{index}]");
            short(value, &field)?;
            if value.is_empty() || value.bytes().any(|byte| byte.is_ascii_uppercase()) {
                return Err(InvalidMessage::new(&field, "want a name in lower case"));
            }
        }
        Ok(Self { headers, values })
    }
}

impl From<Follow> for wire::Follow {
    fn from(follow: Follow) -> Self {
        use wire::follow::Which;
        let which = match follow {
            Follow::Mark(mark) => Which::Mark(mark.to_vec()),
            Follow::Trace(trace) => Which::Trace(trace.to_vec()),
        };
        Self { which: Some(which) }
    }
}

impl TryFrom<wire::Follow> for Follow {
    type Error = InvalidMessage;

    fn try_from(follow: wire::Follow) -> Result<Self, InvalidMessage> {
        use wire::follow::Which;
        match follow.which {
            Some(Which::Mark(mark)) => Ok(Self::Mark(bytes(&mark, "mark")?)),
            Some(Which::Trace(trace)) => Ok(Self::Trace(bytes(&trace, "trace")?)),
            None => Err(InvalidMessage::missing("which")),
        }
    }
}

/// So many, and not all zero, which means "none" in traces.
fn bytes<const LENGTH: usize>(bytes: &[u8], field: &str) -> Result<[u8; LENGTH], InvalidMessage> {
    let all = <[u8; LENGTH]>::try_from(bytes);
    all.ok().filter(|all| all.iter().any(|byte| *byte != 0)).ok_or_else(|| {
        InvalidMessage::new(field, format!("want {LENGTH} bytes that are not all zero"))
    })
}

/// Empty: none.
fn text(text: String, field: &str) -> Result<Option<String>, InvalidMessage> {
    short(&text, field)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn short(text: &str, field: &str) -> Result<(), InvalidMessage> {
    let reason = || format!("is longer than {ASKED_TEXT_LIMIT} bytes");
    let good = text.len() <= ASKED_TEXT_LIMIT;
    if good { Ok(()) } else { Err(InvalidMessage::new(field, reason())) }
}

const POD: &str = "Pod";
const SERVICE: &str = "Service";
/// UNAUTHENTICATED. Source: gRPC, "Status codes".
const LAST_GRPC_STATUS: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> TapRequest {
        let service = ServiceName { namespace: "shop".into(), name: "api".into() };
        TapRequest {
            subject: Subject::Service(service.clone()),
            tap: Tap {
                filter: Filter {
                    side: Some(Side::Outbound),
                    method: Some("GET".into()),
                    path_prefix: Some("/items".into()),
                    route: Some("canary".into()),
                    status: Some(StatusRange { first: 500, last: 599 }),
                    grpc_status: Some(14),
                    peer: Some("shop/api".into()),
                    to: Some(Target::Service(service)),
                },
                limits: Limits { per_second: 100, lifetime: Duration::from_secs(600) },
                shown: Shown { headers: true, values: vec!["x-user".into()] },
                follow: Some(Follow::Mark([1, 2, 3, 4, 5, 6, 7, 8])),
            },
        }
    }

    #[test]
    fn what_is_asked_for_arrives() {
        let mut all = vec![request()];
        for subject in [
            Subject::All,
            Subject::Namespace("shop".into()),
            Subject::Pod { namespace: "shop".into(), name: "api-1".into() },
            Subject::Workload {
                namespace: "shop".into(),
                kind: "Deployment".into(),
                name: "api".into(),
            },
        ] {
            all.push(TapRequest { subject, ..request() });
        }
        let mut plain = request();
        plain.tap.filter = Filter::default();
        plain.tap.follow = None;
        all.push(plain);
        let mut followed = request();
        followed.tap.follow = Some(Follow::Trace([7; 16]));
        followed.tap.filter.to = Some(Target::Pod("api-1".into()));
        all.push(followed);
        for request in all {
            let wire = wire::WatchRequest::from(&request);
            assert_eq!(TapRequest::try_from(wire), Ok(request.clone()));
            let begin = wire::Begin::new(3, &request.tap, true);
            assert_eq!((begin.tap, begin.marks), (3, true));
            assert_eq!(Tap::try_from(begin), Ok(request.tap));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        let with = |change: fn(&mut wire::WatchRequest)| {
            let mut message = wire::WatchRequest::from(&request());
            change(&mut message);
            TapRequest::try_from(message).map_err(|error| error.to_string())
        };
        type Change = fn(&mut wire::WatchRequest);
        let cases: [(&str, Change, &str); 14] = [
            ("no subject", |m| m.subject = None, "subject: is missing"),
            ("no filter", |m| m.filter = None, "filter: is missing"),
            ("a name of no namespace", |m| m.subject.as_mut().unwrap().namespace.clear(), "of one"),
            ("no name", |m| m.subject.as_mut().unwrap().name.clear(), "subject.name: want both"),
            ("no side", |m| m.filter.as_mut().unwrap().side = 9, "filter.side: 9 is none"),
            (
                "a long path",
                |m| m.filter.as_mut().unwrap().path_prefix = "/".repeat(513),
                "filter.path_prefix: is longer than 512 bytes",
            ),
            (
                "no status",
                |m| m.filter.as_mut().unwrap().status.as_mut().unwrap().first = 5,
                "filter.status.first: 5 is no status",
            ),
            (
                "backwards",
                |m| m.filter.as_mut().unwrap().status.as_mut().unwrap().last = 200,
                "filter.status.last: is before",
            ),
            ("gRPC", |m| m.filter.as_mut().unwrap().grpc_status = Some(17), "17 is none"),
            (
                "no target",
                |m| m.filter.as_mut().unwrap().to.as_mut().unwrap().kind = None,
                "filter.to.kind: is missing",
            ),
            ("no rate", |m| m.limits.as_mut().unwrap().per_second = 0, "0 is not 1 to 1000"),
            ("for ever", |m| m.limits.as_mut().unwrap().seconds = 3601, "3601 is not 1 to 3600"),
            (
                "upper case",
                |m| m.shown.as_mut().unwrap().values = vec!["X".into()],
                "shown.values[0]: want a name in lower case",
            ),
            (
                "no mark",
                |m| {
                    let which = wire::follow::Which::Mark(vec![0; 8]);
                    m.follow = Some(wire::Follow { which: Some(which) });
                },
                "follow.mark: want 8 bytes that are not all zero",
            ),
        ];
        for (case, change, expected) in cases {
            let error = with(change).unwrap_err();
            assert!(error.contains(expected), "case: {case}: {error}");
        }
    }
}
