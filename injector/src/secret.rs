//! The Secret with the webhook's certificate: how it is written, and what is due next. Pure; keeper.rs does
//! it.
//!
//! A new certificate is first announced (its authority goes to the API server beside the one in force), and
//! presented only after that, so that at no moment a replica presents what the API server does not trust.
//! The old authority stays announced until the next renewal: a replica that lags behind is still trusted.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use heddle_tls::https::identity::{HttpsIdentity, IdentityError};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

/// What the Secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// What every replica presents.
    pub(crate) current: HttpsIdentity,
    /// What every replica will present, once its authority is known.
    pub(crate) next: Option<HttpsIdentity>,
    /// The authority of what was presented before.
    pub(crate) previous_authority: Option<String>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing.
    Nothing,
    /// A certificate in place of one that nobody trusts any more.
    Replacement,
    /// The next certificate, to be announced.
    Announcement,
    /// The next one is known: it is presented from now on.
    Promotion,
}

impl Stored {
    /// Nothing but a certificate.
    pub(crate) fn new(current: HttpsIdentity) -> Self {
        Self { current, next: None, previous_authority: None }
    }

    /// Reads a Secret. Fails if its certificate cannot be used for this name, however valid it is; a bad
    /// next one is as good as none.
    pub(crate) fn read(secret: &Secret, name: &str) -> Result<Self, Unusable> {
        let text = |key: &str| -> Option<String> {
            let bytes = secret.data.as_ref()?.get(key)?;
            String::from_utf8(bytes.0.clone()).ok()
        };
        let identity = |[certificate, key, authority]: [&'static str; 3]| {
            let part = |name| text(name).ok_or(Unusable::Missing(name));
            let identity =
                HttpsIdentity::from_pem(part(certificate)?, part(key)?, part(authority)?)?;
            if identity.is_for(name) { Ok(identity) } else { Err(Unusable::OtherName) }
        };
        Ok(Self {
            current: identity(CURRENT)?,
            next: identity(NEXT).ok(),
            previous_authority: text(PREVIOUS_AUTHORITY),
        })
    }

    /// Puts it into the Secret; its metadata stay.
    pub(crate) fn write(&self, secret: &mut Secret) {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, text: &str| {
            data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
        };
        let identities = [(CURRENT, Some(&self.current)), (NEXT, self.next.as_ref())];
        for ([certificate, key, authority], identity) in identities {
            let Some(identity) = identity else { continue };
            put(certificate, identity.certificate_pem());
            put(key, identity.key_pem());
            put(authority, identity.authority_pem());
        }
        if let Some(authority) = &self.previous_authority {
            put(PREVIOUS_AUTHORITY, authority);
        }
        secret.data = Some(data);
    }

    /// All authorities that the API server is to trust, PEM: the same text in every replica.
    pub(crate) fn bundle(&self) -> String {
        let next = self.next.as_ref().map(HttpsIdentity::authority_pem);
        let authorities =
            [Some(self.current.authority_pem()), next, self.previous_authority.as_deref()];
        authorities.into_iter().flatten().collect()
    }

    /// What is due. `announced`: the API server was given [`Self::bundle`].
    pub(crate) fn due(&self, announced: bool, now: SystemTime) -> Due {
        let left = self.current.not_after().duration_since(now).unwrap_or_default();
        if left < LEFT_MINIMUM {
            return Due::Replacement;
        }
        if let Some(next) = &self.next {
            let known_for = now.duration_since(next.not_before()).unwrap_or_default();
            let waited = known_for >= ANNOUNCED_FOR;
            return if announced && waited { Due::Promotion } else { Due::Nothing };
        }
        let whole = self.current.not_after().duration_since(self.current.not_before());
        if left < whole.unwrap_or_default() / 3 { Due::Announcement } else { Due::Nothing }
    }

    /// With the next certificate to announce. What was before the current one is not trusted any more.
    pub(crate) fn announcing(self, next: HttpsIdentity) -> Self {
        Self { next: Some(next), previous_authority: None, ..self }
    }

    /// With the next certificate in force.
    pub(crate) fn promoted(self) -> Self {
        match self.next {
            None => self,
            Some(next) => Self {
                previous_authority: Some(self.current.authority_pem().to_owned()),
                current: next,
                next: None,
            },
        }
    }
}

/// Why a Secret's certificate cannot be presented.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// Not there, or not text.
    #[error("the Secret has no {0}")]
    Missing(&'static str),
    /// There, but not a certificate with its key.
    #[error("the Secret's certificate cannot be used")]
    Certificate(#[from] IdentityError),
    /// For a server of another name.
    #[error("the Secret's certificate is for another name")]
    OtherName,
}

/// As the type `kubernetes.io/tls` has them, and the authority beside them.
const CURRENT: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];
const NEXT: [&str; 3] = ["next.crt", "next.key", "next-ca.crt"];
const PREVIOUS_AUTHORITY: &str = "previous-ca.crt";
/// The type of the Secret.
pub(crate) const SECRET_TYPE: &str = "kubernetes.io/tls";
/// A certificate begins to be valid a minute before it is made; API servers learn of a changed webhook
/// within seconds, and are given a minute for it.
const ANNOUNCED_FOR: Duration = Duration::from_secs(120);
/// A certificate with less left is not worth announcing another one beside it.
const LEFT_MINIMUM: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "heddle-injector.heddle-system.svc";
    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn made(at: SystemTime) -> HttpsIdentity {
        HttpsIdentity::create(&[NAME], 3 * HOUR, at).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let stored = Stored::new(made(now())).announcing(made(now()));
        let stored = stored.promoted().announcing(made(now()));
        for stored in [stored.clone(), stored.promoted()] {
            let mut secret = Secret::default();
            stored.write(&mut secret);
            assert_eq!(Stored::read(&secret, NAME).unwrap(), stored);
            assert!(matches!(Stored::read(&secret, "a.b.svc"), Err(Unusable::OtherName)));
            secret.data.as_mut().unwrap().remove("tls.key");
            assert!(matches!(Stored::read(&secret, NAME), Err(Unusable::Missing("tls.key"))));
        }
        assert!(Stored::read(&Secret::default(), NAME).is_err());
    }

    #[test]
    fn a_broken_next_certificate_is_made_anew() {
        let stored = Stored::new(made(now())).announcing(made(now()));
        let mut secret = Secret::default();
        stored.write(&mut secret);
        secret.data.as_mut().unwrap().insert("next.key".to_owned(), ByteString(b"x".to_vec()));
        assert_eq!(Stored::read(&secret, NAME).unwrap().next, None);
    }

    #[test]
    fn a_certificate_is_announced_before_it_is_presented() {
        let young = Stored::new(made(now()));
        let old = Stored::new(made(now() - 2 * HOUR - Duration::from_secs(60)));
        let expired = Stored::new(made(now() - 4 * HOUR));
        let announcing = old.clone().announcing(made(now()));
        let waited = old.clone().announcing(made(now() - Duration::from_secs(70)));
        for (case, stored, announced, due) in [
            ("young", &young, true, Due::Nothing),
            ("old", &old, true, Due::Announcement),
            ("old and unknown", &old, false, Due::Announcement),
            ("expired", &expired, true, Due::Replacement),
            ("just announced", &announcing, true, Due::Nothing),
            ("not announced", &waited, false, Due::Nothing),
            ("known", &waited, true, Due::Promotion),
        ] {
            assert_eq!(stored.due(announced, now()), due, "case: {case}");
        }
    }

    #[test]
    fn at_every_step_the_authority_in_force_and_the_one_before_or_after_it_are_trusted() {
        let (one, two, three) = (made(now()), made(now()), made(now()));
        let holds = |stored: &Stored, trusted: &[&HttpsIdentity]| {
            let bundle = stored.bundle();
            assert_eq!(bundle.matches("BEGIN").count(), trusted.len());
            assert!(trusted.iter().all(|identity| bundle.contains(identity.authority_pem())));
        };
        let stored = Stored::new(one.clone());
        holds(&stored, &[&one]);
        let stored = stored.announcing(two.clone());
        holds(&stored, &[&one, &two]);
        let stored = stored.promoted();
        assert_eq!(stored.current, two);
        holds(&stored, &[&one, &two]);
        holds(&stored.announcing(three.clone()), &[&two, &three]);
    }
}
