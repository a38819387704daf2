//! One tap, from its beginning to its end: what the proxies of all replicas tell, to whoever asked. Whoever reads slowly
//! is told less, and how much less; nobody waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heddle_proto::tap as wire;
use heddle_proto::tap::event::Event;
use heddle_runtime::duration::Text;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::push::publisher::Snapshots;
use crate::tap::registry::Watched;
use crate::tap::replicas::{Heard, Replicas, Shares};
use crate::tap::subject;

/// A tap that somebody reads.
#[derive(Debug)]
pub struct Watch {
    /// What proxies of this replica tell.
    pub watched: Watched,
    /// Who reads.
    pub reader: mpsc::Sender<Result<wire::Event, Status>>,
    /// Whose pods there are.
    pub snapshots: Snapshots,
    /// Those of the others; `None`: there are none, or they are not asked.
    pub replicas: Option<(Arc<Replicas>, wire::WatchRequest)>,
}

impl Watch {
    /// Runs until nobody reads, its time is over, or the drain.
    pub async fn run(mut self, drain: CancellationToken) {
        let lifetime = self.watched.request().tap.limits.lifetime;
        let over = tokio::time::sleep(lifetime);
        tokio::pin!(over);
        let (told, mut heard) = mpsc::channel(HEARD_QUEUED);
        let mut shares = self
            .replicas
            .take()
            .map(|(replicas, request)| Shares::new(replicas, request, told.clone()));
        // Held, so that nobody hears of an end while there are no other replicas.
        let _told = told;
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last: Option<(wire::Standing, Instant)> = None;
        loop {
            let event = tokio::select! {
                biased;
                () = drain.cancelled() => Some(ended("the control plane is about to end")),
                () = self.reader.closed() => return,
                () = &mut over => Some(ended(&format!("its time of {} is over", Text(lifetime)))),
                _ = looks.tick() => self.standing(shares.as_mut(), &mut last),
                Some(exchange) = self.watched.exchanges.recv() => Some(Event::Exchange(exchange)),
                Some((address, heard)) = heard.recv() => hear(shares.as_mut(), address, heard),
            };
            let Some(event) = event else { continue };
            let is_last = matches!(event, Event::Ended(_));
            let sent = self.reader.send(Ok(wire::Event { event: Some(event) }));
            if is_last {
                let _ = tokio::time::timeout(LAST_PATIENCE, sent).await;
                return;
            }
            // Whoever does not read does not hold it for longer than anybody else.
            let is_read = tokio::select! {
                sent = sent => sent.is_ok(),
                () = &mut over => false,
                () = drain.cancelled() => false,
            };
            if !is_read {
                return;
            }
        }
    }

    /// How it is, if that has to be told.
    fn standing(
        &self,
        shares: Option<&mut Shares>,
        last: &mut Option<(wire::Standing, Instant)>,
    ) -> Option<Event> {
        let mut standing = self.watched.standing();
        let snapshot = self.snapshots.borrow().clone();
        if let Some(snapshot) = &snapshot {
            let subject = &self.watched.request().subject;
            standing.without_proxy = subject::without_proxy(subject, &snapshot.contents);
        }
        if let Some((shares, snapshot)) = shares.zip(snapshot.as_ref()) {
            shares.follow(snapshot);
            shares.add_to(&mut standing);
        }
        let now = Instant::now();
        let is_known = last
            .as_ref()
            .is_some_and(|(told, at)| *told == standing && now.duration_since(*at) < TELL_INTERVAL);
        if is_known {
            return None;
        }
        *last = Some((standing.clone(), now));
        Some(Event::Standing(standing))
    }
}

fn hear(shares: Option<&mut Shares>, address: SocketAddr, heard: Heard) -> Option<Event> {
    let shares = shares?;
    match heard {
        Heard::Exchange(exchange) => return Some(Event::Exchange(*exchange)),
        Heard::Standing(standing) => shares.note(address, Some(standing)),
        Heard::Silent => shares.note(address, None),
    }
    None
}

fn ended(reason: &str) -> Event {
    Event::Ended(wire::Ended { reason: reason.to_owned() })
}

/// How long a reader may take for the last that it is told.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// Of other replicas, waiting to be read.
const HEARD_QUEUED: usize = 64;
/// How soon it is told that a proxy has come or something was left out.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often it is told that nothing has changed: connections that are silent for long are ended on the way.
const TELL_INTERVAL: Duration = Duration::from_secs(10);
