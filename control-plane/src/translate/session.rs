//! Session persistence, as routes and policies write it.

use std::time::Duration;

use gateway_api::experimental::httproutes::{
    HttpRouteRulesSessionPersistence, HttpRouteRulesSessionPersistenceCookieConfigLifetimeType,
    HttpRouteRulesSessionPersistenceType,
};
use heddle_model::policy::{SessionKind, SessionPersistence};

use crate::translate::{Rejected, duration, header_name};

/// Reads what is written at `field`.
pub fn translate(
    session: &HttpRouteRulesSessionPersistence,
    field: &str,
) -> Result<SessionPersistence, Rejected> {
    use HttpRouteRulesSessionPersistenceCookieConfigLifetimeType as Lifetime;
    use HttpRouteRulesSessionPersistenceType as Type;

    let time = |text: &Option<String>, name: &str| {
        let field = format!("{field}.{name}");
        let time = text.as_ref().map(|text| duration::positive(text, &field)).transpose()?;
        Ok(time)
    };
    let absolute_timeout: Option<Duration> = time(&session.absolute_timeout, "absoluteTimeout")?;
    let idle_timeout = time(&session.idle_timeout, "idleTimeout")?;
    let lifetime = session.cookie_config.as_ref().map(|cookie| cookie.lifetime_type.as_ref());
    let kind = match (&session.r#type, lifetime) {
        (Some(Type::Header), Some(_)) => {
            let message = "is for cookies, and the type is Header";
            return Err(Rejected::invalid(format!("{field}.cookieConfig"), message));
        }
        (Some(Type::Header), None) => SessionKind::Header,
        (None | Some(Type::Cookie), Some(Some(Lifetime::Permanent))) => {
            if absolute_timeout.is_none() {
                let message = "is missing; a permanent cookie lives that long";
                return Err(Rejected::invalid(format!("{field}.absoluteTimeout"), message));
            }
            SessionKind::PermanentCookie
        }
        (None | Some(Type::Cookie), None | Some(None | Some(Lifetime::Session))) => {
            SessionKind::SessionCookie
        }
    };
    let name = session.session_name.as_deref().unwrap_or(SESSION_NAME);
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > NAME_LIMIT_BYTES || !name.bytes().all(inner) {
        let message = format!("{name:?} will not do (want letters, digits, - _ and .)");
        return Err(Rejected::invalid(format!("{field}.sessionName"), message));
    }
    if kind == SessionKind::Header {
        let place = || format!("{field}.sessionName");
        let name = header_name::changeable(name, place)?;
        if name.eq_ignore_ascii_case("host") {
            return Err(Rejected::unsupported(place(), "host says who is called, not by whom"));
        }
    }
    Ok(SessionPersistence { name: name.to_owned(), kind, absolute_timeout, idle_timeout })
}

/// Of a session that is given no name.
const SESSION_NAME: &str = "heddle-session";
/// As the Gateway API has it.
const NAME_LIMIT_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<SessionPersistence, String> {
        let session = crate::source::node::Node::parse(text).unwrap();
        translate(&crate::source::reader::read(&session).unwrap(), "s")
            .map_err(|rejected| rejected.to_string())
    }

    #[test]
    fn every_kind_of_session_is_read() {
        for (text, name, kind) in [
            ("{}", "heddle-session", SessionKind::SessionCookie),
            ("{type: Cookie, sessionName: s}", "s", SessionKind::SessionCookie),
            ("{type: Cookie, cookieConfig: {}}", "heddle-session", SessionKind::SessionCookie),
            (
                "{sessionName: s, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}",
                "s",
                SessionKind::PermanentCookie,
            ),
            ("{type: Header, sessionName: x-s, idleTimeout: 30s}", "x-s", SessionKind::Header),
        ] {
            let session = check(text).unwrap();
            assert_eq!((session.name.as_str(), session.kind), (name, kind), "case: {text}");
        }
    }

    #[test]
    fn a_session_that_means_nothing_is_refused_with_the_field() {
        for (text, field) in [
            ("{cookieConfig: {lifetimeType: Permanent}}", "s.absoluteTimeout"),
            ("{type: Header, cookieConfig: {lifetimeType: Session}}", "s.cookieConfig"),
            ("{idleTimeout: 0s}", "s.idleTimeout"),
            ("{absoluteTimeout: soon}", "s.absoluteTimeout"),
            ("{sessionName: 'a b'}", "s.sessionName"),
            ("{type: Header, sessionName: Content-Length}", "s.sessionName"),
            ("{type: Header, sessionName: connection}", "s.sessionName"),
            ("{type: Header, sessionName: x-forwarded-client-cert}", "s.sessionName"),
            ("{type: Header, sessionName: host}", "s.sessionName"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.starts_with(field), "case: {text}: {error}");
        }
    }
}
