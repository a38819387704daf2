//! What bundles and issuers are told apart by.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// SHA-256 of something that everybody may know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Of these bytes.
pub fn of(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// Of several, each after its length in four bytes, highest first: no two lists have the same.
pub fn of_all<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        // Certificates are far shorter than what four bytes can tell.
        hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part);
    }
    Digest(hash.finalize().into())
}

impl Digest {
    /// As it goes over the wire.
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// From the wire; `None`: of another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// In hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart_from_their_sum() {
        assert_ne!(of_all([&b"ab"[..], b"c"]), of_all([&b"a"[..], b"bc"]));
        assert_ne!(of_all([&b""[..]]), of_all([]));
        assert_eq!(Digest::from_bytes(&of(b"x").to_bytes()), Some(of(b"x")));
        assert_eq!(Digest::from_bytes(b"short"), None);
        // From FIPS 180-2, appendix B.1.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of(b"abc").to_string(), known);
    }
}
