//! What one proxy is sent of one resource. What is the same for many, who had the same before, is made and encoded once
//! for all of them: a thousand proxies are told of one endpoint.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use heddle_model::resource::{ResourceKey, Version};
use heddle_proto::discovery as wire;
use heddle_proto::discovery::control_message::Message as ToProxy;
use prost::Message;

use crate::push::delta;
use crate::snapshot::{Content, Resource, policy};

/// One update.
#[derive(Clone, Debug)]
pub struct Update {
    /// Of which resource.
    pub key: ResourceKey,
    /// In which version.
    pub version: Version,
    /// What it says.
    pub what: What,
}

/// What an update says.
#[derive(Clone, Debug)]
pub enum What {
    /// It is not needed any more.
    Removed,
    /// What it is now.
    Is {
        /// The whole of it.
        resource: Arc<Resource>,
        /// What the proxy has, if only what differs is sent.
        base: Option<Base>,
    },
}

/// What a delta is made from. Both hold endpoints.
#[derive(Clone, Debug)]
pub struct Base {
    /// As the proxy has it.
    pub version: Version,
    /// What it says.
    pub resource: Arc<Resource>,
}

impl Update {
    /// As it is on the wire.
    pub fn to_wire(&self) -> wire::Update {
        use wire::update::Resource as Kind;

        let (digest, content) = match &self.what {
            What::Removed => (0, Kind::Removed(wire::Removed {})),
            What::Is { resource, base } => {
                let delta = base.as_ref().and_then(|base| delta(base, resource));
                (resource.digest, delta.map_or_else(|| resource.to_wire(), Kind::Endpoints))
            }
        };
        wire::Update {
            key: Some((&self.key).into()),
            version: self.version.0,
            digest,
            resource: Some(content),
        }
    }

    /// The whole message. `encodings` has what was encoded for others since the same snapshot.
    pub fn encode(&self, encodings: &Encodings) -> Bytes {
        match &self.what {
            What::Removed => self.to_bytes(),
            What::Is { resource, base } => {
                let variant = Variant {
                    digest: resource.digest,
                    version: self.version,
                    base: base.as_ref().map(|base| (base.version, base.resource.digest)),
                };
                encodings.get_or(&self.key, variant, || self.to_bytes())
            }
        }
    }

    fn to_bytes(&self) -> Bytes {
        let message = Some(ToProxy::Update(self.to_wire()));
        wire::ControlMessage { message }.encode_to_vec().into()
    }
}

fn delta(base: &Base, resource: &Resource) -> Option<wire::Endpoints> {
    match (&base.resource.content, &resource.content) {
        (Content::Endpoints(old), Content::Endpoints(new)) => {
            let delta = delta::between(&old.endpoints, &new.endpoints);
            Some(wire::Endpoints {
                base_version: base.version.0,
                upserted: delta.upserted.into_iter().map(Into::into).collect(),
                removed: delta.removed.into_iter().map(Into::into).collect(),
                policy: policy(new),
            })
        }
        (Content::Workload(_) | Content::Destination(_) | Content::Endpoints(_), _) => None,
    }
}

/// What was encoded since a snapshot was published. Clones share it.
#[derive(Clone, Default)]
pub struct Encodings(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    messages: HashMap<ResourceKey, Vec<(Variant, Bytes)>>,
    bytes: usize,
    /// One did not fit: those that follow are not waited for.
    is_full: bool,
}

/// What tells two messages of one resource apart: what it is, and what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Variant {
    digest: u64,
    version: Version,
    base: Option<(Version, u64)>,
}

impl fmt::Debug for Encodings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encodings").finish_non_exhaustive()
    }
}

impl Encodings {
    fn get_or(&self, key: &ResourceKey, variant: Variant, encode: impl FnOnce() -> Bytes) -> Bytes {
        // Only a proxy itself asks for its own.
        if matches!(key, ResourceKey::Workload(_)) {
            return encode();
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let messages = known.messages.get(key);
        let found = messages.and_then(|all| all.iter().find(|(of, _)| *of == variant));
        if let Some((_, message)) = found {
            return message.clone();
        }
        if known.is_full {
            drop(known);
            return encode();
        }
        let message = encode();
        let bytes = message.len() + OVERHEAD_BYTES;
        if known.bytes + bytes <= LIMIT_BYTES {
            known.bytes += bytes;
            known.messages.entry(key.clone()).or_default().push((variant, message.clone()));
        } else {
            known.is_full = true;
        }
        message
    }
}

/// What one snapshot's messages may take: whatever is told of a change of a few services is in it many times, and most of what
/// a thousand proxies ask for that come back at once.
const LIMIT_BYTES: usize = 4 << 20;
/// Of a message: its key and its place.
const OVERHEAD_BYTES: usize = 200;

#[cfg(test)]
mod tests {
    use heddle_model::endpoint::{Endpoint, EndpointSet, ExpectedPeer};
    use heddle_model::names::{Port, ServiceName, ServicePort};
    use heddle_model::policy::BackendPolicy;
    use proptest::prelude::*;

    use super::*;

    fn resource(endpoints: &[u8]) -> Arc<Resource> {
        let endpoint = |last: &u8| Endpoint {
            address: ([10, 0, 0, *last], 80).into(),
            peer: ExpectedPeer::Plaintext,
            zone: String::new(),
            node: String::new(),
            pod: String::new(),
        };
        let endpoints = endpoints.iter().map(endpoint).collect();
        let set = EndpointSet { endpoints, policy: BackendPolicy::default() };
        Arc::new(Resource::new(Content::Endpoints(set), Vec::new()))
    }

    fn key(name: u8) -> ResourceKey {
        let service = ServiceName { namespace: "n".into(), name: format!("s{name}") };
        ResourceKey::Endpoints(ServicePort { service, port: Port::new(80).unwrap() })
    }

    fn read(message: &Bytes) -> wire::Update {
        match wire::ControlMessage::decode(message.clone()).unwrap().message {
            Some(ToProxy::Update(update)) => update,
            other @ (Some(ToProxy::Digest(_)) | None) => panic!("{other:?}"),
        }
    }

    fn updates() -> impl Strategy<Value = Vec<Update>> {
        let set = || proptest::collection::btree_set(0_u8..4, 0..3);
        let base = proptest::option::of((1_u64..3, set()));
        let update = (0_u8..2, 3_u64..5, set(), base, any::<bool>());
        let update = update.prop_map(|(name, version, is, base, removed)| {
            let set = |set: std::collections::BTreeSet<u8>| {
                resource(&set.into_iter().collect::<Vec<_>>())
            };
            let base =
                base.map(|(version, was)| Base { version: Version(version), resource: set(was) });
            let what = match removed {
                true => What::Removed,
                false => What::Is { resource: set(is), base },
            };
            Update { key: key(name), version: Version(version), what }
        });
        proptest::collection::vec(update, 0..40)
    }

    proptest! {
        #[test]
        fn what_was_encoded_for_others_says_what_would_be_encoded_anew(updates in updates()) {
            let encodings = Encodings::default();
            for update in updates {
                prop_assert_eq!(read(&update.encode(&encodings)), update.to_wire());
            }
        }
    }

    #[test]
    fn what_many_are_told_is_made_once_and_what_one_is_told_is_not_kept() {
        let encodings = Encodings::default();
        let base = |version| Some(Base { version: Version(version), resource: resource(&[1]) });
        let of = |base| Update {
            key: key(1),
            version: Version(9),
            what: What::Is { resource: resource(&[1, 2]), base },
        };
        let first = of(base(3)).encode(&encodings);
        assert_eq!(of(base(3)).encode(&encodings).as_ptr(), first.as_ptr());
        assert_ne!(of(base(4)).encode(&encodings), first);
        assert_ne!(of(None).encode(&encodings), first);
        let own = ResourceKey::Workload("u".parse().unwrap());
        let before = encodings.0.lock().unwrap().bytes;
        let _ = Update { key: own, ..of(None) }.encode(&encodings);
        assert_eq!(encodings.0.lock().unwrap().bytes, before);
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let encodings = Encodings::default();
        let long = || Bytes::from(vec![0; LIMIT_BYTES / 3]);
        for version in 0..5 {
            let variant = Variant { digest: 1, version: Version(version), base: None };
            assert_eq!(encodings.get_or(&key(1), variant, long), long());
        }
        assert!(encodings.0.lock().unwrap().bytes <= LIMIT_BYTES);
    }
}
