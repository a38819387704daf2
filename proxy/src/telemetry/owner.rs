//! What made a pod: a Deployment, StatefulSet and the like, by its name.

use std::fmt;
use std::str::FromStr;

/// An object that makes pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Such as `Deployment`.
    pub kind: String,
    /// In the pod's own namespace.
    pub name: String,
}

impl FromStr for Owner {
    type Err = ();

    /// `Deployment/api`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, name) = text.split_once('/').ok_or(())?;
        let is_kind = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let in_name =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        let is_name = (1..=NAME_LIMIT_BYTES).contains(&name.len()) && name.bytes().all(in_name);
        match is_kind && is_name && kind.len() <= KIND_LIMIT_BYTES {
            true => Ok(Self { kind: kind.to_owned(), name: name.to_owned() }),
            false => Err(()),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// Of an object's name. Source: DNS subdomains, as Kubernetes has them.
const NAME_LIMIT_BYTES: usize = 253;
/// Of a kind. Source: as above, since a kind's lower-case name is a part of one.
const KIND_LIMIT_BYTES: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_a_kind_and_a_name() {
        for (text, is_owner) in [
            ("Deployment/api", true),
            ("StatefulSet/db.v1-0", true),
            ("api", false),
            ("/api", false),
            ("Deployment/", false),
            ("Deployment/A b", false),
            ("De ployment/api", false),
        ] {
            let parsed = text.parse::<Owner>();
            assert_eq!(parsed.is_ok(), is_owner, "case: {text}");
            if let Ok(owner) = parsed {
                assert_eq!(owner.to_string(), text);
            }
        }
    }
}
