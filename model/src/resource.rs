//! Resources: the units in which configuration is subscribed to, versioned, pushed and acknowledged.

use std::fmt;
use std::net::SocketAddr;

use crate::identity::PodUid;
use crate::names::ServicePort;

/// What a proxy can hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKey {
    /// A proxy's own workload.
    Workload(PodUid),
    /// The meaning of an address.
    Destination(SocketAddr),
    /// The ready endpoints of a service's port; implied by a destination that refers to it.
    Endpoints(ServicePort),
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(uid) => write!(f, "workload {uid}"),
            Self::Destination(address) => write!(f, "destination {address}"),
            Self::Endpoints(port) => write!(f, "endpoints {port}"),
        }
    }
}

/// Orders what was pushed: greater is newer. Zero means that nothing is known.
///
/// The control plane starts it at the microseconds since 1970, so that it grows across restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
