//! Who may tap. On a machine the owner of the control plane, whom the system knows at the socket. On Kubernetes whom its
//! access rules let: the API server is asked whose token is shown (TokenReview), and whether that account may `create`
//! `taps.heddle.dev` in the namespace (SubjectAccessReview). Why so: docs/adr/0008.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::tap::TapRequest;
use k8s_openapi::api::authentication::v1::{
    TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo,
};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tracing::{info, warn};

/// Who may tap.
#[derive(Clone, Debug)]
pub enum Rights {
    /// Whoever gets here: the system lets only the owner.
    Owner,
    /// Whom the API server lets.
    Reviewed(Arc<Reviews>),
    /// Nobody: it cannot be told who asks.
    Nobody,
}

/// A tap that may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Who asked.
    pub who: String,
    /// Namespaces whose workloads may be told of; `None`: all that the subject has.
    pub namespaces: Option<Vec<String>>,
}

impl Rights {
    /// Whether whoever sends this may tap. The status names the rule that would allow it.
    pub async fn check(
        &self,
        metadata: &MetadataMap,
        request: &TapRequest,
    ) -> Result<Allowed, Status> {
        match self {
            Self::Owner => {
                Ok(Allowed { who: "the owner of the control plane".to_owned(), namespaces: None })
            }
            Self::Nobody => Err(Status::permission_denied(
                "this address does not tell who asks: ask at the admin socket (--admin-socket)",
            )),
            Self::Reviewed(reviews) => {
                let namespace = request.subject.namespace();
                let is_trace = request.tap.follow.is_some();
                reviews.check(token(metadata)?, namespace, is_trace).await
            }
        }
    }
}

/// What is shown as the header `authorization`.
fn token(metadata: &MetadataMap) -> Result<&str, Status> {
    let shown = metadata.get("authorization").and_then(|value| value.to_str().ok());
    let token = shown.and_then(|shown| shown.strip_prefix("Bearer ")).map(str::trim);
    match token {
        Some(token) if !token.is_empty() && token.len() <= TOKEN_LIMIT_BYTES => Ok(token),
        Some(_) | None => Err(Status::unauthenticated(format!(
            "a tap needs a service account's token for the audience {AUDIENCE}, which who may create \
             serviceaccounts/token for the account gets"
        ))),
    }
}

/// Asks the API server.
pub struct Reviews {
    client: Client,
    slots: Semaphore,
}

impl Reviews {
    /// With its own rights.
    pub fn new(client: Client) -> Self {
        Self { client, slots: Semaphore::new(REVIEWS_LIMIT) }
    }

    async fn check(
        &self,
        token: &str,
        namespace: Option<&str>,
        is_trace: bool,
    ) -> Result<Allowed, Status> {
        let _slot = self.slots.try_acquire().map_err(|_| {
            Status::resource_exhausted("too many ask for taps at once: try again in a moment")
        })?;
        let account = account(self.review(token).await?)?;
        // A trace goes wherever it goes: all namespaces if that is allowed, else the one alone.
        let asked: &[Option<&str>] = match namespace {
            Some(_) if is_trace => &[None, namespace],
            Some(_) | None => &[namespace],
        };
        for namespace in asked {
            if self.may(&account, *namespace).await? {
                let namespaces = namespace.filter(|_| is_trace).map(|one| vec![one.to_owned()]);
                return Ok(Allowed { who: account.name, namespaces });
            }
        }
        info!(account = %account.name, namespace, "a tap is refused");
        Err(Status::permission_denied(refusal(&account.name, namespace)))
    }

    async fn review(&self, token: &str) -> Result<TokenReviewStatus, Status> {
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        let parameters = PostParams::default();
        let asked = reviews.create(&parameters, &review);
        let review = timeout(ANSWER_TIMEOUT, asked).await.map_err(|_| late())?;
        review.map_err(|error| not_asked("whose the token is", &error))?.status.ok_or_else(late)
    }

    async fn may(&self, account: &Account, namespace: Option<&str>) -> Result<bool, Status> {
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(account.name.clone()),
                groups: Some(account.groups.clone()),
                uid: account.uid.clone(),
                extra: account.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(GROUP.to_owned()),
                    resource: Some(RESOURCE.to_owned()),
                    verb: Some("create".to_owned()),
                    // Empty: in all.
                    namespace: namespace.map(ToOwned::to_owned),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let parameters = PostParams::default();
        let asked = reviews.create(&parameters, &review);
        let review = timeout(ANSWER_TIMEOUT, asked).await.map_err(|_| late())?;
        let review = review.map_err(|error| not_asked("who may tap", &error))?;
        Ok(review.status.as_ref().is_some_and(is_allowed))
    }
}

/// What the API server is not sure of is not allowed.
fn is_allowed(status: &SubjectAccessReviewStatus) -> bool {
    status.allowed && status.denied != Some(true)
}

/// Who a token says that somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    name: String,
    groups: Vec<String>,
    uid: Option<String>,
    extra: Option<BTreeMap<String, Vec<String>>>,
}

/// What the API server says of a token. Nothing is taken for granted that it does not say.
fn account(status: TokenReviewStatus) -> Result<Account, Status> {
    let refused = |why: &str| {
        Err(Status::unauthenticated(format!(
            "the token does not count: {why}; want a service account's for the audience {AUDIENCE}"
        )))
    };
    if status.authenticated != Some(true)
        || status.error.as_deref().is_some_and(|said| !said.is_empty())
    {
        return refused("the API server does not know it");
    }
    if status.audiences.as_deref().unwrap_or_default() != [AUDIENCE] {
        return refused("it is for another audience");
    }
    let UserInfo { username, groups, uid, extra } = status.user.unwrap_or_default();
    match username {
        Some(name) if !name.is_empty() => {
            Ok(Account { name, groups: groups.unwrap_or_default(), uid, extra })
        }
        Some(_) | None => refused("it is nobody's"),
    }
}

/// What would allow it.
fn refusal(account: &str, namespace: Option<&str>) -> String {
    let (place, binding) = match namespace {
        Some(namespace) => (
            format!("in namespace {namespace}"),
            format!("a RoleBinding there to the ClusterRole {CLUSTER_ROLE}"),
        ),
        None => (
            "in all namespaces".to_owned(),
            format!("a ClusterRoleBinding to the ClusterRole {CLUSTER_ROLE}"),
        ),
    };
    format!("{account} may not create {RESOURCE}.{GROUP} {place}: {binding} would allow it")
}

fn late() -> Status {
    Status::unavailable("the API server does not answer whether the tap is allowed")
}

fn not_asked(what: &str, error: &kube::Error) -> Status {
    warn!(error = %heddle_runtime::logging::Chain(error), "the API server cannot be asked about a tap");
    Status::unavailable(format!("the control plane cannot ask the API server {what}: see its log"))
}

impl fmt::Debug for Reviews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reviews").finish_non_exhaustive()
    }
}

/// What tokens are for that are shown for a tap, and nothing else.
pub const AUDIENCE: &str = "heddle-tap";
/// What may be created, or not. There are no such objects.
const GROUP: &str = "heddle.dev";
/// See [`GROUP`].
const RESOURCE: &str = "taps";
/// What the chart installs.
const CLUSTER_ROLE: &str = "heddle-tap";
/// People ask one question at a time.
const REVIEWS_LIMIT: usize = 8;
/// For each question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than any token of Kubernetes.
const TOKEN_LIMIT_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use heddle_model::tap::{Filter, Follow, Limits, Shown, Subject, Tap};
    use serde_json::{Value, json};
    use tonic::Code;

    use super::*;
    use crate::test_client;

    fn known() -> Value {
        json!({
            "authenticated": true,
            "audiences": ["heddle-tap"],
            "user": {"username": "system:serviceaccount:heddle-system:heddle-viewer", "groups": ["g"]},
        })
    }

    /// An API server that knows of every token what `review` says, and lets taps be in these namespaces; and
    /// where it was asked about.
    fn reviews(review: Value, lets: &'static [&'static str]) -> (Reviews, Arc<Mutex<Vec<String>>>) {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&asked);
        let client = test_client::answering(move |request| {
            let (review, told) = (review.clone(), Arc::clone(&told));
            Box::pin(async move {
                let is_token = request.uri().path().ends_with("/tokenreviews");
                let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap();
                let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap();
                let answer = if is_token {
                    assert_eq!(body["spec"]["audiences"], json!(["heddle-tap"]));
                    json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
                        "spec": {}, "status": review})
                } else {
                    let of = &body["spec"]["resourceAttributes"];
                    assert_eq!(
                        (&of["group"], &of["resource"]),
                        (&json!("heddle.dev"), &json!("taps"))
                    );
                    assert_eq!(
                        (&of["verb"], &body["spec"]["groups"]),
                        (&json!("create"), &json!(["g"]))
                    );
                    let namespace = of["namespace"].as_str().unwrap_or_default().to_owned();
                    told.lock().unwrap().push(namespace.clone());
                    let allowed = lets.contains(&namespace.as_str());
                    json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
                        "spec": {}, "status": {"allowed": allowed}})
                };
                test_client::json(201, answer).await
            })
        });
        (Reviews::new(client), asked)
    }

    fn request(namespace: Option<&str>, follow: Option<Follow>) -> TapRequest {
        let limits = Limits { per_second: 1, lifetime: Duration::from_secs(1) };
        let tap = Tap { filter: Filter::default(), limits, shown: Shown::default(), follow };
        let subject = namespace.map_or(Subject::All, |name| Subject::Namespace(name.to_owned()));
        TapRequest { subject, tap }
    }

    fn shown(authorization: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        if !authorization.is_empty() {
            metadata.insert("authorization", authorization.parse().unwrap());
        }
        metadata
    }

    #[tokio::test]
    async fn a_tap_is_allowed_where_the_account_may() {
        let mark = Some(Follow::Mark([1; 8]));
        type Case = (
            &'static str,
            &'static [&'static str],
            Option<&'static str>,
            Option<Follow>,
            Result<Option<&'static str>, &'static str>,
            &'static [&'static str],
        );
        let cases: [Case; 7] = [
            ("in its namespace", &["shop"], Some("shop"), None, Ok(None), &["shop"]),
            (
                "in another",
                &["shop"],
                Some("web"),
                None,
                Err("may not create taps.heddle.dev in namespace web: a RoleBinding there"),
                &["web"],
            ),
            ("everywhere", &[""], None, None, Ok(None), &[""]),
            (
                "not everywhere",
                &["shop"],
                None,
                None,
                Err("in all namespaces: a ClusterRoleBinding"),
                &[""],
            ),
            ("a trace everywhere", &["", "shop"], Some("shop"), mark, Ok(None), &[""]),
            ("a trace in one", &["shop"], Some("shop"), mark, Ok(Some("shop")), &["", "shop"]),
            ("no trace", &[], Some("shop"), mark, Err("in namespace shop"), &["", "shop"]),
        ];
        for (case, lets, namespace, follow, expected, asked) in cases {
            let (reviews, told) = reviews(known(), lets);
            let rights = Rights::Reviewed(Arc::new(reviews));
            let outcome = rights.check(&shown("Bearer t"), &request(namespace, follow)).await;
            match (outcome, expected) {
                (Ok(allowed), Ok(only)) => {
                    let only = only.map(|only| vec![only.to_owned()]);
                    assert_eq!(allowed.namespaces, only, "case: {case}");
                }
                (Err(status), Err(text)) => {
                    assert_eq!(status.code(), Code::PermissionDenied, "case: {case}");
                    assert!(status.message().contains(text), "case: {case}: {status}");
                    assert!(status.message().contains("heddle-viewer"), "case: {case}: {status}");
                }
                (outcome, expected) => panic!("case: {case}: {outcome:?}, not {expected:?}"),
            }
            assert_eq!(*told.lock().unwrap(), asked, "case: {case}");
        }
    }

    #[tokio::test]
    async fn without_a_token_that_counts_nothing_is_asked_of_rights() {
        let with = |field: &str, value: Value| {
            let mut review = known();
            review[field] = value;
            review
        };
        for (case, authorization, review, expected) in [
            ("no token", "", known(), "needs a service account's token"),
            ("no bearer", "Basic abc", known(), "needs a service account's token"),
            ("empty", "Bearer ", known(), "needs a service account's token"),
            ("unknown", "Bearer t", with("authenticated", json!(false)), "does not know it"),
            ("not sure", "Bearer t", with("error", json!("hm")), "does not know it"),
            (
                "of the proxies",
                "Bearer t",
                with("audiences", json!(["heddle"])),
                "another audience",
            ),
            ("of all", "Bearer t", with("audiences", Value::Null), "another audience"),
            ("nobody", "Bearer t", with("user", json!({})), "nobody's"),
        ] {
            let (reviews, told) = reviews(review, &["", "shop"]);
            let rights = Rights::Reviewed(Arc::new(reviews));
            let status = rights.check(&shown(authorization), &request(Some("shop"), None)).await;
            let status = status.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "case: {case}");
            assert!(status.message().contains(expected), "case: {case}: {status}");
            assert!(told.lock().unwrap().is_empty(), "case: {case}");
        }
    }

    #[tokio::test]
    async fn the_owner_may_and_a_stranger_on_an_address_may_not() {
        let request = request(None, None);
        Rights::Owner.check(&shown(""), &request).await.unwrap();
        let status = Rights::Nobody.check(&shown("Bearer t"), &request).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
    }
}
