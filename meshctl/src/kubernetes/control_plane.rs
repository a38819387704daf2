//! The control planes of a cluster, each asked through the API server's port-forward: whoever may
//! forward to their pods may ask, and nobody else can reach their admin port.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use heddle_model::installation::CONTROL_PLANE_SELECTOR;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::admin::AdminService;
use crate::failure::Failure;
use crate::kubernetes::client::{self, Cluster};

/// Where the control plane serves `heddle.admin.v1`, on its loopback address.
pub const ADMIN_PORT: u16 = 15211;

/// What one control plane answered, or why it did not.
#[derive(Debug)]
pub struct Answer<T> {
    /// Its pod.
    pub pod: String,
    /// What it said.
    pub said: Result<T, Failure>,
}

/// The names of the control plane's pods that are ready, in order; where none is, of those that run: what is
/// wrong with them is what somebody wants to know. Fails when there is none.
pub async fn ready_pods(cluster: &Cluster) -> Result<Vec<String>, Failure> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.mesh_namespace);
    let found = pods.list(&ListParams::default().labels(CONTROL_PLANE_SELECTOR)).await.map_err(
        |error| {
            let attempt = format!("list the control plane's pods in {}", cluster.mesh_namespace);
            client::failed(cluster, &attempt, &error)
        },
    )?;
    let names = |which: fn(&Pod) -> bool| {
        let chosen = found.items.iter().filter(|pod| which(pod));
        let mut names: Vec<String> = chosen.filter_map(name).collect();
        names.sort();
        names
    };
    for names in [names(is_ready), names(is_running)] {
        if !names.is_empty() {
            return Ok(names);
        }
    }
    let namespace = &cluster.mesh_namespace;
    Err(match found.items.len() {
        0 => Failure::new(
            format!("there is no control plane in namespace {namespace}"),
            "install it (`meshctl install --apply`), or give the --mesh-namespace that it is in",
        ),
        count => Failure::new(
            format!("none of the {count} control plane pods in namespace {namespace} runs"),
            format!("see why: `kubectl -n {namespace} describe pods -l {CONTROL_PLANE_SELECTOR}`"),
        ),
    })
}

/// Asks every control plane that is ready, beside one another. Fails when none answers; answers come
/// in the order of the pods' names.
pub async fn ask_all<C, T, F>(cluster: &Cluster, ask: F) -> Result<Vec<Answer<T>>, Failure>
where
    C: AdminService,
    F: Fn(C) -> BoxFuture<'static, Result<T, tonic::Status>>,
{
    let pods = ready_pods(cluster).await?;
    let asking = pods.into_iter().map(|pod| async {
        let said = ask_one(cluster, &pod, &ask).await;
        Answer { pod, said }
    });
    let answers = join_all(asking).await;
    if answers.iter().any(|answer| answer.said.is_ok()) {
        return Ok(answers);
    }
    match answers.into_iter().next() {
        Some(Answer { said: Err(failure), .. }) => Err(failure),
        Some(Answer { said: Ok(_), .. }) | None => Ok(Vec::new()),
    }
}

/// Asks one control plane.
pub async fn ask_one<C, T, F>(cluster: &Cluster, pod: &str, ask: F) -> Result<T, Failure>
where
    C: AdminService,
    F: Fn(C) -> BoxFuture<'static, Result<T, tonic::Status>>,
{
    let unreachable = || unreachable(cluster, pod);
    let complaint = Complaint::default();
    let channel = forward(cluster, pod, complaint.clone()).await;
    let channel = channel.map_err(|error| unreachable().because(cause_of(&error)))?;
    match ask(C::over(channel)).await {
        Ok(answer) => Ok(answer),
        Err(status) => match complaint.hear().await {
            Some(said) => Err(unreachable().because_of(said)),
            None => Err(refused(unreachable(), &status)),
        },
    }
}

/// A connection to the admin port of the first control plane that is ready.
pub async fn open(
    cluster: &Cluster,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, Failure> {
    let pod = ready_pods(cluster).await?.into_iter().next().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.mesh_namespace);
    let forwarded = pods.portforward(&pod, &[ADMIN_PORT]).await;
    let mut forwarder = forwarded.map_err(|error| {
        let attempt = format!("forward to the control plane {}/{pod}", cluster.mesh_namespace);
        client::failed(cluster, &attempt, &error)
    })?;
    let stream = forwarder.take_stream(ADMIN_PORT);
    stream.ok_or_else(|| unreachable(cluster, &pod).because(&NoStream))
}

fn unreachable(cluster: &Cluster, pod: &str) -> Failure {
    let namespace = &cluster.mesh_namespace;
    Failure::new(
        format!("cannot ask the control plane {namespace}/{pod}"),
        format!(
            "check that you may forward to it: `kubectl auth can-i create pods/portforward \
             -n {namespace}`"
        ),
    )
}

/// A refusal has its own reason, and the remedy for a connection that failed would mislead.
pub(crate) fn refused(unreachable: Failure, status: &tonic::Status) -> Failure {
    let code = status.code();
    if code == Code::Unimplemented {
        return Failure::new(
            "the control plane does not know this question",
            "upgrade it to meshctl's own version: `meshctl upgrade`",
        );
    }
    if [Code::FailedPrecondition, Code::NotFound, Code::InvalidArgument].contains(&code) {
        let remedy = "see `meshctl identity` and `meshctl proxy status`";
        return Failure::new(status.message(), remedy);
    }
    unreachable.because_of(status.message())
}

/// A connection to the admin port of one pod.
async fn forward(
    cluster: &Cluster,
    pod: &str,
    complaint: Complaint,
) -> Result<Channel, tonic::transport::Error> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.mesh_namespace);
    let pod = pod.to_owned();
    let connector = service_fn(move |_: Uri| {
        let (pods, pod, complaint) = (pods.clone(), pod.clone(), complaint.clone());
        async move {
            let mut forwarder = pods.portforward(&pod, &[ADMIN_PORT]).await?;
            if let Some(error) = forwarder.take_error(ADMIN_PORT) {
                complaint.listen(error.boxed());
            }
            let stream = forwarder.take_stream(ADMIN_PORT).ok_or(NoStream)?;
            Ok::<_, Box<dyn Error + Send + Sync>>(TokioIo::new(stream))
        }
    });
    // The name goes into a header only: the pod is the address.
    Endpoint::from_static("http://control-plane")
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        .connect_with_connector(connector)
        .await
}

/// What the kubelet says of a forwarded port: a refused connection looks like one that was closed.
#[derive(Clone, Default)]
struct Complaint(Arc<Mutex<Option<BoxFuture<'static, Option<String>>>>>);

impl Complaint {
    fn listen(&self, error: BoxFuture<'static, Option<String>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    async fn hear(&self) -> Option<String> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        tokio::time::timeout(COMPLAINT_PATIENCE, said).await.ok()?
    }
}

impl fmt::Debug for Complaint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Complaint").finish()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the API server opened no stream to the port")]
struct NoStream;

/// `tonic` says "transport error" first, which tells nobody anything; what follows does.
fn cause_of(error: &tonic::transport::Error) -> &(dyn Error + 'static) {
    error.source().unwrap_or(error)
}

fn name(pod: &Pod) -> Option<String> {
    pod.metadata.name.clone()
}

/// Ready, and not about to go.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten();
    pod.metadata.deletion_timestamp.is_none()
        && ready
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Runs, ready or not, and is not about to go.
fn is_running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && phase == Some("Running")
}

/// From the API server to the pod.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the kubelet's message may lag behind the end of the connection.
const COMPLAINT_PATIENCE: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_pods_that_are_ready_and_stay_are_asked() {
        let ready = |status: &str| json!([{"type": "Ready", "status": status}]);
        for (case, terminating, phase, conditions, expected) in [
            ("ready", false, "Running", ready("True"), (true, true)),
            ("not ready", false, "Running", ready("False"), (false, true)),
            ("terminating", true, "Running", ready("True"), (false, false)),
            ("only scheduled", false, "Pending", json!([]), (false, false)),
        ] {
            let deleted = terminating.then_some("2026-01-01T00:00:00Z");
            let pod = json!({
                "metadata": {"name": "p", "deletionTimestamp": deleted},
                "status": {"phase": phase, "conditions": conditions},
            });
            let pod: Pod = serde_json::from_value(pod).unwrap();
            assert_eq!((is_ready(&pod), is_running(&pod)), expected, "case: {case}");
        }
    }

    #[test]
    fn a_refusal_says_its_own_reason() {
        let unreachable = || Failure::new("cannot ask", "forward");
        let status = tonic::Status::failed_precondition("a rotation is under way");
        let text = refused(unreachable(), &status).to_string();
        assert!(text.starts_with("a rotation is under way"), "{text}");
        let status = tonic::Status::unavailable("broken pipe");
        let text = refused(unreachable(), &status).to_string();
        assert!(text.starts_with("cannot ask\n  because  broken pipe"), "{text}");
    }
}
