//! Precedence, against an oracle that knows the words of the Gateway API and no ranks.

use proptest::prelude::*;

use super::*;
use crate::translate::http_route::Rule;
use heddle_model::names::ObjectReference;
use heddle_model::route::{NamedMatch, Timeouts, ValueMatch};

/// A request, as far as matches look at it.
#[derive(Clone, Debug)]
struct Asked {
    host: String,
    path: String,
    method: String,
    headers: Vec<String>,
    parameters: Vec<String>,
}

fn fits(condition: &HttpMatch, asked: &Asked) -> bool {
    let path = match &condition.path {
        Some(PathMatch::Exact(path)) => asked.path == *path,
        Some(PathMatch::Prefix(prefix)) => {
            let elements = |path: &str| {
                let parts = path.split('/').filter(|part| !part.is_empty());
                parts.map(str::to_owned).collect::<Vec<_>>()
            };
            elements(&asked.path).starts_with(&elements(prefix))
        }
        Some(PathMatch::Regex(_)) | None => true,
    };
    path && condition.method.as_ref().is_none_or(|method| *method == asked.method)
        && condition.headers.iter().all(|header| asked.headers.contains(&header.name))
        && condition.query_parameters.iter().all(|one| asked.parameters.contains(&one.name))
}

/// Which rule must serve a request: of all that fit, the one that no other beats, criterion by criterion
/// in the order of the Gateway API's text.
fn oracle<'a>(routes: &'a [HttpRoute], asked: &Asked) -> Option<(&'a str, usize)> {
    let mut best: Option<(Vec<i64>, &str, usize)> = None;
    for route in routes {
        // "Characters in a matching non-wildcard hostname", then "characters in a matching hostname".
        let matching: Vec<&Hostname> =
            route.hostnames.iter().filter(|name| name.matches(&asked.host)).collect();
        if matching.is_empty() && !route.hostnames.is_empty() {
            continue;
        }
        let exact = matching.iter().filter_map(|name| match name {
            Hostname::Exact(name) => Some(name.len()),
            Hostname::Below(_) => None,
        });
        let any = matching.iter().map(|name| match name {
            Hostname::Exact(name) => name.len(),
            Hostname::Below(parent) => parent.len() + "*.".len(),
        });
        let longest = [exact.max().unwrap_or(0), any.max().unwrap_or(0)];
        for (index, rule) in route.rules.iter().enumerate() {
            for one in rule.matches.iter().filter(|one| fits(&one.condition, asked)) {
                let condition = &one.condition;
                let exact = matches!(condition.path, Some(PathMatch::Exact(_)));
                let regex = match &condition.path {
                    Some(PathMatch::Regex(text)) => text.len() + 1,
                    _ => 0,
                };
                let prefix = match &condition.path {
                    Some(PathMatch::Prefix(text)) => text.len(),
                    _ => 0,
                };
                let count = |count: usize| i64::try_from(count).unwrap();
                let score = vec![
                    count(longest[0]),
                    count(longest[1]),
                    i64::from(exact),
                    // Ours: the Gateway API leaves the place of these open.
                    count(regex),
                    count(prefix),
                    i64::from(condition.method.is_some()),
                    count(condition.headers.len()),
                    count(condition.query_parameters.len()),
                ];
                let better = match &best {
                    None => true,
                    Some((known, name, at)) => {
                        // The oldest route is the first by name here.
                        let tie = (route.reference.name.as_str(), index) < (*name, *at);
                        score > *known || (score == *known && tie)
                    }
                };
                if better {
                    best = Some((score, &route.reference.name, index));
                }
            }
        }
    }
    best.map(|(_, name, index)| (name, index))
}

fn served<'a>(routes: &[&'a HttpRoute], asked: &Asked) -> Option<(&'a str, usize)> {
    let in_order = in_order(routes);
    let first = in_order.iter().find(|one| {
        let host = one.hostnames.is_empty()
            || one.hostnames.iter().any(|hostname| hostname.matches(&asked.host));
        host && fits(&one.one_match.condition, asked)
    })?;
    let index = first.route.rules.iter().position(|rule| std::ptr::eq(rule, first.rule))?;
    Some((&first.route.reference.name, index))
}

fn paths() -> impl Strategy<Value = Option<PathMatch>> {
    let path = prop_oneof![Just("/"), Just("/a"), Just("/a/b"), Just("/ab"), Just("/a/b/c")];
    (0..6, path).prop_map(|(kind, path)| match kind {
        0 => None,
        1 | 2 => Some(PathMatch::Exact(path.to_owned())),
        3 => Some(PathMatch::Regex(".*".repeat(path.len()))),
        _ => Some(PathMatch::Prefix(path.to_owned())),
    })
}

fn named(names: &'static [&'static str]) -> impl Strategy<Value = Vec<NamedMatch>> {
    proptest::sample::subsequence(names, 0..=names.len()).prop_map(|names| {
        let one = |name: &&str| NamedMatch {
            name: (*name).to_owned(),
            value: ValueMatch::Exact(String::new()),
        };
        names.iter().map(one).collect()
    })
}

fn conditions() -> impl Strategy<Value = HttpMatch> {
    let method = proptest::option::of(prop_oneof![Just("GET"), Just("POST")]);
    (paths(), named(&["x", "y"]), named(&["p", "q"]), method).prop_map(
        |(path, headers, query_parameters, method)| HttpMatch {
            path,
            headers,
            query_parameters,
            method: method.map(str::to_owned),
        },
    )
}

fn hostnames() -> impl Strategy<Value = Vec<Hostname>> {
    let known = vec![
        Hostname::Exact("a.example.com".to_owned()),
        Hostname::Exact("b.a.example.com".to_owned()),
        Hostname::Below("example.com".to_owned()),
        Hostname::Below("a.example.com".to_owned()),
        Hostname::Below("com".to_owned()),
    ];
    prop_oneof![
        1 => Just(Vec::new()),
        2 => proptest::sample::subsequence(known, 1..=3),
    ]
}

fn routes() -> impl Strategy<Value = Vec<HttpRoute>> {
    let rules = proptest::collection::vec(proptest::collection::vec(conditions(), 1..3), 1..3);
    proptest::collection::vec((hostnames(), rules), 1..4).prop_map(|routes| {
        let route = |(number, (hostnames, rules)): (usize, (_, Vec<Vec<HttpMatch>>))| {
            let reference = ObjectReference {
                kind: "HTTPRoute".into(),
                namespace: "n".into(),
                name: format!("r{number}"),
            };
            let rule = |(index, conditions): (usize, Vec<HttpMatch>)| Rule {
                field: format!("spec.rules[{index}]"),
                matches: conditions.into_iter().map(Match::of_http).collect(),
                filters: Vec::new(),
                backends: Vec::new(),
                timeouts: Timeouts::default(),
                retry: None,
                session: None,
            };
            HttpRoute {
                seniority: Seniority::new(&Default::default(), &reference),
                reference,
                hostnames,
                parents: Vec::new(),
                fault: None,
                rules: rules.into_iter().enumerate().map(rule).collect(),
                notes: Vec::new(),
            }
        };
        routes.into_iter().enumerate().map(route).collect()
    })
}

fn requests() -> impl Strategy<Value = Asked> {
    let hosts = prop_oneof![
        Just("a.example.com"),
        Just("b.a.example.com"),
        Just("c.example.com"),
        Just("example.com"),
        Just("other.org"),
    ];
    let paths = prop_oneof![Just("/"), Just("/a"), Just("/a/b"), Just("/ab"), Just("/a/b/c/d")];
    let texts = |names: &'static [&'static str]| {
        proptest::sample::subsequence(names, 0..=names.len())
            .prop_map(|names| names.into_iter().map(str::to_owned).collect::<Vec<String>>())
    };
    let method = prop_oneof![Just("GET"), Just("POST")];
    (hosts, paths, method, texts(&["x", "y"]), texts(&["p", "q"])).prop_map(
        |(host, path, method, headers, parameters)| Asked {
            host: host.to_owned(),
            path: path.to_owned(),
            method: method.to_owned(),
            headers,
            parameters,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_first_that_fits_is_the_one_that_the_gateway_api_means(
        routes in routes(),
        requests in proptest::collection::vec(requests(), 1..8),
    ) {
        let references: Vec<&HttpRoute> = routes.iter().collect();
        for asked in &requests {
            prop_assert_eq!(served(&references, asked), oracle(&routes, asked), "{:?}", asked);
        }
    }

    #[test]
    fn the_order_in_which_routes_are_known_does_not_count(
        (routes, mixed) in routes().prop_flat_map(|routes| {
            let mixed = Just((0..routes.len()).collect::<Vec<_>>()).prop_shuffle();
            (Just(routes), mixed)
        }),
        asked in requests(),
    ) {
        let straight: Vec<&HttpRoute> = routes.iter().collect();
        let mixed: Vec<&HttpRoute> = mixed.into_iter().map(|at| &routes[at]).collect();
        prop_assert_eq!(served(&straight, &asked), served(&mixed, &asked));
    }
}
