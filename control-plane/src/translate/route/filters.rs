//! What a route does to requests. What the mesh cannot do rejects the route, with the field: a filter that
//! is dropped without a word would change what requests get.

use gateway_api::experimental::httproutes::{
    HttpRouteRulesFilters, HttpRouteRulesFiltersRequestMirror,
    HttpRouteRulesFiltersRequestRedirect, HttpRouteRulesFiltersRequestRedirectScheme,
    HttpRouteRulesFiltersType, HttpRouteRulesFiltersUrlRewrite,
};
use heddle_model::filter::{Fraction, HttpFilter, Redirect, Rewrite};

use super::{BackendTarget, Reference, RuleContext, alike, checked_port, hostnames, target};
use crate::translate::Rejected;
use crate::translate::route::filters::headers::Message;

mod cors;
mod headers;
mod path;

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
            let change = headers::change(change, Message::Request, &format!("{field}.{part}"))?;
            Filter::Settled(HttpFilter::RequestHeaders(change))
        }
        Type::ResponseHeaderModifier => {
            let part = "responseHeaderModifier";
            let change = filter.response_header_modifier.as_ref().ok_or_else(|| missing(part))?;
            let field = format!("{field}.{part}");
            let change = headers::change(&alike(change, &field)?, Message::Response, &field)?;
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
            Filter::Settled(HttpFilter::Cors(cors::cors(cors, &format!("{field}.cors"))?))
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
        path: redirect
            .path
            .as_ref()
            .map(|path| path::path_change(path, rule, field))
            .transpose()?,
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
        path: path.map(|path| path::path_change(&path, rule, field)).transpose()?,
    })
}

fn hostname(name: Option<&str>, field: &str) -> Result<Option<String>, Rejected> {
    name.map(|name| hostnames::precise(name, || format!("{field}.hostname"))).transpose()
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

/// The Gateway API allows 16.
const FILTERS_LIMIT: usize = 16;
/// The Gateway API's default.
const REDIRECT_STATUS: i64 = 302;
/// Those that the Gateway API knows.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
