//! What a route does to requests. What the mesh cannot do rejects the route, with the field: a filter that
//! is dropped without a word would change what requests get.

use std::time::Duration;

use gateway_api::experimental::httproutes::{
    HttpRouteRulesFilters, HttpRouteRulesFiltersCors, HttpRouteRulesFiltersRequestMirror,
    HttpRouteRulesFiltersRequestRedirect, HttpRouteRulesFiltersRequestRedirectPath,
    HttpRouteRulesFiltersRequestRedirectPathType, HttpRouteRulesFiltersRequestRedirectScheme,
    HttpRouteRulesFiltersType, HttpRouteRulesFiltersUrlRewrite,
};
use heddle_model::filter::{Cors, Fraction, HttpFilter, PathChange, Redirect, Rewrite};

use super::{BackendTarget, Reference, RuleContext, alike, checked_port, hostnames, target};
use crate::translate::Rejected;

mod headers;

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// This, whatever exists.
    Settled(HttpFilter),
    /// A copy is sent to something that may or may not exist.
    Mirror {
        /// Where it is written: `spec.rules[0].filters[1].requestMirror.backendRef`.
        field: String,
        /// To what.
        target: BackendTarget,
        /// Of how many requests.
        fraction: Fraction,
    },
}

/// Reads the filters of a rule.
pub(in crate::translate) fn of_rule(
    filters: &[HttpRouteRulesFilters],
    rule: &RuleContext<'_>,
) -> Result<Vec<Filter>, Rejected> {
    read(filters, rule, rule.field, Place::Rule)
}

/// Reads the filters of a backend that is written at `field`.
pub(super) fn of_backend(
    filters: &[HttpRouteRulesFilters],
    rule: &RuleContext<'_>,
    field: &str,
) -> Result<Vec<Filter>, Rejected> {
    read(filters, rule, field, Place::Backend)
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Rule,
    Backend,
}

fn read(
    filters: &[HttpRouteRulesFilters],
    rule: &RuleContext<'_>,
    owner: &str,
    place: Place,
) -> Result<Vec<Filter>, Rejected> {
    use HttpRouteRulesFiltersType as Type;

    if filters.len() > FILTERS_LIMIT {
        let message = format!("are more than {FILTERS_LIMIT}");
        return Err(Rejected::invalid(format!("{owner}.filters"), message));
    }
    let mut found = Vec::new();
    for (index, filter) in filters.iter().enumerate() {
        let field = format!("{owner}.filters[{index}]");
        let earlier = filters.iter().take(index);
        let twice = earlier.clone().any(|earlier| earlier.r#type == filter.r#type);
        if twice && filter.r#type != Type::RequestMirror {
            let message = format!("{} is there twice; put both into one", name(&filter.r#type));
            return Err(Rejected::incompatible(format!("{field}.type"), message));
        }
        let kinds = [&Type::RequestRedirect, &Type::UrlRewrite];
        let clashes = |earlier: &HttpRouteRulesFilters| {
            kinds.contains(&&earlier.r#type) && kinds.contains(&&filter.r#type)
        };
        if earlier.clone().any(clashes) {
            let message = "a request cannot be both redirected and rewritten";
            return Err(Rejected::incompatible(format!("{field}.type"), message));
        }
        let answers = matches!(filter.r#type, Type::RequestRedirect | Type::Cors);
        if answers && place == Place::Backend {
            let message = "answers in place of a backend: give it to the rule";
            return Err(Rejected::unsupported(format!("{field}.type"), message));
        }
        only_its_own_part(filter, &field)?;
        found.push(one(filter, rule, &field)?);
    }
    Ok(found)
}

fn one(
    filter: &HttpRouteRulesFilters,
    rule: &RuleContext<'_>,
    field: &str,
) -> Result<Filter, Rejected> {
    use HttpRouteRulesFiltersType as Type;

    let missing = |part: &str| {
        Rejected::invalid(
            format!("{field}.{part}"),
            format!("is missing, which {field}.type wants"),
        )
    };
    Ok(match filter.r#type {
        Type::RequestHeaderModifier => {
            let part = "requestHeaderModifier";
            let change = filter.request_header_modifier.as_ref().ok_or_else(|| missing(part))?;
            let change = headers::change(change, &format!("{field}.{part}"))?;
            Filter::Settled(HttpFilter::RequestHeaders(change))
        }
        Type::ResponseHeaderModifier => {
            let part = "responseHeaderModifier";
            let change = filter.response_header_modifier.as_ref().ok_or_else(|| missing(part))?;
            let field = format!("{field}.{part}");
            let change = headers::change(&alike(change, &field)?, &field)?;
            Filter::Settled(HttpFilter::ResponseHeaders(change))
        }
        Type::RequestRedirect => {
            let part = "requestRedirect";
            let redirect = filter.request_redirect.as_ref().ok_or_else(|| missing(part))?;
            let redirect = self::redirect(redirect, rule, &format!("{field}.{part}"))?;
            Filter::Settled(HttpFilter::Redirect(redirect))
        }
        Type::UrlRewrite => {
            let rewrite = filter.url_rewrite.as_ref().ok_or_else(|| missing("urlRewrite"))?;
            let rewrite = self::rewrite(rewrite, rule, &format!("{field}.urlRewrite"))?;
            Filter::Settled(HttpFilter::Rewrite(rewrite))
        }
        Type::RequestMirror => {
            let mirror = filter.request_mirror.as_ref().ok_or_else(|| missing("requestMirror"))?;
            self::mirror(mirror, rule, &format!("{field}.requestMirror"))?
        }
        Type::Cors => {
            let cors = filter.cors.as_ref().ok_or_else(|| missing("cors"))?;
            Filter::Settled(HttpFilter::Cors(self::cors(cors, &format!("{field}.cors"))?))
        }
        Type::ExtensionRef | Type::ExternalAuth => {
            let message = format!("{} cannot be served; remove it", name(&filter.r#type));
            return Err(Rejected::unsupported(format!("{field}.type"), message));
        }
    })
}

/// Of the parts of a filter only the one of its type may be there.
fn only_its_own_part(filter: &HttpRouteRulesFilters, field: &str) -> Result<(), Rejected> {
    use HttpRouteRulesFiltersType as Type;

    let kind = &filter.r#type;
    let parts = [
        (
            "requestHeaderModifier",
            Type::RequestHeaderModifier,
            filter.request_header_modifier.is_some(),
        ),
        (
            "responseHeaderModifier",
            Type::ResponseHeaderModifier,
            filter.response_header_modifier.is_some(),
        ),
        ("requestRedirect", Type::RequestRedirect, filter.request_redirect.is_some()),
        ("urlRewrite", Type::UrlRewrite, filter.url_rewrite.is_some()),
        ("requestMirror", Type::RequestMirror, filter.request_mirror.is_some()),
        ("cors", Type::Cors, filter.cors.is_some()),
        ("extensionRef", Type::ExtensionRef, filter.extension_ref.is_some()),
        ("externalAuth", Type::ExternalAuth, filter.external_auth.is_some()),
    ];
    match parts.iter().find(|(_, of, present)| *present && of != kind) {
        None => Ok(()),
        Some((part, _, _)) => {
            let message = format!("is of another type than {}", name(kind));
            Err(Rejected::invalid(format!("{field}.{part}"), message))
        }
    }
}

fn name(kind: &HttpRouteRulesFiltersType) -> &'static str {
    use HttpRouteRulesFiltersType as Type;

    match kind {
        Type::RequestHeaderModifier => "RequestHeaderModifier",
        Type::ResponseHeaderModifier => "ResponseHeaderModifier",
        Type::RequestMirror => "RequestMirror",
        Type::RequestRedirect => "RequestRedirect",
        Type::UrlRewrite => "URLRewrite",
        Type::ExtensionRef => "ExtensionRef",
        Type::Cors => "CORS",
        Type::ExternalAuth => "ExternalAuth",
    }
}

fn redirect(
    redirect: &HttpRouteRulesFiltersRequestRedirect,
    rule: &RuleContext<'_>,
    field: &str,
) -> Result<Redirect, Rejected> {
    use HttpRouteRulesFiltersRequestRedirectScheme as Scheme;

    let status = redirect.status_code.unwrap_or(REDIRECT_STATUS);
    let status = u16::try_from(status).ok().filter(|status| REDIRECTS.contains(status));
    let status = status.ok_or_else(|| {
        Rejected::unsupported(
            format!("{field}.statusCode"),
            format!(
                "{} will not do (want one of {REDIRECTS:?})",
                redirect.status_code.unwrap_or_default()
            ),
        )
    })?;
    let scheme = redirect.scheme.as_ref().map(|scheme| match scheme {
        Scheme::Http => "http".to_owned(),
        Scheme::Https => "https".to_owned(),
    });
    Ok(Redirect {
        scheme,
        hostname: hostname(redirect.hostname.as_deref(), field)?,
        path: redirect.path.as_ref().map(|path| path_change(path, rule, field)).transpose()?,
        port: redirect.port.map(|port| checked_port(port, field)).transpose()?,
        status,
    })
}

fn rewrite(
    rewrite: &HttpRouteRulesFiltersUrlRewrite,
    rule: &RuleContext<'_>,
    field: &str,
) -> Result<Rewrite, Rejected> {
    let path =
        rewrite.path.as_ref().map(|path| alike(path, &format!("{field}.path"))).transpose()?;
    Ok(Rewrite {
        hostname: hostname(rewrite.hostname.as_deref(), field)?,
        path: path.map(|path| path_change(&path, rule, field)).transpose()?,
    })
}

fn hostname(name: Option<&str>, field: &str) -> Result<Option<String>, Rejected> {
    name.map(|name| hostnames::precise(name, || format!("{field}.hostname"))).transpose()
}

fn path_change(
    path: &HttpRouteRulesFiltersRequestRedirectPath,
    rule: &RuleContext<'_>,
    field: &str,
) -> Result<PathChange, Rejected> {
    use HttpRouteRulesFiltersRequestRedirectPathType as Type;

    let (full, prefix) = (path.replace_full_path.as_deref(), path.replace_prefix_match.as_deref());
    let bad = |part: &str, message: &str| {
        Rejected::invalid(format!("{field}.path.{part}"), message.to_owned())
    };
    match (&path.r#type, full, prefix) {
        (Type::ReplaceFullPath, Some(full), None) => {
            if !full.starts_with('/') || !is_path(full) {
                return Err(bad("replaceFullPath", "is no path (want one that begins with /)"));
            }
            Ok(PathChange::Full(full.to_owned()))
        }
        (Type::ReplacePrefixMatch, None, Some(prefix)) => {
            if !rule.matches_prefixes {
                let message = "needs matches of type PathPrefix, and no others, in its rule";
                return Err(bad("replacePrefixMatch", message));
            }
            let trimmed = prefix.trim_end_matches('/');
            if !(trimmed.is_empty() || trimmed.starts_with('/')) || !is_path(trimmed) {
                return Err(bad("replacePrefixMatch", "is no path (want one that begins with /)"));
            }
            // The trailing / of a prefix does not count; one of none is that of every path.
            Ok(PathChange::Prefix(if trimmed.is_empty() { "/" } else { trimmed }.to_owned()))
        }
        (Type::ReplaceFullPath, None, _) => Err(bad("replaceFullPath", "is missing")),
        (Type::ReplaceFullPath, Some(_), Some(_)) => {
            Err(bad("replacePrefixMatch", "is of another type than ReplaceFullPath"))
        }
        (Type::ReplacePrefixMatch, _, None) => Err(bad("replacePrefixMatch", "is missing")),
        (Type::ReplacePrefixMatch, Some(_), Some(_)) => {
            Err(bad("replaceFullPath", "is of another type than ReplacePrefixMatch"))
        }
    }
}

/// Whether a text can stand in a request's line: a space or a line's end would forge another one.
fn is_path(text: &str) -> bool {
    text.len() <= PATH_LIMIT_BYTES
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'))
}

fn mirror(
    mirror: &HttpRouteRulesFiltersRequestMirror,
    rule: &RuleContext<'_>,
    field: &str,
) -> Result<Filter, Rejected> {
    let bad = |part: &str, message: String| Rejected::invalid(format!("{field}.{part}"), message);
    let fraction = match (mirror.percent, &mirror.fraction) {
        (None, None) => Fraction::ALL,
        (Some(_), Some(_)) => {
            return Err(bad("fraction", "and percent cannot both be there".to_owned()));
        }
        (Some(percent), None) => {
            let numerator = u32::try_from(percent).ok();
            numerator
                .and_then(|numerator| Fraction::new(numerator, 100))
                .ok_or_else(|| bad("percent", format!("{percent} will not do (want 0 to 100)")))?
        }
        (None, Some(fraction)) => {
            let denominator = fraction.denominator.unwrap_or(100);
            let parts = u32::try_from(fraction.numerator).ok().zip(u32::try_from(denominator).ok());
            parts
                .and_then(|(numerator, denominator)| Fraction::new(numerator, denominator))
                .ok_or_else(|| {
                    bad(
                        "fraction",
                        format!("{} of {denominator} is no part of it", fraction.numerator),
                    )
                })?
        }
    };
    let reference = Reference {
        kind: mirror.backend_ref.kind.as_deref(),
        group: mirror.backend_ref.group.as_deref(),
        namespace: mirror.backend_ref.namespace.as_deref(),
        name: &mirror.backend_ref.name,
        port: mirror.backend_ref.port,
    };
    let field = format!("{field}.backendRef");
    let target = target(&reference, rule.route, &field)?;
    Ok(Filter::Mirror { field, target, fraction })
}

fn cors(cors: &HttpRouteRulesFiltersCors, field: &str) -> Result<Cors, Rejected> {
    let list = |part: &str, list: &Option<Vec<String>>, is_one: fn(&str) -> bool| {
        let list = list.clone().unwrap_or_default();
        let any = list.iter().any(|one| one == "*");
        if (any && list.len() > 1) || list.len() > CORS_LIST_LIMIT {
            let message = format!("wants * alone, or at most {CORS_LIST_LIMIT} others");
            return Err(Rejected::invalid(format!("{field}.{part}"), message));
        }
        match list.iter().position(|one| one != "*" && !is_one(one)) {
            None => Ok(list),
            Some(index) => Err(Rejected::invalid(
                format!("{field}.{part}[{index}]"),
                format!("{:?} will not do", list.get(index).cloned().unwrap_or_default()),
            )),
        }
    };
    let max_age = cors.max_age.unwrap_or(CORS_MAX_AGE_SECONDS);
    let max_age = u64::try_from(max_age).map_err(|_| {
        Rejected::invalid(
            format!("{field}.maxAge"),
            format!("{max_age} will not do (want 0 or more)"),
        )
    })?;
    Ok(Cors {
        allow_origins: list("allowOrigins", &cors.allow_origins, is_origin)?,
        allow_methods: list("allowMethods", &cors.allow_methods, headers::is_token)?,
        allow_headers: list("allowHeaders", &cors.allow_headers, headers::is_token)?,
        expose_headers: list("exposeHeaders", &cors.expose_headers, headers::is_token)?,
        allow_credentials: cors.allow_credentials.unwrap_or(false),
        max_age: Duration::from_secs(max_age),
    })
}

/// `scheme://host[:port]`; the host may begin with `*.`.
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (rest, None),
    };
    let is_host = |host: &str| {
        let name = host.strip_prefix("*.").unwrap_or(host);
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        !name.is_empty() && name.bytes().all(inner)
    };
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && is_host(host)
        && port.is_none_or(|port| port == "*" || port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// The Gateway API allows 16.
const FILTERS_LIMIT: usize = 16;
/// The Gateway API allows 64.
const CORS_LIST_LIMIT: usize = 64;
/// The Gateway API's default.
const CORS_MAX_AGE_SECONDS: i32 = 5;
/// The Gateway API's default.
const REDIRECT_STATUS: i64 = 302;
/// Those that the Gateway API knows.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
/// As the Gateway API has it.
const PATH_LIMIT_BYTES: usize = 1024;
