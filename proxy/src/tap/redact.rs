//! What of a request's texts may be seen. Pure. Names of headers may; values only of headers that hold no secrets by what
//! they are for, and of those that were asked for by name, unless they look like a secret all the same.

use heddle_model::tap::{Shown, is_secret_header};
use heddle_proto::tap as wire;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The headers, as far as they are shown.
pub fn headers(all: Option<&HeaderMap>, shown: &Shown) -> Vec<wire::Header> {
    if !shown.headers {
        return Vec::new();
    }
    let all = all.into_iter().flatten().take(HEADERS_LIMIT);
    let header = |(name, value): (&HeaderName, &HeaderValue)| wire::Header {
        name: cut(name.as_str(), NAME_LIMIT_BYTES),
        value: value_of(name.as_str(), value, &shown.values),
    };
    all.map(header).collect()
}

/// A value that may be seen.
fn value_of(name: &str, value: &HeaderValue, asked: &[String]) -> Option<String> {
    // Whatever does not read as text is nothing for people.
    let text = value.to_str().ok().filter(|_| !value.is_sensitive())?;
    let is_shown = if PLAIN.contains(&name) {
        true
    } else if READ.contains(&name) || asked.iter().any(|asked| asked == name) {
        !is_secret_header(name) && !looks_secret(text)
    } else {
        false
    };
    is_shown.then(|| cut(text, VALUE_LIMIT_BYTES))
}

/// Whether a text holds something that looks like a key or a token: a scheme of authentication, a JSON Web Token, or a
/// long run of letters and digits together as only machines write.
pub fn looks_secret(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let scheme = ["bearer ", "basic ", "digest ", "negotiate "];
    if scheme.iter().any(|scheme| lower.contains(scheme)) || text.contains("eyJ") {
        return true;
    }
    let in_run = |c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c);
    text.split(|c: char| !in_run(c)).any(|run| {
        run.len() >= SECRET_RUN
            && run.contains(|c: char| c.is_ascii_digit())
            && run.contains(|c: char| c.is_ascii_alphabetic())
    })
}

/// A path without parameters of its segments: sessions are kept there.
pub fn path(text: &str) -> String {
    if !text.contains(';') {
        return text.to_owned();
    }
    let segments = text.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    segments.collect::<Vec<_>>().join("/")
}

fn cut(text: &str, limit_bytes: usize) -> String {
    text.get(..text.floor_char_boundary(limit_bytes)).unwrap_or_default().to_owned()
}

/// Shown whatever they hold: their form is fixed, or the mesh's own. Documented in docs/tap.md.
const PLAIN: [&str; 21] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-status",
    "grpc-timeout",
    "retry-after",
    "te",
    "traceparent",
    "x-heddle-error",
    "x-request-id",
];
/// Shown unless they hold what looks like a secret: people write them.
const READ: [&str; 4] = ["server", "user-agent", "vary", "x-forwarded-proto"];
/// Shorter than any key, longer than what people write without a space between.
const SECRET_RUN: usize = 20;
/// More headers than anybody reads.
const HEADERS_LIMIT: usize = 64;
const NAME_LIMIT_BYTES: usize = 128;
const VALUE_LIMIT_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const PLANTED: &str = "sk4live0Zx9QwErTy1234567";

    fn shown(values: &[&str]) -> Shown {
        Shown { headers: true, values: values.iter().map(|value| (*value).to_owned()).collect() }
    }

    fn value(name: &str, text: &str, asked: &[&str]) -> Option<String> {
        let mut map = HeaderMap::new();
        let name: HeaderName = name.parse().unwrap();
        map.insert(name.clone(), HeaderValue::from_bytes(text.as_bytes()).unwrap());
        let all = headers(Some(&map), &shown(asked));
        assert_eq!(all.len(), 1);
        let header = all.into_iter().next().unwrap();
        assert_eq!(header.name, name.as_str(), "names are always shown");
        header.value
    }

    #[test]
    fn values_are_shown_of_headers_that_hold_no_secrets() {
        for (name, text, asked, expected) in [
            ("content-type", "text/html", &[][..], Some("text/html")),
            ("content-length", "12", &[], Some("12")),
            ("user-agent", "curl/8.1", &[], Some("curl/8.1")),
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                &[],
                Some(""),
            ),
            ("x-request-id", "7b3f7d3e-9c1d-4f0e-8e58-b5d9d0a3e5c1", &[], Some("")),
            ("x-user", "alice", &[], None),
            ("x-user", "alice", &["x-user"], Some("alice")),
            ("x-user", "alice", &["x-other"], None),
            ("accept", "*/*", &[], Some("*/*")),
        ] {
            let found = value(name, text, asked);
            let expected = expected.map(|value| if value.is_empty() { text } else { value });
            assert_eq!(found.as_deref(), expected, "case: {name}");
        }
    }

    #[test]
    fn secrets_are_never_shown_even_if_they_are_asked_for() {
        for name in [
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "x-api-key",
            "x-auth-token",
            "x-amz-security-token",
            "x-csrf",
            "x-session-id",
            "x-client-secret",
            "x-forwarded-client-cert",
            "apikey",
        ] {
            assert_eq!(value(name, "short", &[name]), None, "case: {name}");
        }
        for text in [
            PLANTED,
            &format!("id={PLANTED};"),
            "Bearer abc",
            "basic dXNlcg==",
            "eyJhbGciOiJub25lIn0.e30.",
        ] {
            assert_eq!(value("x-user", text, &["x-user"]), None, "case: {text}");
            assert_eq!(value("user-agent", text, &[]), None, "case: {text}");
        }
    }

    #[test]
    fn nothing_is_shown_that_was_not_asked_for_and_no_more_than_is_read() {
        let mut map = HeaderMap::new();
        for number in 0..200 {
            let name: HeaderName = format!("x-{number}").parse().unwrap();
            map.insert(name, HeaderValue::from_static("1"));
        }
        assert!(headers(Some(&map), &Shown::default()).is_empty());
        assert_eq!(headers(Some(&map), &shown(&[])).len(), HEADERS_LIMIT);
        assert_eq!(value("accept", &"a/".repeat(1000), &[]).unwrap().len(), VALUE_LIMIT_BYTES);
        let mut marked = HeaderMap::new();
        let mut sensitive = HeaderValue::from_static("text/html");
        sensitive.set_sensitive(true);
        marked.insert("content-type", sensitive);
        assert_eq!(headers(Some(&marked), &shown(&[])).first().unwrap().value, None);
        // Not text.
        assert_eq!(value("accept", "é", &[]), None);
    }

    #[test]
    fn sessions_in_an_address_are_left_out() {
        for (text, expected) in [
            ("/a/b", "/a/b"),
            ("/a;jsessionid=1234/b;v=1", "/a/b"),
            (";x", ""),
            ("", ""),
            ("/a/", "/a/"),
        ] {
            assert_eq!(path(text), expected, "case: {text}");
        }
    }
}
