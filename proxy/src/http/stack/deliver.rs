//! A request whose rule and backend are known, on its way: faults, mirrors, and then the sending.

use std::sync::Arc;

use heddle_model::filter::Fraction;

use crate::balance::balancer::Balancer;
use crate::connect::Dialer;
use crate::discovery::resolved::ResolvedMirror;
use crate::http::fault::{Injected, hits};
use crate::http::headers::wants_tunnel;
use crate::http::kept::Kept;
use crate::http::mirror::{MirrorPlaces, mirror};
use crate::http::resend::resend;
use crate::http::respond::ProxyError;
use crate::http::retry::RetryPolicy;
use crate::http::send::{Answer, Failure, Outgoing, send};

/// What is done with a request on its way. The default is nothing.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) injected: Injected,
    pub(super) retry: Option<Arc<RetryPolicy>>,
    /// Where copies go.
    pub(super) mirrors: Vec<Arc<Balancer>>,
}

impl Plan {
    /// Which of the mirrors get a copy.
    pub(super) fn choose_mirrors<'a>(&mut self, all: impl Iterator<Item = &'a ResolvedMirror>) {
        for ResolvedMirror { balancer, fraction } in all {
            if *fraction == Fraction::ALL || hits(*fraction, &mut rand::rng()) {
                self.mirrors.push(Arc::clone(balancer));
            }
        }
    }
}

/// Sends a request as planned.
pub(super) async fn deliver(
    dialer: &Arc<Dialer>,
    places: &MirrorPlaces,
    mut outgoing: Outgoing,
    plan: Plan,
) -> Result<Answer, Failure> {
    let Plan { injected, retry, mirrors } = plan;
    if let Some(delay) = injected.delay {
        tokio::time::sleep(delay).await;
    }
    if let Some(abort) = injected.abort {
        return Err(ProxyError::from(abort).into());
    }
    // A tunnel is a connection, which cannot be copied.
    if (mirrors.is_empty() && retry.is_none()) || wants_tunnel(&outgoing.request) {
        return send(dialer, outgoing).await;
    }
    let kept = Kept::of(&mut outgoing.request);
    mirror(dialer, places, outgoing.version, &kept, mirrors);
    match retry {
        Some(policy) => Box::pin(resend(dialer, outgoing, &policy, kept)).await,
        None => send(dialer, outgoing).await,
    }
}
