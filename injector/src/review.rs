//! An AdmissionReview, from bytes to the answer. Pure: what the namespace says is looked up between
//! [`read`] and [`NewPod::answer`]. Whatever the bytes are, there is an answer: a review, or a sentence.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use kube::core::admission::{AdmissionResponse, META_API_VERSION_V1, META_KIND, Operation};
use kube::core::{GroupVersionKind, GroupVersionResource};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::annotations::INJECT;
use crate::decision::{Refusal, SkipReason};
use crate::inject::{self, Verdict};
use crate::report;
use crate::settings::MeshSettings;
use crate::structure::{Measured, STRUCTURE_LIMIT};

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
    /// Not text. What is passed over would not be looked at by the parser.
    #[error("the body is not UTF-8 (want an AdmissionReview of {META_API_VERSION_V1})")]
    Text(#[source] std::str::Utf8Error),
    /// Not JSON, or not of the shape.
    #[error("the body is not JSON of a review (want an AdmissionReview of {META_API_VERSION_V1})")]
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
    /// A review that would become too much to hold.
    #[error(
        "the pod has {structure} fields and items (want at most {STRUCTURE_LIMIT}: fewer variables, containers or \
         volumes)"
    )]
    TooMuch {
        /// Whom to answer.
        uid: String,
        /// How much it has.
        structure: usize,
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

/// What tells whom to answer. The rest is passed over: it takes no memory.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Envelope {
    kind: String,
    api_version: String,
    request: Option<Sender>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Sender {
    uid: String,
}

/// The review, of which everything is held that decides something, once.
#[derive(Deserialize)]
struct Review {
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    kind: GroupVersionKind,
    #[serde(rename = "resource")]
    _resource: GroupVersionResource,
    sub_resource: Option<String>,
    namespace: Option<String>,
    operation: Operation,
    #[serde(rename = "userInfo")]
    _user: User,
    #[serde(rename = "dryRun", default)]
    _dry_run: bool,
    object: Option<Map<String, Value>>,
}

/// Somebody; it is not looked at who.
#[derive(Deserialize)]
struct User {}

/// Reads what was asked.
pub fn read(body: Measured<'_>) -> Result<Asked, Unanswerable> {
    let text = std::str::from_utf8(body.text()).map_err(Unanswerable::Text)?;
    let envelope: Envelope = serde_json::from_str(text).map_err(Unanswerable::Json)?;
    if envelope.kind != META_KIND {
        return Err(Unanswerable::NoReview("the body is of another kind"));
    }
    if envelope.api_version != META_API_VERSION_V1 {
        return Err(Unanswerable::NoReview("the review is of another version"));
    }
    let uid = envelope.request.unwrap_or_default().uid;
    if uid.is_empty() || uid.len() > UID_LIMIT {
        return Err(Unanswerable::NoReview("the request has no UID to answer to"));
    }
    let structure = body.structure();
    if structure > STRUCTURE_LIMIT {
        return Err(Unanswerable::TooMuch { uid, structure });
    }
    // Nesting is bounded by the parser: 128 levels.
    let request = match serde_json::from_str::<Review>(text) {
        Ok(review) => review.request,
        Err(source) => return Err(Unanswerable::Request { uid, source }),
    };
    let response = allowing(&uid);
    if !is_new_pod(&request) {
        return Ok(Asked::Other(Box::new(response)));
    }
    let missing = |missing| Unanswerable::Incomplete { uid: uid.clone(), missing };
    let object = request.object.ok_or_else(|| missing("has no object: the pod"))?;
    let namespace = request.namespace.filter(|namespace| !namespace.is_empty());
    let namespace = namespace.ok_or_else(|| missing("names no namespace"))?;
    Ok(Asked::Pod(Box::new(NewPod { namespace, object: Value::Object(object), response })))
}

/// Says to the sender of a request that cannot be read what is wrong; `None`: nobody is known to be told.
pub fn refuse(unanswerable: &Unanswerable) -> Option<Answered> {
    let uid = match unanswerable {
        Unanswerable::Text(_) | Unanswerable::Json(_) | Unanswerable::NoReview(_) => return None,
        Unanswerable::Request { uid, .. }
        | Unanswerable::TooMuch { uid, .. }
        | Unanswerable::Incomplete { uid, .. } => uid,
    };
    let sentence = heddle_runtime::logging::Chain(unanswerable).to_string();
    let mut response = AdmissionResponse::invalid(short(&sentence));
    response.uid.clone_from(uid);
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
        ["annotations", "labels"].into_iter().any(|place| {
            let values = self.object.get("metadata").and_then(|metadata| metadata.get(place));
            values.is_some_and(|values| values.get(INJECT).is_some())
        })
    }

    /// Answers, knowing what the namespace says.
    pub fn answer(self, namespace: &BTreeMap<String, String>, mesh: &MeshSettings) -> Answered {
        let Self { object, mut response, namespace: _ } = self;
        match inject::inject(&object, namespace, mesh) {
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

/// An answer that admits what was asked about.
fn allowing(uid: &str) -> AdmissionResponse {
    let mut response = AdmissionResponse::invalid("");
    uid.clone_into(&mut response.uid);
    response.allowed = true;
    response.result = Default::default();
    response
}

fn is_new_pod(request: &Request) -> bool {
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
