//! The threads that carry traffic: one, unless the container's limit on CPU allows for more. Beside an application
//! there is rarely work for two, and a task that wakes another one's thread pays for that with system calls.

use std::io;
use std::num::NonZeroUsize;

use tokio::runtime::{Builder, Runtime};

/// A runtime with as many workers as `wanted`; `None`: with as many as there should be.
pub fn runtime(wanted: Option<NonZeroUsize>) -> io::Result<Runtime> {
    let workers = match wanted {
        Some(wanted) => wanted.get(),
        None => workers(std::thread::available_parallelism()?.get(), processors()?),
    };
    Builder::new_multi_thread().worker_threads(workers).enable_all().build()
}

/// How many there should be. `allowed` is how many whole processors the process may use up, at least one;
/// `processors`, how many it may run on: fewer than those is a limit, as many is none.
fn workers(allowed: usize, processors: usize) -> usize {
    if allowed < processors { allowed } else { 1 }
}

fn processors() -> io::Result<usize> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok(usize::try_from(set.count()).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_worker_unless_a_limit_allows_for_more() {
        for (case, allowed, processors, expected) in [
            ("no limit", 8, 8, 1),
            ("one processor", 1, 1, 1),
            ("half a processor, or one", 1, 8, 1),
            ("two", 2, 8, 2),
            ("a limit above what there is", 8, 8, 1),
        ] {
            assert_eq!(workers(allowed, processors), expected, "case: {case}");
        }
    }

    #[test]
    fn as_many_as_are_asked_for_are_there() {
        let wanted = NonZeroUsize::new(3);
        assert_eq!(runtime(wanted).unwrap().metrics().num_workers(), 3);
    }
}
