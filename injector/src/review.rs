//! An AdmissionReview, from bytes to the answer. Pure: what the namespace says is looked up between
//! [`read`] and [`NewPod::answer`]. Whatever the bytes are, there is an answer: a review, or a sentence.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use kube::core::DynamicObject;
use kube::core::admission::{
    AdmissionRequest, AdmissionResponse, AdmissionReview, META_API_VERSION_V1, META_KIND, Operation,
};
use serde_json::Value;

use crate::annotations::Wish;
use crate::decision::{Refusal, SkipReason};
use crate::inject::{self, Verdict};
use crate::settings::MeshSettings;
use crate::{annotations, report};

/// What was asked.
#[derive(Debug)]
pub enum Asked {
    /// Whether a new pod gets a proxy.
    Pod(Box<NewPod>),
    /// Something that is not ours to judge: another object, or another operation.
    Other(Box<AdmissionResponse>),
}

/// A pod that somebody makes.
#[derive(Debug)]
pub struct NewPod {
    /// Where.
    pub namespace: String,
    object: Value,
    response: AdmissionResponse,
}

/// An answer, and what it comes to.
#[derive(Debug)]
pub struct Answered {
    /// For the API server.
    pub response: AdmissionResponse,
    /// For the metrics and the log.
    pub outcome: Outcome,
}

/// What an answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The pod gets a proxy.
    Injected,
    /// It stays as it is.
    Skipped(SkipReason),
    /// It is not admitted: what it asks for cannot be.
    Refused,
    /// It is not admitted: it cannot be read.
    Unreadable,
    /// It is not admitted: we are at fault.
    Failed,
    /// Not ours to judge.
    Foreign,
}

impl Outcome {
    /// As metric labels: what happened, and why.
    pub fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Injected => ("injected", ""),
            Self::Skipped(reason) => ("skipped", reason.label()),
            Self::Refused => ("refused", "conflict"),
            Self::Unreadable => ("refused", "unreadable"),
            Self::Failed => ("refused", "wrong_patch"),
            Self::Foreign => ("skipped", "foreign"),
        }
    }
}

/// Why bytes get no review for an answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswerable {
    /// Not JSON.
    #[error("the body is not JSON (want an AdmissionReview of {META_API_VERSION_V1})")]
    Json(#[source] serde_json::Error),
    /// JSON, but nothing that could be answered.
    #[error("{0} (want an AdmissionReview of {META_API_VERSION_V1} with a request)")]
    NoReview(&'static str),
    /// A review whose request cannot be read, but whose sender can be told.
    #[error("the request cannot be read")]
    Request {
        /// Whom to answer.
        uid: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A review of a pod that is not there.
    #[error("the request {missing}")]
    Incomplete {
        /// Whom to answer.
        uid: String,
        /// What is wrong.
        missing: &'static str,
    },
}

/// Reads what was asked.
pub fn read(body: &[u8]) -> Result<Asked, Unanswerable> {
    // Nesting is bounded by the parser: 128 levels.
    let review: Value = serde_json::from_slice(body).map_err(Unanswerable::Json)?;
    let text = |name: &str| review.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("kind") != META_KIND {
        return Err(Unanswerable::NoReview("the body is of another kind"));
    }
    if text("apiVersion") != META_API_VERSION_V1 {
        return Err(Unanswerable::NoReview("the review is of another version"));
    }
    let request = review.get("request").unwrap_or(&Value::Null);
    let uid = request.get("uid").and_then(Value::as_str).unwrap_or_default();
    if uid.is_empty() || uid.len() > UID_LIMIT {
        return Err(Unanswerable::NoReview("the request has no UID to answer to"));
    }
    let uid = uid.to_owned();
    let unreadable = |source| Unanswerable::Request { uid: uid.clone(), source };
    let typed = <AdmissionReview<DynamicObject> as serde::Deserialize>::deserialize(&review);
    let request: AdmissionRequest<DynamicObject> = typed
        .map_err(unreadable)?
        .try_into()
        .map_err(|_| Unanswerable::NoReview("the review has no request"))?;
    let response = AdmissionResponse::from(&request);
    if !is_new_pod(&request) {
        return Ok(Asked::Other(Box::new(response)));
    }
    let object = review.pointer("/request/object").filter(|object| object.is_object()).cloned();
    let missing = |missing| Unanswerable::Incomplete { uid: uid.clone(), missing };
    let object = object.ok_or_else(|| missing("has no object: the pod"))?;
    let namespace = request.namespace.filter(|namespace| !namespace.is_empty());
    let namespace = namespace.ok_or_else(|| missing("names no namespace"))?;
    Ok(Asked::Pod(Box::new(NewPod { namespace, object, response })))
}

/// Says to the sender of a request that cannot be read what is wrong; `None`: nobody is known to be told.
pub fn refuse(unanswerable: &Unanswerable) -> Option<Answered> {
    let uid = match unanswerable {
        Unanswerable::Json(_) | Unanswerable::NoReview(_) => return None,
        Unanswerable::Request { uid, .. } | Unanswerable::Incomplete { uid, .. } => uid,
    };
    let sentence = heddle_runtime::logging::Chain(unanswerable).to_string();
    let mut response = AdmissionResponse::invalid(short(&sentence));
    response.uid = uid.clone();
    response.result.code = BAD_REQUEST;
    Some(Answered { response, outcome: Outcome::Unreadable })
}

/// The bytes of an answer.
pub fn write(mut answered: Answered) -> Result<Vec<u8>, serde_json::Error> {
    let patch = answered.response.patch.take().map(ByteString);
    let has_patch = patch.is_some();
    let mut review = serde_json::to_value(answered.response.into_review())?;
    // As the API has bytes: in base64, and not as the numbers that a list of bytes becomes.
    if has_patch && let Some(response) = review.get_mut("response").and_then(Value::as_object_mut) {
        response.insert("patch".to_owned(), serde_json::to_value(patch)?);
    }
    serde_json::to_vec(&review)
}

impl NewPod {
    /// Whether the pod itself says if it gets a proxy, so that its namespace need not be asked.
    pub fn says_itself(&self) -> bool {
        let own = |name: &str| {
            let values = self.object.pointer(&format!("/metadata/{name}"))?;
            serde_json::from_value::<BTreeMap<String, String>>(values.clone()).ok()
        };
        let wishes = ["annotations", "labels"].into_iter().filter_map(own);
        wishes.map(|values| annotations::wish(&values)).any(|wish| wish != Ok(Wish::Unsaid))
    }

    /// Answers, knowing what the namespace says.
    pub fn answer(
        self,
        namespace_labels: &BTreeMap<String, String>,
        mesh: &MeshSettings,
    ) -> Answered {
        let Self { object, mut response, namespace: _ } = self;
        match inject::inject(&object, namespace_labels, mesh) {
            Ok(Verdict::Inject { patch, patched }) => match response.clone().with_patch(patch) {
                Ok(mut response) => {
                    response.warnings = udp_warning(&patched).map(|warning| vec![warning]);
                    Answered { response, outcome: Outcome::Injected }
                }
                Err(error) => deny(response, &error.to_string(), Outcome::Failed),
            },
            Ok(Verdict::Skip(reason)) => {
                if reason.is_obstacle() {
                    response.warnings = Some(vec![format!("no proxy is injected: {reason}")]);
                }
                Answered { response, outcome: Outcome::Skipped(reason) }
            }
            Ok(Verdict::Refuse(refusals)) => {
                let text = Refusals(&refusals).to_string();
                deny(response, &text, Outcome::Refused)
            }
            Err(error) => {
                let outcome = match &error {
                    inject::InjectError::NotAPod(_) => Outcome::Unreadable,
                    inject::InjectError::WrongPatch(_) | inject::InjectError::Unfit(_) => {
                        Outcome::Failed
                    }
                };
                let text = heddle_runtime::logging::Chain(&error).to_string();
                deny(response, &text, outcome)
            }
        }
    }
}

struct Refusals<'a>(&'a [Refusal]);

impl fmt::Display for Refusals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        report::list(self.0, f)
    }
}

fn is_new_pod(request: &AdmissionRequest<DynamicObject>) -> bool {
    let kind = &request.kind;
    let is_pod = kind.group.is_empty() && kind.version == "v1" && kind.kind == "Pod";
    // Containers that are added for a while are added to a pod that has its proxy, or has none.
    let whole = request.sub_resource.as_deref().unwrap_or_default().is_empty();
    is_pod && whole && request.operation == Operation::Create
}

fn deny(response: AdmissionResponse, sentence: &str, outcome: Outcome) -> Answered {
    let mut response = response.deny(short(sentence));
    response.result.code = match outcome {
        Outcome::Unreadable => BAD_REQUEST,
        Outcome::Failed => INTERNAL_ERROR,
        Outcome::Injected | Outcome::Skipped(_) | Outcome::Refused | Outcome::Foreign => FORBIDDEN,
    };
    Answered { response, outcome }
}

fn udp_warning(patched: &Value) -> Option<String> {
    let ports = report::udp_ports(&inject::read(patched).ok()?);
    let kind = report::FindingKind::Udp(ports.clone());
    (!ports.is_empty()).then(|| kind.to_string())
}

/// What users wrote may be long; what they read need not be.
fn short(sentence: &str) -> String {
    sentence.chars().take(SENTENCE_LIMIT).collect()
}

const SENTENCE_LIMIT: usize = 4096;
/// A UUID has 36.
const UID_LIMIT: usize = 128;
const BAD_REQUEST: u16 = 400;
const FORBIDDEN: u16 = 403;
const INTERNAL_ERROR: u16 = 500;
