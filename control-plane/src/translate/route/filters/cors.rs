//! Which origins may call.

use std::time::Duration;

use gateway_api::experimental::httproutes::HttpRouteRulesFiltersCors;
use heddle_model::filter::Cors;

use super::headers;
use crate::translate::Rejected;

/// Reads a CORS filter that is written at `field`.
pub(super) fn cors(cors: &HttpRouteRulesFiltersCors, field: &str) -> Result<Cors, Rejected> {
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

/// The Gateway API allows 64.
const CORS_LIST_LIMIT: usize = 64;
/// The Gateway API's default.
const CORS_MAX_AGE_SECONDS: i32 = 5;
