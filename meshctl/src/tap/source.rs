//! Where the events of a tap come from: the control plane, after it was shown who asks.

use std::time::Duration;

use futures_util::FutureExt as _;
use heddle_model::tap::TapRequest;
use heddle_proto::tap as wire;
use heddle_proto::tap::event::Event;
use heddle_proto::tap::tap_client::TapClient;
use http::HeaderValue;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::failure::Failure;
use crate::kubernetes::client::{self, Cluster};
use crate::tap::arguments::Account;
use crate::target::Target;

/// The events of a tap, as they come.
#[derive(Debug)]
pub struct Events {
    stream: Streaming<wire::Event>,
    /// The connection, which goes with it.
    _client: TapClient<Channel>,
}

impl Events {
    /// Begins a tap.
    pub async fn open(
        target: &Target,
        request: &TapRequest,
        account: Option<&Account>,
    ) -> Result<Self, Failure> {
        let authorization = match target {
            Target::Local(_) => None,
            Target::Cluster(cluster) => Some(metadata(&authorization(cluster, account).await?)?),
        };
        let message = wire::WatchRequest::from(request);
        let asked = target.ask_any(move |mut client: TapClient<Channel>| {
            let mut request = Request::new(message.clone());
            if let Some(value) = &authorization {
                request.metadata_mut().insert("authorization", value.clone());
            }
            async move {
                match client.watch(request).await {
                    Ok(response) => Ok(Ok(Self { stream: response.into_inner(), _client: client })),
                    // What the control plane itself says is said on; what failed on the way is told by how.
                    Err(status) if is_refusal(status.code()) => Ok(Err(status)),
                    Err(status) => Err(status),
                }
            }
            .boxed()
        });
        asked.await?.map_err(|status| refused(&status))
    }

    /// The next event; fails when the control plane is gone, or says nothing for long.
    ///
    /// Cancel safe: yes.
    pub async fn next(&mut self) -> Result<Event, Failure> {
        let gone = || {
            Failure::new(
                "the control plane does not tell any more",
                "begin anew: it may have been restarted (`meshctl status`)",
            )
        };
        loop {
            let heard = tokio::time::timeout(SILENCE_LIMIT, self.stream.message()).await;
            match heard {
                Ok(Ok(Some(wire::Event { event: Some(event) }))) => return Ok(event),
                // A later version's.
                Ok(Ok(Some(wire::Event { event: None }))) => {}
                Ok(Ok(None)) => return Err(gone()),
                Ok(Err(status)) => return Err(gone().because_of(status.message())),
                Err(_) => {
                    let silence = format!("nothing came for {} s", SILENCE_LIMIT.as_secs());
                    return Err(gone().because_of(silence));
                }
            }
        }
    }
}

fn is_refusal(code: Code) -> bool {
    [
        Code::InvalidArgument,
        Code::NotFound,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::ResourceExhausted,
    ]
    .contains(&code)
}

fn refused(status: &Status) -> Failure {
    let remedies = [
        (
            Code::NotFound,
            "list what there is: `meshctl stat`, `meshctl stat svc`, `meshctl stat pod`",
        ),
        (Code::PermissionDenied, "ask for that rule, or use --as-service-account NAMESPACE/NAME"),
        (Code::Unauthenticated, "use an account that exists: --as-service-account NAMESPACE/NAME"),
        (Code::ResourceExhausted, "end another tap, or wait for its end"),
    ];
    let remedy = remedies.iter().find(|(code, _)| *code == status.code());
    let remedy = remedy.map_or("see `meshctl tap --help`", |(_, remedy)| *remedy);
    Failure::new("the control plane does not tap", remedy).because_of(status.message())
}

fn metadata(authorization: &HeaderValue) -> Result<MetadataValue<Ascii>, Failure> {
    let mut value = MetadataValue::try_from(authorization.as_bytes()).map_err(|_| no_text())?;
    value.set_sensitive(true);
    Ok(value)
}

/// What tells the control plane who asks, as the header `authorization`: a token of the account, which this user may
/// create, and which is good for nothing else, for some minutes.
pub async fn authorization(
    cluster: &Cluster,
    account: Option<&Account>,
) -> Result<HeaderValue, Failure> {
    let namespace = account.map_or(cluster.mesh_namespace.as_str(), |it| it.namespace.as_str());
    let name = account.map_or(VIEWER, |it| it.name.as_str());
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![AUDIENCE.to_owned()],
            expiration_seconds: Some(TOKEN_SECONDS),
            bound_object_ref: None,
        },
        ..TokenRequest::default()
    };
    let made = accounts.create_token_request(name, &PostParams::default(), &request).await;
    let made = made.map_err(|error| no_token(cluster, (namespace, name), &error))?;
    let token = made.status.map(|status| status.token).unwrap_or_default();
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| no_text())?;
    value.set_sensitive(true);
    Ok(value)
}

fn no_text() -> Failure {
    Failure::new("the API server made no token", "check the version of the API server")
}

fn no_token(cluster: &Cluster, (namespace, name): (&str, &str), error: &kube::Error) -> Failure {
    let attempt = format!("get a token of the service account {namespace}/{name}");
    let code = if let kube::Error::Api(status) = error { status.code } else { 0 };
    match code {
        403 => client::because(
            Failure::new(
                format!("cannot {attempt}, which the right to tap is of"),
                format!(
                    "ask for the right to create serviceaccounts/token of {name} in namespace {namespace}, or \
                     use --as-service-account NAMESPACE/NAME"
                ),
            ),
            error,
        ),
        404 => client::because(
            Failure::new(
                format!("cannot {attempt}"),
                "name one that exists (--as-service-account NAMESPACE/NAME), or bring the mesh to this \
                 version: `meshctl upgrade`",
            ),
            error,
        ),
        _ => client::failed(cluster, &attempt, error),
    }
}

/// In the mesh's namespace; the chart makes it.
const VIEWER: &str = "heddle-viewer";
/// What the control plane wants tokens to be for.
const AUDIENCE: &str = "heddle-tap";
/// It is needed once, at the beginning; the API server makes none that are shorter.
const TOKEN_SECONDS: i64 = 600;
/// The control plane says how it is each ten seconds.
const SILENCE_LIMIT: Duration = Duration::from_secs(35);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_rule_and_what_would_do() {
        let status = Status::permission_denied("a may not create taps.heddle.dev in namespace b");
        let text = refused(&status).to_string();
        assert!(
            text.contains("because  a may not create taps.heddle.dev in namespace b"),
            "{text}"
        );
        assert!(text.contains("--as-service-account"), "{text}");
    }
}
