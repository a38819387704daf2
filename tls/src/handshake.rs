//! What handshakes of both directions share: their time limit and how they fail.

use std::io;
use std::time::Duration;

use rustls::AlertDescription;

use crate::refusal::Refusal;

/// How long a peer may take for its whole handshake, if nobody says otherwise. A proxy on the same network needs
/// milliseconds; this bounds what a silent peer can hold.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer's certificate is not good.
    #[error("the peer's certificate is refused")]
    Refused(#[source] Refusal),
    /// The peer presented none, and must.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// The two ends share no protocol, or one names none.
    #[error("no common protocol inside TLS (ALPN)")]
    Alpn,
    /// The peer was too slow.
    #[error("it took longer than {limit:?}")]
    Timeout {
        /// How long it was waited for.
        limit: Duration,
    },
    /// The peer ended the handshake with an alert: its log says why.
    #[error("the peer refused the handshake with alert {alert:?}")]
    RefusedByPeer {
        /// The alert of RFC 8446, section 6.
        alert: AlertDescription,
    },
    /// Not TLS 1.3, or broken TLS.
    #[error("the peer did not follow TLS 1.3")]
    Protocol(#[source] rustls::Error),
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[source] io::Error),
}

impl HandshakeError {
    /// The reason as a metric label: a closed set of constant words.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.label(),
            Self::NoCertificate => "no_certificate",
            Self::Alpn => "alpn",
            Self::Timeout { .. } => "timeout",
            Self::RefusedByPeer { .. } => "refused_by_peer",
            Self::Protocol(_) => "protocol",
            Self::Io(_) => "io",
        }
    }

    pub(crate) fn from_io(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner.cloned() {
            Some(inner) => Self::from_tls(inner),
            None => Self::Io(error),
        }
    }

    fn from_tls(error: rustls::Error) -> Self {
        if let rustls::Error::InvalidCertificate(reason) = &error
            && let Some(refusal) = Refusal::from_tls(reason)
        {
            return Self::Refused(refusal);
        }
        if let rustls::Error::AlertReceived(alert) = error {
            return if alert == AlertDescription::NoApplicationProtocol {
                Self::Alpn
            } else {
                Self::RefusedByPeer { alert }
            };
        }
        if error == rustls::Error::NoCertificatesPresented {
            Self::NoCertificate
        } else if error == rustls::Error::NoApplicationProtocol {
            Self::Alpn
        } else {
            Self::Protocol(error)
        }
    }
}

/// Bounds a whole handshake. Boxes it: its 4 KiB would stay in the future of every connection that
/// begins with one, for as long as that lives.
pub(crate) fn within_limit<T, E: From<HandshakeError>>(
    limit: Duration,
    handshake: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    let handshake = Box::pin(handshake);
    async move {
        tokio::time::timeout(limit, handshake)
            .await
            .unwrap_or_else(|_| Err(HandshakeError::Timeout { limit }.into()))
    }
}

#[cfg(test)]
mod tests;
