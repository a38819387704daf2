//! What a token says of itself, before anybody has vouched for it: enough to refuse what cannot be, and never
//! enough to believe it. Pure.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::{AUDIENCE, SAID_LIMIT_CHARS, refused};
use crate::identity::attest::NotAttested;
use crate::identity::live_pod::Claim;

/// What a token of a service account says, as far as it matters. Source: RFC 7519, section 4.1, and
/// `privateClaims` in Kubernetes' pkg/serviceaccount.
#[derive(Deserialize)]
struct Claims {
    aud: Option<Audiences>,
    exp: Option<u64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Bound>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Account,
    pod: Option<Pod>,
}

#[derive(Deserialize)]
struct Account {
    name: String,
}

#[derive(Deserialize)]
struct Pod {
    name: String,
    uid: String,
}

/// Whose token it says that it is. Refuses what cannot be one for the control plane: the API server answers for
/// one audience of several, and a token for several could be shown here by whoever else it was meant for.
pub(super) fn read(token: &str, now: SystemTime) -> Result<Claim, NotAttested> {
    check_form(token)?;
    let nothing = || refused("it does not say what a token of a service account says");
    let payload = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims: Option<Claims> = serde_json::from_slice(&payload.ok_or_else(nothing)?).ok();
    let claims = claims.ok_or_else(nothing)?;
    let audiences = match claims.aud {
        None => return Err(refused("it does not say what it is for")),
        Some(Audiences::One(audience)) => vec![audience],
        Some(Audiences::Several(audiences)) => audiences,
    };
    if audiences != [AUDIENCE] {
        let audiences: String = audiences.join(", ").chars().take(SAID_LIMIT_CHARS).collect();
        return Err(refused(format!("it is for [{audiences}], and not for {AUDIENCE} alone")));
    }
    let Some(expiry) = claims.exp else { return Err(refused("it does not say until when")) };
    // The API server itself lets a minute pass. A kubelet replaces a token long before its end, so that a clock
    // of ours that is a little ahead refuses nobody.
    let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(expiry));
    if end.is_none_or(|end| end <= now) {
        return Err(refused("it has expired"));
    }
    let bound = claims.kubernetes.ok_or_else(nothing)?;
    let pod = bound.pod.ok_or_else(|| refused("it is bound to no pod"))?;
    let pod_uid = pod.uid.parse().map_err(|_| refused("it is bound to no pod with a UID"))?;
    Ok(Claim {
        namespace: bound.namespace,
        service_account: bound.serviceaccount.name,
        pod_uid,
        pod_name: Some(pod.name),
    })
}

fn check_form(token: &str) -> Result<(), NotAttested> {
    let of_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let parts = token.split('.').filter(|part| !part.is_empty()).count();
    if parts == 3 && token.len() <= TOKEN_LIMIT_BYTES && token.bytes().all(of_token) {
        return Ok(());
    }
    Err(refused("it is no token of a service account (want a signed JSON web token)"))
}

/// Longer than any token: some have a thousand bytes.
const TOKEN_LIMIT_BYTES: usize = 16 << 10;

#[cfg(test)]
pub(super) mod tests {
    use heddle_runtime::clock;
    use serde_json::{Value, json};

    use super::*;

    /// Of a good token.
    pub(in super::super) fn claims() -> Value {
        let now = clock::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        json!({
            "aud": ["heddle"], "exp": now + 3_600, "iat": now, "nbf": now,
            "iss": "https://kubernetes.default.svc.cluster.local",
            "kubernetes.io": {
                "namespace": "shop",
                "pod": {"name": "api-1", "uid": "u-1"},
                "serviceaccount": {"name": "api", "uid": "s-1"},
            },
            "sub": "system:serviceaccount:shop:api",
        })
    }

    /// With these claims, and signed by nobody.
    pub(in super::super) fn token(claims: &Value) -> String {
        format!("aGVh.{}.bGU", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn a_token_says_whose_it_is_or_is_refused_with_the_reason() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let with = |pointer: &str, value: Value| {
            let mut claims = claims();
            claims["exp"] = json!(1_000);
            *claims.pointer_mut(pointer).unwrap() = value;
            claims
        };
        let as_it_is = with("/exp", json!(1_000));
        let found = read(&token(&as_it_is), at(900)).unwrap();
        assert_eq!((found.namespace.as_str(), found.pod_uid.as_str()), ("shop", "u-1"));
        assert_eq!(
            (found.service_account.as_str(), found.pod_name.as_deref()),
            ("api", Some("api-1"))
        );
        for (case, claims, now, expected) in [
            ("as a text", with("/aud", json!("heddle")), 900, ""),
            ("a second before its end", as_it_is.clone(), 999, ""),
            ("expired", as_it_is.clone(), 1_000, "it has expired"),
            ("no such time", with("/exp", json!(u64::MAX)), 900, "it has expired"),
            ("no expiry", with("/exp", Value::Null), 900, "until when"),
            (
                "for another",
                with("/aud", json!(["api"])),
                900,
                "for [api], and not for heddle alone",
            ),
            ("for both", with("/aud", json!(["heddle", "api"])), 900, "it is for [heddle, api]"),
            ("for none", with("/aud", json!([])), 900, "it is for []"),
            ("no word of it", with("/aud", Value::Null), 900, "does not say what it is for"),
            ("bound to nothing", with("/kubernetes.io/pod", Value::Null), 900, "bound to no pod"),
            (
                "a strange pod",
                with("/kubernetes.io/pod/uid", json!("U 1")),
                900,
                "no pod with a UID",
            ),
            (
                "not of Kubernetes",
                with("/kubernetes.io", Value::Null),
                900,
                "what a token of a service",
            ),
            (
                "no account",
                with("/kubernetes.io/serviceaccount", Value::Null),
                900,
                "what a token of",
            ),
            ("a list", json!([]), 900, "what a token of a service account says"),
        ] {
            let error = read(&token(&claims), at(now)).err().map(|error| error.to_string());
            let error = error.unwrap_or_default();
            assert_eq!(error.is_empty(), expected.is_empty(), "case: {case}: {error}");
            assert!(error.contains(expected), "case: {case}: {error}");
        }
    }

    #[test]
    fn what_has_not_the_form_of_a_token_is_none() {
        for (case, token, good) in [
            ("a token", "aGVh.ZGR_-.bGU".to_owned(), true),
            ("nothing", String::new(), false),
            ("a word", "secret".to_owned(), false),
            ("two parts", "a.b".to_owned(), false),
            ("an empty part", "a..b".to_owned(), false),
            ("four parts", "a.b.c.d".to_owned(), false),
            ("a new line", "a.b.c\n".to_owned(), false),
            ("too long", format!("a.b.{}", "c".repeat(TOKEN_LIMIT_BYTES)), false),
        ] {
            assert_eq!(check_form(&token).is_ok(), good, "case: {case}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_shown_is_read_or_refused(text in "[ -~]{0,60}", payload in ".{0,60}") {
            let _ = read(&text, clock::now()).is_err();
            let shown = format!("a.{}.c", URL_SAFE_NO_PAD.encode(payload));
            proptest::prop_assert!(read(&shown, clock::now()).is_err());
        }
    }
}
