//! Reads one pushed update: wire message → model values, or why it cannot be read. Applies nothing:
//! see state.rs.

use std::net::SocketAddr;

use heddle_model::destination::Destination;
use heddle_model::endpoint::Endpoint;
use heddle_model::names::ObjectReference;
use heddle_model::policy::BackendPolicy;
use heddle_model::resource::{ResourceKey, Version};
use heddle_model::workload::Workload;
use heddle_proto::convert::InvalidMessage;
use heddle_proto::discovery as wire;

/// One resource at one version, as the control plane sent it.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// What it is.
    pub key: ResourceKey,
    /// Grows with every change.
    pub version: Version,
    /// Of the content after this update.
    pub digest: u64,
    /// The content, of the kind that the key names.
    pub content: Content,
}

/// What an update carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// This proxy's own workload.
    Workload(Workload),
    /// The meaning of an address.
    Destination(Destination),
    /// A change of the endpoints of a service's port.
    Endpoints(EndpointsChange),
    /// Nobody refers to these endpoints any more.
    EndpointsRemoved,
}

/// A change of endpoints, which applies to exactly one version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointsChange {
    /// Zero: `upserted` is everything.
    pub base: Version,
    /// New, or changed.
    pub upserted: Vec<Endpoint>,
    /// Gone.
    pub removed: Vec<SocketAddr>,
    /// How they are all used.
    pub policy: BackendPolicy,
}

/// Why an update is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A sentence for people.
    pub reason: String,
    /// The object at fault, when one can be named.
    pub origin: Option<ObjectReference>,
    /// Where in that object; may be empty.
    pub field: String,
}

/// An update that cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    /// What it was for; `None` if not even that can be read.
    pub key: Option<ResourceKey>,
    /// Its version.
    pub version: Version,
    /// What is wrong with it.
    pub refusal: Refusal,
}

/// Reads an update. Nothing of it is used when a part is wrong.
pub fn read(update: wire::Update) -> Result<Update, Box<Unreadable>> {
    let version = Version(update.version);
    let digest = update.digest;
    let key = match update.key.map(ResourceKey::try_from) {
        Some(Ok(key)) => key,
        Some(Err(error)) => {
            let refusal = unreadable(&error);
            return Err(Box::new(Unreadable { key: None, version, refusal }));
        }
        None => {
            let refusal = refusal("the update names no resource");
            return Err(Box::new(Unreadable { key: None, version, refusal }));
        }
    };
    match content(&key, update.resource) {
        Ok(content) => Ok(Update { key, version, digest, content }),
        Err(refusal) => Err(Box::new(Unreadable { key: Some(key), version, refusal })),
    }
}

/// A refusal that names no object.
pub fn refusal(reason: &str) -> Refusal {
    Refusal { reason: reason.to_owned(), origin: None, field: String::new() }
}

fn content(
    key: &ResourceKey,
    resource: Option<wire::update::Resource>,
) -> Result<Content, Refusal> {
    use wire::update::Resource;

    match (key, resource) {
        (ResourceKey::Workload(_), Some(Resource::Workload(workload))) => {
            Workload::try_from(workload).map(Content::Workload).map_err(|error| unreadable(&error))
        }
        (ResourceKey::Destination(_), Some(Resource::Destination(destination))) => {
            let origin = sole_origin(&destination);
            Destination::try_from(destination)
                .map(Content::Destination)
                .map_err(|error| Refusal { origin, ..unreadable(&error) })
        }
        (ResourceKey::Endpoints(_), Some(Resource::Endpoints(endpoints))) => {
            endpoints_change(endpoints).map(Content::Endpoints).map_err(|error| unreadable(&error))
        }
        (ResourceKey::Endpoints(_), Some(Resource::Removed(_))) => Ok(Content::EndpointsRemoved),
        (
            ResourceKey::Workload(_) | ResourceKey::Destination(_) | ResourceKey::Endpoints(_),
            Some(
                Resource::Workload(_)
                | Resource::Destination(_)
                | Resource::Endpoints(_)
                | Resource::Removed(_),
            ),
        ) => Err(refusal("the update's content is not of the kind that its key names")),
        (_, None) => {
            Err(refusal("the update has no content, or one that this proxy is too old for"))
        }
    }
}

fn endpoints_change(endpoints: wire::Endpoints) -> Result<EndpointsChange, InvalidMessage> {
    Ok(EndpointsChange {
        base: Version(endpoints.base_version),
        upserted: endpoints
            .upserted
            .into_iter()
            .map(Endpoint::try_from)
            .collect::<Result<_, InvalidMessage>>()?,
        removed: endpoints
            .removed
            .into_iter()
            .map(SocketAddr::try_from)
            .collect::<Result<_, InvalidMessage>>()?,
        policy: endpoints
            .policy
            .map_or_else(|| Ok(BackendPolicy::default()), BackendPolicy::try_from)?,
    })
}

/// The object that all routes of a destination came from, if it is one: then an unreadable
/// destination is that object's fault, or at least shown where somebody will look.
fn sole_origin(destination: &wire::Destination) -> Option<ObjectReference> {
    use wire::destination::Destination as Kind;

    let rules = match destination.destination.as_ref()? {
        Kind::Service(service) => &service.http_rules,
        Kind::PassThrough(_) | Kind::Refused(_) | Kind::Endpoint(_) => return None,
    };
    let mut origins = rules.iter().filter_map(|rule| rule.origin.as_ref());
    let first = origins.next()?;
    origins.all(|origin| origin == first).then(|| ObjectReference {
        kind: first.kind.clone(),
        namespace: first.namespace.clone(),
        name: first.name.clone(),
    })
}

fn unreadable(error: &InvalidMessage) -> Refusal {
    Refusal { reason: error.to_string(), origin: None, field: String::new() }
}
