//! How one authority follows another: each step keeps every certificate that is in use verifiable. When a
//! step may be taken is the control plane's decision.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Authority, AuthorityError, Signer, texts};
use crate::bundle::Bundle;

/// What is known of a trust anchor's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The issuer is below it.
    Current,
    /// The issuer will be below it.
    Next,
    /// Certificates that were issued earlier may be below it.
    Other,
}

impl Authority {
    /// The same trust anchors with a new issuer below the current one. Certificates of the issuer of
    /// before stay valid.
    pub fn with_new_issuer(&self, now: SystemTime) -> Result<Self, AuthorityError> {
        let root = self.root.as_ref().ok_or(AuthorityError::NoRootKey { what: "issuer" })?;
        let issuer = Arc::new(Signer::below(root, self.trust_domain(), now)?);
        Ok(Self { issuer, ..self.clone() })
    }

    /// The first step to a new trust anchor: it is in the bundle, and nothing is below it yet.
    pub fn with_next_root(&self, now: SystemTime) -> Result<Self, AuthorityError> {
        if self.root.is_none() {
            return Err(AuthorityError::NoRootKey { what: "trust anchor" });
        }
        let next = Arc::new(Signer::root(self.trust_domain(), now)?);
        // One of an earlier attempt has nothing below it.
        let given_up = self.next_root.as_ref().map(|root| root.certificate.to_vec());
        let kept = self.anchors().filter(|anchor| Some(anchor) != given_up.as_ref());
        let anchors: Vec<_> = kept.chain([next.certificate.to_vec()]).collect();
        let bundle = Bundle::from_der(self.trust_domain().clone(), anchors)?;
        Ok(Self { bundle, next_root: Some(next), ..self.clone() })
    }

    /// The second step: a new issuer below the new trust anchor. The one of before stays in the bundle,
    /// and its key is gone.
    pub fn with_switched_issuer(&self, now: SystemTime) -> Result<Self, AuthorityError> {
        let root = Arc::clone(self.next_root.as_ref().ok_or(AuthorityError::NoNextRoot)?);
        let issuer = Arc::new(Signer::below(&root, self.trust_domain(), now)?);
        let current = root.certificate.to_vec();
        let others = self.anchors().filter(|anchor| *anchor != current);
        let anchors: Vec<_> = [current.clone()].into_iter().chain(others).collect();
        let bundle = Bundle::from_der(self.trust_domain().clone(), anchors)?;
        Ok(Self { bundle, root: Some(root), next_root: None, issuer })
    }

    /// The last step: nothing but the trust anchor that the issuer is below.
    pub fn with_current_anchor_only(&self) -> Result<Self, AuthorityError> {
        let current = self.anchors().filter(|anchor| self.is_current(anchor));
        let bundle = Bundle::from_der(self.trust_domain().clone(), current)?;
        Ok(Self { bundle, next_root: None, ..self.clone() })
    }

    /// The part that an anchor of the bundle has, and whether its key is kept here.
    pub fn role_of(&self, anchor: &[u8]) -> (Role, bool) {
        let is = |signer: &Option<Arc<Signer>>| {
            signer.as_ref().is_some_and(|signer| *signer.certificate == *anchor)
        };
        match (self.is_current(anchor), is(&self.next_root)) {
            (true, _) => (Role::Current, is(&self.root)),
            (false, true) => (Role::Next, true),
            (false, false) => (Role::Other, false),
        }
    }

    /// Whether these anchors vouch for our issuer, and so for the certificates that are in use.
    pub fn is_vouched_for_by(&self, bundle: &Bundle) -> bool {
        bundle.anchors_der().any(|anchor| self.is_current(anchor))
    }

    /// Whether the trust anchor's key is kept here, so that issuers can be made.
    pub fn has_root_key(&self) -> bool {
        self.root.is_some()
    }

    /// Whether there is an anchor to switch to.
    pub fn has_next_root(&self) -> bool {
        self.next_root.is_some()
    }

    fn is_current(&self, anchor: &[u8]) -> bool {
        texts::is_signed_by(&self.issuer.certificate, anchor)
    }

    fn anchors(&self) -> impl Iterator<Item = Vec<u8>> {
        self.bundle.anchors_der().map(<[u8]>::to_vec)
    }
}
