//! Conditions, filters and shares in few words. Pure.

use heddle_model::filter::{Fault, Fraction, HeaderChange, HttpFilter, PathChange, Redirect};
use heddle_model::route::{Hostname, HttpMatch, NamedMatch, PathMatch, ValueMatch};

/// A condition, such as `GET /api/* x-user=a ?q~[0-9]+`; `*` for every request.
pub fn condition(condition: &HttpMatch) -> String {
    let mut words: Vec<String> = condition.method.iter().cloned().collect();
    match &condition.path {
        None => {}
        Some(PathMatch::Exact(path)) => words.push(path.clone()),
        Some(PathMatch::Prefix(path)) => {
            words.push(format!("{}/*", path.strip_suffix('/').unwrap_or(path)));
        }
        Some(PathMatch::Regex(path)) => words.push(format!("~{path}")),
    }
    let named = |sign: &str, NamedMatch { name, value }: &NamedMatch| match value {
        ValueMatch::Exact(value) => format!("{sign}{name}={value}"),
        ValueMatch::Regex(value) => format!("{sign}{name}~{value}"),
    };
    words.extend(condition.headers.iter().map(|header| named("", header)));
    words.extend(condition.query_parameters.iter().map(|parameter| named("?", parameter)));
    match words.as_slice() {
        [] => "*".to_owned(),
        [only] if only == "/*" => "*".to_owned(),
        words => words.join(" "),
    }
}

/// Several conditions, of which any may hold.
pub fn any_of(conditions: &[HttpMatch]) -> String {
    match conditions {
        [] => "*".to_owned(),
        conditions => {
            let all: Vec<String> = conditions.iter().map(condition).collect();
            all.join(" or ")
        }
    }
}

/// A host or a pattern, as it is written.
pub fn hostname(hostname: &Hostname) -> String {
    match hostname {
        Hostname::Exact(name) => name.clone(),
        Hostname::Below(parent) => format!("*.{parent}"),
    }
}

/// What a filter does.
pub fn filter(filter: &HttpFilter) -> String {
    match filter {
        HttpFilter::RequestHeaders(change) => format!("request headers: {}", headers(change)),
        HttpFilter::ResponseHeaders(change) => format!("response headers: {}", headers(change)),
        HttpFilter::Redirect(redirect) => {
            format!("redirect with {} to {}", redirect.status, location(redirect))
        }
        HttpFilter::Rewrite(rewrite) => {
            let host = rewrite.hostname.iter().map(|host| format!("host {host}"));
            let path = rewrite.path.iter().map(path_change);
            format!("rewrite {}", host.chain(path).collect::<Vec<_>>().join(", "))
        }
        HttpFilter::Mirror(mirror) => {
            format!("copy {} to {}", fraction(mirror.fraction), mirror.backend)
        }
        HttpFilter::Cors(cors) => format!("CORS for {}", cors.allow_origins.join(", ")),
    }
}

/// Failures made on purpose; empty: none.
pub fn faults(fault: &Fault) -> Vec<String> {
    let delay = fault.delay.iter().map(|delay| {
        let duration = heddle_runtime::duration::Text(delay.duration);
        format!("{} are delayed by {duration} on purpose", fraction(delay.fraction))
    });
    let abort = fault
        .abort
        .iter()
        .map(|abort| format!("{} are refused on purpose (fault_abort)", fraction(abort.fraction)));
    delay.chain(abort).collect()
}

/// A share of a whole, such as `90 %` or `0.1 %`.
pub fn percent(weight: u64, whole: u64) -> String {
    let thousandths = (u128::from(weight) * 100_000).checked_div(u128::from(whole)).unwrap_or(0);
    let (percent, rest) = (thousandths / 1_000, thousandths % 1_000);
    match (rest, weight) {
        (0, 1..) if percent == 0 => "<0.001 %".to_owned(),
        (0, _) => format!("{percent} %"),
        (rest, _) => {
            let digits = format!("{rest:03}");
            format!("{percent}.{} %", digits.trim_end_matches('0'))
        }
    }
}

fn fraction(fraction: Fraction) -> String {
    percent(u64::from(fraction.numerator()), u64::from(fraction.denominator()))
}

fn headers(change: &HeaderChange) -> String {
    let set = change.set.iter().map(|one| format!("{} set", one.name));
    let add = change.add.iter().map(|one| format!("{} added", one.name));
    let remove = change.remove.iter().map(|name| format!("{name} removed"));
    set.chain(add).chain(remove).collect::<Vec<_>>().join(", ")
}

fn location(redirect: &Redirect) -> String {
    let parts = [
        redirect.scheme.clone(),
        redirect.hostname.clone(),
        redirect.port.map(|port| format!("port {port}")),
        redirect.path.as_ref().map(path_change),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn path_change(change: &PathChange) -> String {
    match change {
        PathChange::Full(path) => format!("path {path}"),
        PathChange::Prefix(prefix) => format!("prefix {prefix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_told_in_few_words() {
        let on = |path: PathMatch| HttpMatch { path: Some(path), ..HttpMatch::default() };
        let value = |name: &str, value: ValueMatch| NamedMatch { name: name.to_owned(), value };
        let all = HttpMatch {
            path: Some(PathMatch::Exact("/a".into())),
            headers: vec![value("x", ValueMatch::Exact("1".into()))],
            query_parameters: vec![value("q", ValueMatch::Regex("[0-9]+".into()))],
            method: Some("GET".into()),
        };
        for (condition_given, expected) in [
            (HttpMatch::default(), "*"),
            (on(PathMatch::Prefix("/".into())), "*"),
            (on(PathMatch::Prefix("/api".into())), "/api/*"),
            (on(PathMatch::Prefix("/api/".into())), "/api/*"),
            (on(PathMatch::Regex("/v[12]/.*".into())), "~/v[12]/.*"),
            (all, "GET /a x=1 ?q~[0-9]+"),
        ] {
            assert_eq!(condition(&condition_given), expected);
        }
    }

    #[test]
    fn shares_are_told_in_percent() {
        for (weight, whole, expected) in [
            (9, 10, "90 %"),
            (1, 3, "33.333 %"),
            (1, 1_000, "0.1 %"),
            (0, 10, "0 %"),
            (1, 1_000_000, "<0.001 %"),
            (0, 0, "0 %"),
            (5, 5, "100 %"),
        ] {
            assert_eq!(percent(weight, whole), expected, "case: {weight} of {whole}");
        }
    }
}
