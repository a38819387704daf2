//! The words of a question for single requests: as `meshctl tap` has them. Pure.

use std::time::Duration;

use heddle_model::tap::typed::{self, Resource, To};
use heddle_model::tap::{
    DEFAULT_LIFETIME, DEFAULT_RATE, Filter, HIGHEST_RATE, LONGEST, Limits, Shown, Side, Subject,
    Tap, TapRequest, Target,
};

use super::Words;
use crate::dashboard::guard::Refusal;

impl Words {
    /// What is asked for; without `namespace` of all.
    pub(super) fn tap(&mut self) -> Result<TapRequest, Refusal> {
        let namespace =
            self.read_word("namespace", |word| typed::object_name(word).map(|()| word.to_owned()))?;
        let subject = self.subject(namespace.as_deref())?;
        let filter = self.filter(namespace.as_deref())?;
        let limits = self.limits()?;
        let headers = self.read_word("headers", |word| {
            word.parse().map_err(|_| "want true or false".to_owned())
        })?;
        let shown = Shown { headers: headers.unwrap_or(false), values: Vec::new() };
        Ok(TapRequest { subject, tap: Tap { filter, limits, shown, follow: None } })
    }

    fn subject(&mut self, namespace: Option<&str>) -> Result<Subject, Refusal> {
        let resource = self.read_word("resource", str::parse::<Resource>)?;
        match (resource, namespace) {
            (None, None) => Ok(Subject::All),
            (None, Some(namespace)) => Ok(Subject::Namespace(namespace.to_owned())),
            (Some(resource), Some(namespace)) => Ok(resource.subject(namespace)),
            (Some(_), None) => Err(Refusal::Invalid(
                "a resource is of one namespace: name it with \"namespace\"".into(),
            )),
        }
    }

    fn filter(&mut self, namespace: Option<&str>) -> Result<Filter, Refusal> {
        let side = self.read_word("direction", |word| match word {
            "inbound" => Ok(Side::Inbound),
            "outbound" => Ok(Side::Outbound),
            _ => Err("want inbound or outbound".to_owned()),
        })?;
        let to = self.read_word("to", |word| called(word, namespace))?;
        if to.is_some() && side == Some(Side::Inbound) {
            let why = "\"to\" is of requests that a workload sends, and \"direction=inbound\" of those that it gets";
            return Err(Refusal::Invalid(format!("{why}: leave one of them out")));
        }
        Ok(Filter {
            side,
            method: self.read_word("method", typed::short_text)?,
            path_prefix: self.read_word("path", typed::path)?,
            route: self.read_word("route", typed::short_text)?,
            status: self.read_word("status", typed::status)?,
            grpc_status: self.read_word("grpc_status", typed::grpc_status)?,
            peer: self.read_word("peer", typed::identity)?,
            to,
        })
    }

    fn limits(&mut self) -> Result<Limits, Refusal> {
        let rate = self.read_word("rate", |word| {
            let rate = word.parse().ok().filter(|rate| (1..=HIGHEST_RATE).contains(rate));
            rate.ok_or_else(|| format!("want 1 to {HIGHEST_RATE} requests a second"))
        })?;
        let lifetime = self.read_word("duration", |word| {
            let lifetime = word.parse().ok().map(Duration::from_secs);
            let is_good =
                |lifetime: &Duration| (Duration::from_secs(1)..=LONGEST).contains(lifetime);
            let want = || format!("want 1 to {} seconds", LONGEST.as_secs());
            lifetime.filter(is_good).ok_or_else(want)
        })?;
        Ok(Limits {
            per_second: rate.unwrap_or(DEFAULT_RATE),
            lifetime: lifetime.unwrap_or(DEFAULT_LIFETIME),
        })
    }

    fn read_word<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Refusal> {
        let Some(word) = self.0.remove(name) else { return Ok(None) };
        let invalid = |want| Refusal::Invalid(format!("{name}=\"{word}\": {want}"));
        read(&word).map(Some).map_err(invalid)
    }
}

/// Whom requests are for; a service is of a namespace.
fn called(word: &str, namespace: Option<&str>) -> Result<Target, String> {
    let to: To = word.parse()?;
    match (&to, namespace) {
        (To::Service(_, None), None) => Err("want svc/NAME.NAMESPACE".to_owned()),
        (to, namespace) => Ok(to.target(namespace.unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use heddle_model::names::ServiceName;
    use heddle_model::tap::StatusRange;

    use crate::dashboard::question::Asked;

    use super::*;

    fn read(query: &str) -> Result<TapRequest, String> {
        match Asked::read(&format!("/api/v1/tap?{query}").parse().unwrap()) {
            Ok(Asked::Tap(request)) => Ok(*request),
            Ok(other) => panic!("{query} is no tap: {other:?}"),
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    #[test]
    fn whose_requests_are_meant() {
        let service = ServiceName { namespace: "shop".into(), name: "api".into() };
        let owner = Subject::Workload {
            namespace: "shop".into(),
            kind: "Deployment".into(),
            name: "api".into(),
        };
        for (query, expected) in [
            ("", Subject::All),
            ("namespace=shop", Subject::Namespace("shop".into())),
            ("namespace=shop&resource=deployment%2Fapi", owner),
            ("namespace=shop&resource=svc/api", Subject::Service(service)),
        ] {
            assert_eq!(read(query).unwrap().subject, expected, "case: {query}");
        }
    }

    #[test]
    fn filters_limits_and_headers_are_read() {
        let plain = read("").unwrap().tap;
        assert_eq!((&plain.filter, plain.shown.headers), (&Filter::default(), false));
        let limits = Limits { per_second: 100, lifetime: Duration::from_secs(600) };
        assert_eq!(plain.limits, limits);
        let query = "direction=outbound&method=GET&path=/a%2Fb&route=r&status=5xx&grpc_status=14\
                     &peer=shop/web&to=svc/api.shop&rate=5&duration=60&headers=true";
        let tap = read(query).unwrap().tap;
        let called = ServiceName { namespace: "shop".into(), name: "api".into() };
        let expected = Filter {
            side: Some(Side::Outbound),
            method: Some("GET".into()),
            path_prefix: Some("/a/b".into()),
            route: Some("r".into()),
            status: Some(StatusRange { first: 500, last: 599 }),
            grpc_status: Some(14),
            peer: Some("shop/web".into()),
            to: Some(Target::Service(called)),
        };
        assert_eq!((tap.filter, tap.shown.headers), (expected, true));
        assert_eq!(tap.limits, Limits { per_second: 5, lifetime: Duration::from_secs(60) });
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_would_do() {
        for (query, expected) in [
            ("resource=deploy/api", "name it with \"namespace\""),
            ("resource=node/a&namespace=shop", "one of deploy, sts"),
            ("namespace=A", "no name of an object"),
            ("direction=both", "want inbound or outbound"),
            ("path=items", "begins with a slash"),
            ("path=/a%3Fb", "without a query"),
            ("status=600", "a class such as 5xx"),
            ("grpc_status=17", "0 to 16"),
            ("peer=web", "NAMESPACE/ACCOUNT"),
            ("method=", "want a word"),
            ("to=svc/api", "want svc/NAME.NAMESPACE"),
            ("to=pod/a&direction=inbound", "leave one of them out"),
            ("rate=0", "want 1 to 1000"),
            ("rate=1001", "want 1 to 1000"),
            ("duration=3601", "want 1 to 3600 seconds"),
            ("headers=yes", "want true or false"),
            ("show_header=cookie", "is not known of /api/v1/tap"),
        ] {
            let error = read(query).unwrap_err();
            assert!(error.contains(expected), "case: {query}: {error}");
        }
    }
}
