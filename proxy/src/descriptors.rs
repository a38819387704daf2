//! How many files and sockets this process may have open, and what that leaves for connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Raises the limit to the highest that the process may give itself, and returns how many
/// connections that allows in each direction, at most `wanted`.
///
/// The usual soft limit of 1024 is for programs that use select(2); the hard one is for the rest.
pub fn connection_limit(wanted: usize) -> usize {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    let available = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => before.maximum,
        Err(error) => {
            warn!(%error, "the limit of open files cannot be raised");
            before.current
        }
    };
    let allowed = allowed(available, wanted);
    if allowed < wanted {
        warn!(open_files = available, allowed, wanted, "too few open files for all connections");
    }
    allowed
}

/// `available`: how many files may be open; `None`: any number.
fn allowed(available: Option<u64>, wanted: usize) -> usize {
    available
        .and_then(|available| usize::try_from(available / FILES_PER_PLACE).ok())
        .map_or(wanted, |allowed| allowed.min(wanted))
}

/// A connection takes two sockets, and half of one is put by for pools and for everything else; for
/// each in one direction there may be one in the other.
const FILES_PER_PLACE: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_as_many_as_there_are_files_for() {
        for (case, available, expected) in [
            ("no limit", None, 10_000),
            ("enough", Some(524_288), 10_000),
            ("just enough", Some(50_000), 10_000),
            ("an old machine", Some(4096), 819),
        ] {
            assert_eq!(allowed(available, 10_000), expected, "case: {case}");
        }
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        connection_limit(1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
