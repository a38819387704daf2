//! Service account tokens of Kubernetes, projected into a pod for the audience `heddle` alone. The API
//! server tells whose a token is (TokenReview); the pod must be the one that is known here, and live.
//!
//! Anybody may show anything, and every question costs the API server some work. So it is asked only about a
//! token whose own words (`token_review/said.rs`) would do if they were true, and for few callers of one
//! address at once.

mod said;

use std::net::IpAddr;
use std::time::Duration;

use heddle_runtime::clock;
use heddle_runtime::sources::Sources;
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
    sources: Sources,
}

impl TokenReviews {
    /// `snapshots` tell which pods are live.
    pub fn new(client: Client, snapshots: Snapshots) -> Self {
        let sources = Sources::new(REVIEWS_OF_SOURCE_LIMIT);
        Self { client, snapshots, slots: Semaphore::new(REVIEWS_LIMIT), sources }
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
        let said = said::read(token, clock::now())?;
        let _place = self.sources.enter(from).ok_or(NotAttested::TooMany { from })?;
        // Nothing is proven by this, but that it is worth a question.
        live_pod::prove(&self.snapshots, &said, from, POD_PATIENCE).await?;
        let claim = claim(&self.review(token).await?)?;
        if claim != said {
            return Err(refused("the API server takes it for that of another pod"));
        }
        live_pod::prove(&self.snapshots, &claim, from, Duration::ZERO).await
    }
}

impl std::fmt::Debug for TokenReviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenReviews").finish_non_exhaustive()
    }
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

/// Who has no more than one token at a time.
const REVIEWS_OF_SOURCE_LIMIT: usize = 2;
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
/// How long a token's pod, and its address, may lag behind the token: a kubelet tells of it when its containers
/// have started, and that travels on another connection.
const POD_PATIENCE: Duration = Duration::from_secs(3);
/// What is passed on of the API server's reason.
const SAID_LIMIT_CHARS: usize = 300;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Value, json};

    use super::*;
    use crate::index::Index;
    use crate::snapshot::{Contents, Snapshot};
    use crate::source::Event;
    use crate::source::document::read_file;
    use crate::test_client;

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

    const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: api-1, namespace: shop, uid: u-1}
spec: {serviceAccountName: api, containers: []}
status: {phase: Running, podIP: 10.0.0.1}
";

    /// What is known of the pod, and what the API server answers, counting its answers.
    fn reviews(
        answer: impl Fn() -> test_client::Answer + Clone + Send + Sync + 'static,
    ) -> (TokenReviews, Arc<AtomicUsize>) {
        let mut index = Index::new("cluster.local".parse().unwrap());
        for object in read_file("pod.yaml", POD).objects {
            index.apply(Event::Applied(object.into()));
        }
        let contents = Arc::new(index.contents(&Contents::default()));
        let version = heddle_model::resource::Version(1);
        let (_, snapshots) = tokio::sync::watch::channel(Some(Snapshot::first(version, contents)));
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let client = test_client::answering(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            answer()
        });
        (TokenReviews::new(client, snapshots), asked)
    }

    fn reviewed(status: &Value) -> test_client::Answer {
        test_client::json(
            201,
            json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
            "spec": {}, "status": status}),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn the_api_server_is_asked_only_about_what_would_do_if_it_were_true() {
        let own: IpAddr = "10.0.0.1".parse().unwrap();
        let elsewhere: IpAddr = "10.0.0.2".parse().unwrap();
        let with = |pointer: &str, value: Value| {
            let mut claims = said::tests::claims();
            *claims.pointer_mut(pointer).unwrap() = value;
            said::tests::token(&claims)
        };
        let good = said::tests::token(&said::tests::claims());
        for (case, token, from, asked, expected) in [
            ("good", good.clone(), own, 1, ""),
            ("garbage", "a.b.c".to_owned(), own, 0, "does not say"),
            ("from elsewhere", good.clone(), elsewhere, 0, "does not have the address"),
            ("expired", with("/exp", json!(1)), own, 0, "it has expired"),
            ("for others", with("/aud", json!(["api"])), own, 0, "it is for [api]"),
            ("no such pod", with("/kubernetes.io/pod/uid", json!("u-2")), own, 0, "no live pod"),
            (
                "another name",
                with("/kubernetes.io/pod/name", json!("api-2")),
                own,
                0,
                "no live pod",
            ),
            (
                "another account",
                with("/kubernetes.io/serviceaccount/name", json!("web")),
                own,
                0,
                "no live pod",
            ),
        ] {
            let (reviews, counted) = reviews(|| reviewed(&self::good()));
            let outcome = reviews.attest(&token, from).await;
            assert_eq!(counted.load(Ordering::Relaxed), asked, "case: {case}");
            let error = outcome.err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(error.is_empty(), expected.is_empty(), "case: {case}: {error}");
            assert!(error.contains(expected), "case: {case}: {error}");
        }
        // What a token says of itself is worth nothing by itself.
        for (case, status, expected) in [
            (
                "forged",
                json!({"error": "invalid signature"}),
                "does not know it: invalid signature",
            ),
            (
                "another pod",
                {
                    let mut status = self::good();
                    status["user"]["extra"]["authentication.kubernetes.io/pod-uid"] =
                        json!(["u-9"]);
                    status
                },
                "that of another pod",
            ),
        ] {
            let (reviews, counted) = reviews(move || reviewed(&status));
            let error = reviews.attest(&good, own).await.unwrap_err().to_string();
            assert!(error.contains(expected), "case: {case}: {error}");
            assert_eq!(counted.load(Ordering::Relaxed), 1, "case: {case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_has_few_questions_under_way() {
        let own: IpAddr = "10.0.0.1".parse().unwrap();
        let token = said::tests::token(&said::tests::claims());
        let (reviews, asked) = reviews(test_client::never);
        let reviews = Arc::new(reviews);
        let mut under_way = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let (reviews, token) = (Arc::clone(&reviews), token.clone());
            under_way.spawn(async move { reviews.attest(&token, own).await.unwrap_err() });
        }
        let mut refused = 0;
        while let Some(error) = under_way.join_next().await {
            let error = error.unwrap();
            if let NotAttested::TooMany { from } = error {
                assert_eq!(from, own);
                refused += 1;
            } else {
                assert!(error.to_string().contains("does not answer in time"), "{error}");
            }
        }
        assert_eq!((refused, asked.load(Ordering::Relaxed)), (8, REVIEWS_OF_SOURCE_LIMIT));
        // They have a place again when those are over.
        let error = reviews.attest(&token, own).await.unwrap_err().to_string();
        assert!(error.contains("does not answer in time"), "{error}");
    }
}
