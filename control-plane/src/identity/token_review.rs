//! Service account tokens of Kubernetes, projected into a pod for the audience `heddle` alone. The API
//! server tells whose a token is (TokenReview); the pod must be the one that is known here, and live.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{
    TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo,
};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::identity::attest::{Attest, Attested, NotAttested};
use crate::identity::live_pod::{self, Claim};
use crate::push::publisher::Snapshots;

/// Attests by the API server's word.
pub struct TokenReviews {
    client: Client,
    snapshots: Snapshots,
    slots: Semaphore,
}

impl TokenReviews {
    /// `snapshots` tell which pods are live.
    pub fn new(client: Client, snapshots: Snapshots) -> Self {
        Self { client, snapshots, slots: Semaphore::new(REVIEWS_LIMIT) }
    }

    async fn review(&self, token: &str) -> Result<TokenReviewStatus, NotAttested> {
        let unavailable = |what, source| NotAttested::Unavailable { what, source };
        let reviewed = timeout(REVIEW_TIMEOUT, async {
            let _slot = self.slots.acquire().await;
            let reviews: Api<TokenReview> = Api::all(self.client.clone());
            let review = TokenReview {
                spec: TokenReviewSpec {
                    token: Some(token.to_owned()),
                    audiences: Some(vec![AUDIENCE.to_owned()]),
                },
                ..TokenReview::default()
            };
            reviews.create(&PostParams::default(), &review).await
        });
        let review = reviewed
            .await
            .map_err(|_| unavailable("the API server does not answer in time", None))?
            .map_err(|error| unavailable("the API server cannot be asked", Some(error.into())))?;
        review.status.ok_or_else(|| unavailable("the API server did not judge the token", None))
    }
}

#[tonic::async_trait]
impl Attest for TokenReviews {
    async fn attest(&self, token: &str, from: IpAddr) -> Result<Attested, NotAttested> {
        check(token)?;
        let status = self.review(token).await?;
        let claim = claim(&status)?;
        live_pod::prove(&self.snapshots, &claim, from, POD_PATIENCE).await
    }
}

impl std::fmt::Debug for TokenReviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenReviews").finish_non_exhaustive()
    }
}

/// What cannot be a token for the control plane is not worth a question. The API server answers for one
/// audience of several; a token for several could be shown here by whoever else it was meant for.
fn check(token: &str) -> Result<(), NotAttested> {
    check_form(token)?;
    let audiences = audiences(token).ok_or_else(|| refused("it does not say what it is for"))?;
    if audiences == [AUDIENCE] {
        return Ok(());
    }
    let audiences: String = audiences.join(", ").chars().take(SAID_LIMIT_CHARS).collect();
    Err(refused(format!("it is for [{audiences}], and not for {AUDIENCE} alone")))
}

/// What a token says that it is for. Source: RFC 7519, sections 3 and 4.1.3.
fn audiences(token: &str) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Claims {
        aud: Audiences,
    }
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Audiences {
        One(String),
        Several(Vec<String>),
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    Some(match claims.aud {
        Audiences::One(audience) => vec![audience],
        Audiences::Several(audiences) => audiences,
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

/// What the API server says that a token says. Nothing is taken for granted that it does not say.
fn claim(status: &TokenReviewStatus) -> Result<Claim, NotAttested> {
    if status.authenticated != Some(true) {
        let said = status.error.as_deref().filter(|said| !said.is_empty());
        let said: String =
            said.unwrap_or("no reason given").chars().take(SAID_LIMIT_CHARS).collect();
        return Err(refused(format!("the API server does not know it: {said}")));
    }
    if let Some(error) = status.error.as_deref().filter(|error| !error.is_empty()) {
        return Err(refused(format!("the API server is not sure of it: {error}")));
    }
    let audiences = status.audiences.as_deref().unwrap_or_default();
    if audiences != [AUDIENCE] {
        let audiences = audiences.join(", ");
        return Err(refused(format!("it is for [{audiences}], and not for {AUDIENCE} alone")));
    }
    let none = UserInfo::default();
    let user = status.user.as_ref().unwrap_or(&none);
    let name = user.username.as_deref().unwrap_or_default();
    let account = name.strip_prefix(ACCOUNT_PREFIX).and_then(|name| name.split_once(':'));
    let (namespace, service_account) =
        account.ok_or_else(|| refused(format!("{name:?} is no service account")))?;
    let extra = |key: &str| match user.extra.as_ref().and_then(|extra| extra.get(key)) {
        Some(values) => match values.as_slice() {
            [value] if !value.is_empty() => Ok(value.clone()),
            _ => Err(refused(format!("{key} does not have one value"))),
        },
        None => Err(refused(format!("it is bound to no pod: {key} is missing"))),
    };
    let pod_uid = extra(POD_UID)?;
    let pod_uid = pod_uid.parse().map_err(|_| refused(format!("{pod_uid:?} is no pod UID")))?;
    Ok(Claim {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        pod_uid,
        pod_name: Some(extra(POD_NAME)?),
    })
}

fn refused(why: impl Into<String>) -> NotAttested {
    NotAttested::RefusedToken { why: why.into() }
}

/// What tokens are for that are shown to the control plane, and nothing else.
pub const AUDIENCE: &str = "heddle";
/// What service accounts are called as users. Source: Kubernetes, "Authenticating".
const ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// Where the API server says which pod a token is bound to. Source: KEP-4193 and the years before it.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
/// See [`POD_NAME`].
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// Questions to the API server at once; more wait for theirs.
const REVIEWS_LIMIT: usize = 32;
/// How long a proxy waits for the API server, and for those before it.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a token's pod may lag behind the token: its events travel on another connection.
const POD_PATIENCE: Duration = Duration::from_secs(2);
/// Longer than any token: some have a thousand bytes.
const TOKEN_LIMIT_BYTES: usize = 16 << 10;
/// What is passed on of the API server's reason.
const SAID_LIMIT_CHARS: usize = 300;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "authenticated": true,
            "audiences": ["heddle"],
            "user": {
                "username": "system:serviceaccount:shop:api",
                "groups": ["system:serviceaccounts"],
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["api-1"],
                    "authentication.kubernetes.io/pod-uid": ["u-1"],
                },
            },
        })
    }

    fn told(status: Value) -> Result<Claim, String> {
        let status: TokenReviewStatus = serde_json::from_value(status).unwrap();
        claim(&status).map_err(|error| error.to_string())
    }

    #[test]
    fn a_reviewed_token_tells_account_and_pod() {
        let claim = told(good()).unwrap();
        let expected = Claim {
            namespace: "shop".to_owned(),
            service_account: "api".to_owned(),
            pod_uid: "u-1".parse().unwrap(),
            pod_name: Some("api-1".to_owned()),
        };
        assert_eq!(claim, expected);
    }

    #[test]
    fn a_token_that_proves_less_is_refused_with_the_reason() {
        let extra = |key: &str, values: Value| {
            let mut status = good();
            status["user"]["extra"][format!("authentication.kubernetes.io/{key}")] = values;
            status
        };
        let with = |field: &str, value: Value| {
            let mut status = good();
            status[field] = value;
            status
        };
        let named = |name: &str| {
            let mut status = good();
            status["user"]["username"] = json!(name);
            status
        };
        for (case, status, expected) in [
            (
                "not authenticated",
                with("authenticated", json!(false)),
                "does not know it: no reason",
            ),
            ("no word", with("authenticated", Value::Null), "does not know it"),
            (
                "expired",
                json!({"error": "[invalid bearer token, token has expired]"}),
                "token has expired",
            ),
            ("unsure", with("error", json!("lookup failed")), "not sure of it: lookup failed"),
            ("no audience", with("audiences", Value::Null), "it is for [], and not for heddle"),
            ("another audience", with("audiences", json!(["api"])), "it is for [api]"),
            ("two audiences", with("audiences", json!(["api", "heddle"])), "[api, heddle]"),
            ("a person", named("alice"), "\"alice\" is no service account"),
            ("a node", named("system:node:n1"), "no service account"),
            ("no user", with("user", Value::Null), "no service account"),
            ("no pod", extra("pod-uid", json!([])), "pod-uid does not have one value"),
            ("no name", extra("pod-name", json!([])), "pod-name does not have one value"),
            ("two pods", extra("pod-uid", json!(["u-1", "u-2"])), "does not have one value"),
            ("an empty pod", extra("pod-uid", json!([""])), "does not have one value"),
            ("a strange pod", extra("pod-uid", json!(["U 1"])), "is no pod UID"),
        ] {
            let error = told(status).unwrap_err();
            assert!(error.contains(expected), "case: {case}: {error}");
        }
        let mut unbound = good();
        unbound["user"]["extra"] = json!({});
        assert!(told(unbound).unwrap_err().contains("bound to no pod"));
    }

    #[test]
    fn a_token_must_be_for_the_control_plane_alone() {
        let token = |claims: &str| format!("aGVh.{}.bGU", URL_SAFE_NO_PAD.encode(claims));
        for (case, claims, expected) in [
            ("alone", r#"{"aud": ["heddle"], "exp": 1}"#, ""),
            ("as a text", r#"{"aud": "heddle"}"#, ""),
            ("another", r#"{"aud": ["api"]}"#, "it is for [api], and not for heddle alone"),
            ("both", r#"{"aud": ["heddle", "api"]}"#, "it is for [heddle, api]"),
            ("none", r#"{"aud": []}"#, "it is for []"),
            ("no word of it", r#"{"exp": 1}"#, "it does not say what it is for"),
            ("no claims", "heddle", "it does not say what it is for"),
        ] {
            let error = check(&token(claims)).err().map(|error| error.to_string());
            match error {
                Some(error) => {
                    assert!(
                        !expected.is_empty() && error.contains(expected),
                        "case: {case}: {error}"
                    );
                }
                None => assert!(expected.is_empty(), "case: {case}"),
            }
        }
    }

    #[test]
    fn what_cannot_be_a_token_is_not_asked_about() {
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
}
