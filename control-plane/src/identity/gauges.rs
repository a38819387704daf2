//! Keeps the metrics of the authority current: who leads, whether what is kept is in use, and until when it is
//! good. What they are called is in `metrics.rs`.

use heddle_tls::authority::description;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::identity::custodian::{Authorities, Handles, View};
use crate::metrics::{Certificate, Metrics};

/// Until the drain, or until the custodian is gone.
pub fn keep(
    handles: &Handles,
    metrics: &Metrics,
    drain: &CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let Handles { mut authorities, mut view, requests: _ } = handles.clone();
    let (metrics, drain) = (metrics.clone(), drain.clone());
    async move {
        loop {
            show(&authorities, &view, &metrics);
            let goes_on = tokio::select! {
                () = drain.cancelled() => false,
                goes_on = authorities.changed() => goes_on,
                changed = view.changed() => changed.is_ok(),
            };
            if !goes_on {
                return;
            }
        }
    }
}

fn show(authorities: &Authorities, view: &watch::Receiver<View>, metrics: &Metrics) {
    let authority = authorities.current();
    {
        let view = view.borrow();
        metrics.set_keeping(view.leads, view.problem.is_empty());
    }
    metrics.set_expiry(Certificate::Issuer, authority.issuer_not_after());
    // The one that the issuer is below comes first.
    if let Some(root) = authority.bundle().anchors_der().next().and_then(description::describe) {
        metrics.set_expiry(Certificate::Root, root.not_after);
    }
}
