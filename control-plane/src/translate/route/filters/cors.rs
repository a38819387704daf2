//! Which origins may call.

use std::time::Duration;

use gateway_api::experimental::httproutes::HttpRouteRulesFiltersCors;
use heddle_model::filter::Cors;

use crate::translate::{Rejected, header_name};

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
        allow_methods: list("allowMethods", &cors.allow_methods, header_name::is_token)?,
        allow_headers: list("allowHeaders", &cors.allow_headers, header_name::is_token)?,
        expose_headers: list("exposeHeaders", &cors.expose_headers, header_name::is_token)?,
        allow_credentials: cors.allow_credentials.unwrap_or(false),
        max_age: Duration::from_secs(max_age),
    })
}

/// `http` or `https`, `://host`, and a port; the host may begin with `*.`, or be `*`.
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (rest, None),
    };
    let name = if host == "*" { "a" } else { host.strip_prefix("*.").unwrap_or(host) };
    let is_host = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let inner = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            !name.is_empty() && name.bytes().all(inner)
        }
    };
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|one| one > 0)
    };
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
        && is_host
        && port.is_none_or(is_port)
}

/// The Gateway API allows 64.
const CORS_LIST_LIMIT: usize = 64;
/// The Gateway API's default.
const CORS_MAX_AGE_SECONDS: i32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_told_from_what_is_none() {
        for (text, expected) in [
            ("https://a.b", true),
            ("http://a:8080", true),
            ("https://*.a.b", true),
            ("https://*", true),
            ("http://[::1]:80", true),
            ("a.b", false),
            ("ftp://a.b", false),
            ("https://", false),
            ("https://a.*.b", false),
            ("https://a/b", false),
            ("https://a:b", false),
            ("https://a:0", false),
            ("http://[::g]", false),
        ] {
            assert_eq!(is_origin(text), expected, "case: {text}");
        }
    }
}
