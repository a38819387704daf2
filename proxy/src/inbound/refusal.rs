//! The reasons for which a connection to the workload is reset, with their metric labels.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use heddle_tls::accept::AcceptError;
use heddle_tls::application::ProbeAcceptorError;
use heddle_tls::https::HttpsError;

use crate::connect::ConnectError;
use crate::inbound::admission::NotAdmitted;
use crate::opening::Unheard;
use crate::original_dst::OriginalDestinationError;
use crate::tcp::CopyError;

/// Why a connection to the workload was reset.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("no original destination")]
    NotRedirected(#[source] OriginalDestinationError),
    #[error("{0} is not an address of this machine")]
    NotOurs(SocketAddr),
    #[error("cannot tell whether {0} is an address of this machine")]
    Local(SocketAddr, #[source] io::Error),
    #[error("not admitted")]
    NotAdmitted(#[from] NotAdmitted),
    #[error("the peer is not authenticated")]
    Tls(#[source] AcceptError),
    #[error("there is no certificate yet")]
    NoCertificate,
    #[error("no certificate for probes could be made")]
    ProbeCertificate(#[source] ProbeAcceptorError),
    #[error("the TLS of the node's probe failed")]
    ProbeTls(#[source] HttpsError),
    #[error("cannot connect to the application")]
    Connect(#[source] ConnectError),
    #[error("reading the first bytes failed")]
    Opening(#[source] io::Error),
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("the first bytes were too late")]
    Late,
    #[error("the client said nothing, and it was its turn")]
    Silent,
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
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NotRedirected(_) => "not_redirected",
            Self::NotOurs(_) => "not_ours",
            Self::Local(..) => "local",
            Self::NotAdmitted(not_admitted) => not_admitted.reason(),
            Self::Tls(_) => "tls",
            Self::NoCertificate | Self::ProbeCertificate(_) => "no_certificate",
            Self::ProbeTls(_) => "probe_tls",
            Self::Connect(error) => error.reason(),
            Self::Opening(_) => "client_broken",
            Self::Broken(_) => "broken",
            Self::Late => "detection",
            Self::Silent => "silence",
            Self::Idle(_) => "opaque_idle",
        }
    }

    /// Whether it is a timer that ran out, on a connection that was taken.
    pub(super) fn is_limit(&self) -> bool {
        match self {
            Self::Late | Self::Silent | Self::Idle(_) => true,
            Self::NotRedirected(_)
            | Self::NotOurs(_)
            | Self::Local(..)
            | Self::NotAdmitted(_)
            | Self::Tls(_)
            | Self::NoCertificate
            | Self::ProbeCertificate(_)
            | Self::ProbeTls(_)
            | Self::Connect(_)
            | Self::Opening(_)
            | Self::Broken(_) => false,
        }
    }
}
