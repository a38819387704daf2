//! Which version may follow which. Pure.

use std::fmt;
use std::str::FromStr;

/// A version: `1.2.3`, perhaps with `-beta.1`, which counts as before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u64,
    minor: u64,
    patch: u64,
    /// False sorts first: what has a name after the numbers comes before what has none.
    released: bool,
    before_release: String,
}

/// A text that is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version: want numbers such as 1.2.3")]
pub struct NotAVersion(String);

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let wrong = || NotAVersion(text.to_owned());
        let bare = text.strip_prefix('v').unwrap_or(text);
        // What follows a plus is about the build, and orders nothing.
        let bare = bare.split('+').next().unwrap_or_default();
        let (numbers, rest) = bare.split_once('-').unwrap_or((bare, ""));
        let mut parts = numbers.split('.').map(|part| part.parse().map_err(|_| wrong()));
        let mut next = || parts.next().ok_or_else(wrong)?;
        let version = Self {
            major: next()?,
            minor: next()?,
            patch: next()?,
            released: rest.is_empty(),
            before_release: rest.to_owned(),
        };
        if parts.next().is_some() { Err(wrong()) } else { Ok(version) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if self.released { Ok(()) } else { write!(formatter, "-{}", self.before_release) }
    }
}

/// How a new version relates to the one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The same.
    Same,
    /// One that may follow.
    Forward,
}

/// Whether `new` may follow `old`, or the sentence that says why not. Control planes serve proxies of the minor version
/// before theirs, so no minor version may be passed over.
pub fn step(old: &str, new: &str) -> Result<Step, String> {
    let (old, new): (Version, Version) = match (old.parse(), new.parse()) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(error), _) | (_, Err(error)) => return Err(error.to_string()),
    };
    if old == new {
        return Ok(Step::Same);
    }
    if new < old {
        return Err(format!(
            "the mesh is at {old}, and this meshctl installs {new}: what {old} wrote may mean nothing to {new}"
        ));
    }
    if old.major != new.major {
        return Err(format!(
            "nobody knows whether {new} may follow {old}: the major version differs"
        ));
    }
    if new.minor > old.minor + 1 {
        let between = old.minor + 1;
        return Err(format!(
            "from {old} to {new} a minor version is passed over: upgrade to {}.{between} first",
            old.major
        ));
    }
    Ok(Step::Forward)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_may_follow_the_one_before_it() {
        for (old, new, expected) in [
            ("0.1.0", "0.1.0", Some(Step::Same)),
            ("0.1.0", "0.1.1", Some(Step::Forward)),
            ("0.1.9", "0.2.0", Some(Step::Forward)),
            ("0.2.0-beta.1", "0.2.0", Some(Step::Forward)),
            ("v0.1.0+build", "0.1.0", Some(Step::Same)),
            ("0.2.0", "0.1.9", None),
            ("0.2.0", "0.2.0-beta.1", None),
            ("0.1.0", "0.3.0", None),
            ("0.9.0", "1.0.0", None),
            ("latest", "0.1.0", None),
            ("0.1", "0.1.0", None),
            ("0.1.0.0", "0.1.0", None),
        ] {
            assert_eq!(step(old, new).ok(), expected, "case: {old} to {new}");
        }
        let passed_over = step("0.1.0", "0.3.0").unwrap_err();
        assert!(passed_over.contains("upgrade to 0.2 first"), "{passed_over}");
    }
}
