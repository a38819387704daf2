//! The reasons for which a connection to the workload is reset, with their metric labels.

use std::io;
use std::net::SocketAddr;

use heddle_tls::accept::AcceptError;

use crate::connect::ConnectError;
use crate::inbound::admission::NotAdmitted;
use crate::original_dst::OriginalDestinationError;

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
    #[error("cannot connect to the application")]
    Connect(#[source] ConnectError),
    #[error("reading the first bytes failed")]
    Opening(#[source] io::Error),
    #[error("the connection broke")]
    Broken(#[source] io::Error),
}

impl Refusal {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NotRedirected(_) => "not_redirected",
            Self::NotOurs(_) => "not_ours",
            Self::Local(..) => "local",
            Self::NotAdmitted(not_admitted) => not_admitted.reason(),
            Self::Tls(_) => "tls",
            Self::NoCertificate => "no_certificate",
            Self::Connect(error) => error.reason(),
            Self::Opening(_) => "client_broken",
            Self::Broken(_) => "broken",
        }
    }
}
