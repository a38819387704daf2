//! The reasons for which a connection of the workload is reset, with their metric labels.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::balance::balancer::NotAdmitted;
use crate::connect::ConnectError;
use crate::discovery::store::NotDiscovered;
use crate::opening::Unheard;
use crate::original_dst::OriginalDestinationError;
use crate::tcp::CopyError;

/// Why a connection of the workload was reset.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("no original destination")]
    NotRedirected(#[source] OriginalDestinationError),
    #[error("the meaning of the destination is not known")]
    NotDiscovered(#[source] NotDiscovered),
    #[error("the destination is refused: {0}")]
    Refused(String),
    #[error("no backend has any weight, or it fell to one that does not exist")]
    NoBackend,
    #[error("no route is for the server name {0:?}")]
    NoTlsRoute(Option<String>),
    #[error("{0} has no ready endpoint")]
    NoEndpoint(Arc<str>),
    #[error("{0} has too many connections")]
    Overloaded(Arc<str>),
    #[error("no connection to {0} has ended in time")]
    QueueTimeout(Arc<str>),
    #[error("cannot connect")]
    Connect(#[source] ConnectError),
    #[error("reading the first bytes failed")]
    Opening(#[source] io::Error),
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("neither side had anything to say for {0:?}")]
    Idle(Duration),
}

impl From<CopyError> for Refusal {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Broken(error) => Self::Broken(error),
            CopyError::Idle(limit) => Self::Idle(limit),
        }
    }
}

impl From<Unheard> for Refusal {
    fn from(error: Unheard) -> Self {
        match error {
            Unheard::Idle(limit) => Self::Idle(limit),
            Unheard::Client(error) => Self::Opening(error),
            Unheard::Server(error) => Self::Broken(error),
        }
    }
}

impl Refusal {
    /// No endpoint of this backend was to be had.
    pub(super) fn not_admitted(refused: NotAdmitted, backend: Arc<str>) -> Self {
        match refused {
            NotAdmitted::NoOther | NotAdmitted::NoEndpoint => Self::NoEndpoint(backend),
            NotAdmitted::Overloaded => Self::Overloaded(backend),
            NotAdmitted::QueueTimeout => Self::QueueTimeout(backend),
        }
    }

    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NotRedirected(_) => "not_redirected",
            Self::NotDiscovered(_) => "not_discovered",
            Self::Refused(_) => "refused",
            Self::NoBackend => "no_backend",
            Self::NoTlsRoute(_) => "no_tls_route",
            Self::NoEndpoint(_) => "no_endpoint",
            Self::Overloaded(_) => "overloaded",
            Self::QueueTimeout(_) => "queue_timeout",
            Self::Connect(error) => error.reason(),
            Self::Opening(_) => "client_broken",
            Self::Broken(_) => "broken",
            Self::Idle(_) => "opaque_idle",
        }
    }

    /// Whether it is a timer that ran out, on a connection that was taken.
    pub(super) fn is_limit(&self) -> bool {
        match self {
            Self::Idle(_) => true,
            Self::NotRedirected(_)
            | Self::NotDiscovered(_)
            | Self::Refused(_)
            | Self::NoBackend
            | Self::NoTlsRoute(_)
            | Self::NoEndpoint(_)
            | Self::Overloaded(_)
            | Self::QueueTimeout(_)
            | Self::Connect(_)
            | Self::Opening(_)
            | Self::Broken(_) => false,
        }
    }
}
