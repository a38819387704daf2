//! Says which services live on their last resort: in the log when that begins and ends, and as a number. What a last
//! resort is, is decided in `index/standing.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heddle_model::names::ServicePort;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::Metrics;
use crate::push::publisher::Snapshots;

/// Says it until the drain, or until nothing is published any more.
pub async fn tell(mut snapshots: Snapshots, metrics: Metrics, drain: CancellationToken) {
    let mut seen = Seen::default();
    loop {
        let contents = snapshots.borrow_and_update().as_ref().map(|one| one.contents.clone());
        let news = contents.map(|contents| seen.look(&contents.last_resort, Instant::now()));
        let next = news.as_ref().and_then(|news| news.next);
        if let Some(news) = news {
            let services = i64::try_from(seen.said()).unwrap_or(i64::MAX);
            metrics.last_resort_services.set(services);
            log(&news);
        }
        tokio::select! {
            () = drain.cancelled() => return,
            changed = snapshots.changed() => if changed.is_err() { return },
            () = reached(next) => {}
        }
    }
}

/// Cancel safe: yes.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The services that were seen to live so.
#[derive(Debug, Default)]
struct Seen(BTreeMap<ServicePort, Since>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// Then, and nobody was told.
    At(Instant),
    /// Long enough that it was said.
    Said,
}

/// What is to be said after a look, and when to look again even if nothing changes.
#[derive(Debug, Default, PartialEq, Eq)]
struct News {
    begun: Vec<ServicePort>,
    over: Vec<ServicePort>,
    next: Option<Instant>,
}

impl Seen {
    /// What is over quickly is not said. A pod becomes ready before its slice does, and until then it is a last resort,
    /// every time that the first pod of a service has started.
    fn look(&mut self, now: &BTreeSet<ServicePort>, at: Instant) -> News {
        let mut news = News::default();
        self.0.retain(|port, since| {
            let stays = now.contains(port);
            if !stays && *since == Since::Said {
                news.over.push(port.clone());
            }
            stays
        });
        for port in now {
            let since = self.0.entry(port.clone()).or_insert(Since::At(at));
            let Since::At(begun) = *since else { continue };
            let due = begun + SETTLED;
            if due <= at {
                *since = Since::Said;
                news.begun.push(port.clone());
            } else {
                news.next = Some(news.next.map_or(due, |next| next.min(due)));
            }
        }
        news
    }

    /// How many were said and are not over.
    fn said(&self) -> usize {
        self.0.values().filter(|since| **since == Since::Said).count()
    }
}

fn log(news: &News) {
    let News { begun, over, next: _ } = news;
    if !begun.is_empty() {
        warn!(
            services = %names(begun),
            count = begun.len(),
            "no endpoint is ready, by Kubernetes; pods that it does not hear of stay in use, as a last resort"
        );
    }
    if !over.is_empty() {
        info!(services = %names(over), count = over.len(), "no last resort is in use any more");
    }
}

/// The first of them, as many as a line may hold.
fn names(services: &[ServicePort]) -> String {
    let mut named: Vec<String> = services.iter().take(NAMES).map(ToString::to_string).collect();
    if services.len() > NAMES {
        named.push("and others".to_owned());
    }
    named.join(", ")
}

/// More than this are counted, not named: it may be all that there are.
const NAMES: usize = 20;
/// Longer than the slices of Kubernetes are behind its pods, and shorter than it takes nodes to tell of themselves.
const SETTLED: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use heddle_model::names::{Port, ServiceName};

    use super::*;

    fn port(number: usize) -> ServicePort {
        ServicePort {
            service: ServiceName { namespace: "shop".into(), name: format!("s{number:02}") },
            port: Port::new(80).unwrap(),
        }
    }

    #[test]
    fn a_line_names_as_many_services_as_it_may_hold() {
        let many: Vec<ServicePort> = (0..NAMES + 1).map(port).collect();
        assert_eq!(names(&many[..2]), "shop/s00:80, shop/s01:80");
        assert!(names(&many[..NAMES]).ends_with("shop/s19:80"));
        assert!(names(&many).ends_with("shop/s19:80, and others"));
    }

    #[test]
    fn what_lasts_is_said_once_when_it_begins_and_once_when_it_ends() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut seen = Seen::default();
        let set = |numbers: &[usize]| numbers.iter().map(|number| port(*number)).collect();
        let list = |numbers: &[usize]| numbers.iter().map(|number| port(*number)).collect();
        for (case, seconds, now, begun, over, next, said) in [
            ("nothing", 0, &[][..], &[][..], &[][..], None, 0),
            ("one begins", 1, &[1], &[], &[], Some(4), 0),
            ("another, too", 2, &[1, 2], &[], &[], Some(4), 0),
            ("the other is over at once", 3, &[1], &[], &[], Some(4), 0),
            ("one has lasted", 4, &[1], &[1], &[], None, 1),
            ("it was said", 9, &[1, 3], &[], &[], Some(12), 1),
            ("it ends", 10, &[3], &[], &[1], Some(12), 0),
            ("it begins again", 11, &[1, 3], &[], &[], Some(12), 0),
            ("a later look", 20, &[1, 3], &[1, 3], &[], None, 2),
            ("all end", 21, &[], &[], &[1, 3], None, 0),
        ] {
            let news = seen.look(&set(now), start + second * seconds);
            let next = next.map(|seconds| start + second * seconds);
            assert_eq!(news, News { begun: list(begun), over: list(over), next }, "case: {case}");
            assert_eq!(seen.said(), said, "case: {case}");
        }
    }
}
