//! Who may export, before a byte of the export is read: workloads by their certificates, each one export at a time.
//! What one may take in memory is bounded in `codec.rs`, and how many are under way is here.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use heddle_model::identity::{PodUid, TrustDomain};
use heddle_tls::peer::PeerIdentity;
use tonic::{Request, Status};

use crate::server::Caller;

/// Lets exports in. Clones share what is under way.
#[derive(Clone, Debug)]
pub struct Admission {
    under_way: Arc<Mutex<HashSet<PodUid>>>,
    own: Option<PeerIdentity>,
}

/// An export that was let in, until it is dropped.
#[derive(Debug)]
pub struct Admitted {
    /// Whose it is.
    pub peer: PeerIdentity,
    under_way: Arc<Mutex<HashSet<PodUid>>>,
}

impl Admission {
    /// Nothing is under way.
    pub fn new(trust_domain: &TrustDomain) -> Self {
        let own = PeerIdentity::control_plane(trust_domain).ok();
        Self { under_way: Arc::default(), own }
    }

    /// Lets a request in, which carries an [`Admitted`] from then on.
    ///
    /// Fails for callers without a certificate that is valid now, and for those that have an export under way.
    pub fn admit(&self, mut request: Request<()>, now: SystemTime) -> Result<Request<()>, Status> {
        let caller = request.extensions().get::<Caller>();
        let peer = self.check(caller, now)?;
        let mut under_way = lock(&self.under_way);
        if under_way.len() >= EXPORTS_LIMIT {
            return Err(Status::resource_exhausted("too many exports are under way"));
        }
        if !under_way.insert(peer.pod_uid.clone()) {
            return Err(Status::resource_exhausted("another export of this pod is under way"));
        }
        drop(under_way);
        let admitted = Admitted { peer, under_way: Arc::clone(&self.under_way) };
        request.extensions_mut().insert(Arc::new(admitted));
        Ok(request)
    }

    fn check(&self, caller: Option<&Caller>, now: SystemTime) -> Result<PeerIdentity, Status> {
        let Some(Caller { peer: Some(peer), not_after, .. }) = caller else {
            return Err(Status::unauthenticated("a certificate of the mesh is needed"));
        };
        // A connection may outlive the certificate that it was made with.
        if not_after.is_none_or(|not_after| not_after <= now) {
            return Err(Status::unauthenticated("the certificate has expired"));
        }
        if self.own.as_ref() == Some(peer) {
            return Err(Status::permission_denied("this is for workloads alone"));
        }
        Ok(peer.clone())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        lock(&self.under_way).remove(&self.peer.pod_uid);
    }
}

fn lock(under_way: &Mutex<HashSet<PodUid>>) -> MutexGuard<'_, HashSet<PodUid>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Exports at once: those of a thousand workloads come one in ten milliseconds.
const EXPORTS_LIMIT: usize = 64;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use super::*;
    use tonic::Code;

    fn domain() -> TrustDomain {
        "cluster.local".parse().unwrap()
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1000)
    }

    fn peer(uid: &str) -> PeerIdentity {
        let identity = "spiffe://cluster.local/ns/shop/sa/api".parse().unwrap();
        PeerIdentity { identity, pod_uid: uid.parse().unwrap() }
    }

    fn request(peer: Option<PeerIdentity>, valid_until: u64) -> Request<()> {
        let not_after = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(valid_until));
        let mut request = Request::new(());
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        request.extensions_mut().insert(Caller { peer, not_after, address });
        request
    }

    #[test]
    fn only_workloads_with_a_valid_certificate_export() {
        let admission = Admission::new(&domain());
        let own = PeerIdentity::control_plane(&domain()).unwrap();
        for (case, request, expected) in [
            ("a workload", request(Some(peer("a")), 1001), None),
            ("a stranger", request(None, 1001), Some(Code::Unauthenticated)),
            ("nobody", Request::new(()), Some(Code::Unauthenticated)),
            ("expired", request(Some(peer("a")), 1000), Some(Code::Unauthenticated)),
            ("ourselves", request(Some(own), 1001), Some(Code::PermissionDenied)),
        ] {
            let refused = admission.admit(request, now()).err().map(|status| status.code());
            assert_eq!(refused, expected, "case: {case}");
        }
    }

    #[test]
    fn a_pod_exports_once_at_a_time_and_all_together_within_a_bound() {
        let admission = Admission::new(&domain());
        let admit = |uid: &str| admission.admit(request(Some(peer(uid)), 1001), now());
        let first = admit("a").unwrap();
        assert_eq!(admit("a").unwrap_err().code(), Code::ResourceExhausted);
        drop(first);
        let _again = admit("a").unwrap();
        let others: Vec<_> =
            (1..EXPORTS_LIMIT).map(|index| admit(&format!("p{index}")).unwrap()).collect();
        assert_eq!(admit("late").unwrap_err().code(), Code::ResourceExhausted);
        drop(others);
        admit("late").unwrap();
    }
}
