//! One proxy's discovery stream: reads what it wants and what it answers, sends what it lacks. A proxy
//! that reads slowly is sent the newest state when it is ready for it, not all that was in between.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use heddle_model::identity::PodUid;
use heddle_model::names::ObjectReference;
use heddle_model::resource::{ResourceKey, Version};
use heddle_proto::convert::InvalidMessage;
use heddle_proto::discovery as wire;
use heddle_proto::discovery::control_message::Message as ToProxy;
use heddle_proto::discovery::proxy_message::Message as FromProxy;
use heddle_runtime::backoff::Backoff;
use heddle_runtime::clock;
use heddle_runtime::throttle::Throttle;
use prost::Message;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use crate::metrics::Metrics;
use crate::push::held::{Known, Refusal};
use crate::push::interests::{Interest, Interests};
use crate::push::ledger::{NotSubscribed, Patience};
use crate::push::proxies::{Proxies, SharedLedger};
use crate::push::publisher::{RaiseVersion, Snapshots, version_at};
use crate::snapshot::Snapshot;

/// What a session reads from and writes to.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// What can be asked for.
    pub snapshots: Snapshots,
    /// Who is to look at a new one.
    pub interests: Interests,
    /// For when a proxy has a newer version than there is.
    pub raise: RaiseVersion,
    /// Where a session is seen.
    pub proxies: Proxies,
    /// What is counted.
    pub metrics: Metrics,
    /// When to end.
    pub drain: CancellationToken,
}

/// One proxy's stream.
#[derive(Debug)]
pub struct Session {
    /// Who it is, by its certificate.
    pub own: PodUid,
    /// When that certificate expires.
    pub not_after: Option<SystemTime>,
    /// What it says. In a place of its own, since all that the session consists of would have room for it otherwise.
    pub inbound: Box<Streaming<wire::ProxyMessage>>,
    /// What it is told; a few messages wide.
    pub outbound: mpsc::Sender<Outgoing>,
    /// What everybody shares.
    pub surroundings: Arc<Surroundings>,
}

/// A message, encoded, or why there will be no more. In a place of its own, since a channel has many places and most of them
/// are empty for ever.
pub type Outgoing = Box<Result<Bytes, Status>>;

/// How many messages wait for a proxy that reads slowly.
pub const OUTBOUND_QUEUED: usize = 16;

impl Session {
    /// Serves the stream until either end has had enough.
    pub async fn run(self) {
        let outbound = self.outbound.clone();
        let own = self.own.clone();
        let opened = self.surroundings.proxies.open(&own);
        let expiry = expiry(self.not_after);
        let served = tokio::select! {
            served = self.converse() => served,
            () = opened.replaced() => Err(Status::aborted("the same pod opened another stream")),
            () = expiry => Err(Status::unauthenticated("the certificate has expired")),
        };
        if let Err(status) = served {
            debug!(src = %own, error = status.message(), "discovery stream ended by the control plane");
            // The proxy learns the reason if there is room to tell it; the stream ends anyway.
            let _ = outbound.try_send(Box::new(Err(status)));
        }
    }

    async fn converse(mut self) -> Result<(), Status> {
        let drain = self.surroundings.drain.clone();
        let hello = tokio::select! {
            hello = self.hello() => hello?,
            () = drain.cancelled() => return Err(draining()),
        };
        self.serve(hello).await
    }

    async fn hello(&mut self) -> Result<wire::Hello, Status> {
        let first = tokio::time::timeout(HELLO_TIMEOUT, self.inbound.message()).await;
        match first {
            Ok(Ok(Some(wire::ProxyMessage { message: Some(FromProxy::Hello(hello)) }))) => {
                Ok(hello)
            }
            Ok(Ok(_)) => Err(Status::invalid_argument("the first message must be a hello")),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Status::deadline_exceeded("no hello came")),
        }
    }

    async fn serve(self, hello: wire::Hello) -> Result<(), Status> {
        let Self { own, not_after: _, inbound, outbound, surroundings } = self;
        let ledger = SharedLedger::new(own.clone(), version_at(clock::now()));
        let known = Version(hello.highest_known_version);
        ledger.lock().resume(known).map_err(not_subscribed)?;
        let version = printable(&hello.proxy_version, VERSION_TEXT_LIMIT);
        info!(src = %own, proxy_version = version, "proxy connected");
        let _connected = surroundings.proxies.connect(&own, version, ledger.clone());
        let _open = surroundings.metrics.open_session();
        let stream = Stream {
            own,
            ledger,
            interest: surroundings.interests.open(),
            looked_at: 0,
            surroundings,
            snapshot: None,
            digests_withheld: 0,
            warnings: Throttle::default(),
        };
        let ended = stream.run(inbound, outbound).await;
        info!("proxy disconnected");
        ended
    }
}

/// A session after the hello.
struct Stream {
    own: PodUid,
    ledger: SharedLedger,
    surroundings: Arc<Surroundings>,
    interest: Interest,
    /// Which of the ledger's plans the interest follows from.
    looked_at: u64,
    /// The newest one that was looked at, while something of it is to be sent.
    snapshot: Option<Snapshot>,
    /// In a row, because answers were outstanding.
    digests_withheld: u32,
    /// Of refusals, as many as the proxy likes.
    warnings: Throttle,
}

impl Stream {
    async fn run(
        mut self,
        mut inbound: Box<Streaming<wire::ProxyMessage>>,
        outbound: mpsc::Sender<Outgoing>,
    ) -> Result<(), Status> {
        let surroundings = Arc::clone(&self.surroundings);
        // Registered once, and not anew for each message.
        let mut drained = pin!(surroundings.drain.cancelled());
        let mut digests = interval_at(Instant::now() + DIGEST_INTERVAL, DIGEST_INTERVAL);
        digests.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut digest_due = false;
        // Whether there may be something to send.
        let mut behind = self.follow();
        loop {
            if !behind {
                // Whoever sleeps keeps nothing alive: what there is then is looked at anew.
                self.snapshot = None;
            }
            tokio::select! {
                () = &mut drained => return Err(draining()),
                () = self.interest.changed() => behind = self.follow(),
                message = inbound.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    let mut plan = self.take(message)?;
                    // A proxy that comes back subscribes to all it has at once.
                    while let Some(more) = inbound.message().now_or_never() {
                        let Some(more) = more? else { return Ok(()) };
                        plan |= self.take(more)?;
                    }
                    if plan {
                        behind = self.follow();
                    }
                }
                _ = digests.tick() => digest_due = true,
                permit = outbound.reserve(), if behind || digest_due => {
                    let Ok(permit) = permit else { return Ok(()) };
                    if let Some(message) = self.next_message(&mut behind, &mut digest_due) {
                        permit.send(Box::new(Ok(message)));
                    }
                }
            }
            // Mostly there is room, and no more than this to send.
            while behind || digest_due {
                let permit = match outbound.try_reserve() {
                    Ok(permit) => permit,
                    Err(TrySendError::Full(())) => break,
                    Err(TrySendError::Closed(())) => return Ok(()),
                };
                if let Some(message) = self.next_message(&mut behind, &mut digest_due) {
                    permit.send(Box::new(Ok(message)));
                }
            }
            self.mind();
        }
    }

    /// Looks at what there is now, and finds out what may have to be sent of it; false: nothing, for now.
    fn follow(&mut self) -> bool {
        loop {
            self.snapshot.clone_from(&self.surroundings.snapshots.borrow());
            let Some(snapshot) = &self.snapshot else { return false };
            let mut ledger = self.ledger.lock();
            if let Some(version) = ledger.version_to_exceed(snapshot) {
                // A full queue means that others ask already. The next snapshot tells, whatever it changes.
                let _ = self.surroundings.raise.try_send(version);
                self.interest.anything();
                self.looked_at = 0;
                return false;
            }
            ledger.follow(snapshot);
            if ledger.plans() == self.looked_at {
                return ledger.is_behind();
            }
            self.looked_at = ledger.plans();
            self.interest.only(ledger.concerns());
            let is_newest = self
                .surroundings
                .snapshots
                .borrow()
                .as_ref()
                .is_none_or(|newest| newest.version == snapshot.version);
            if is_newest {
                return ledger.is_behind();
            }
            // One was published meanwhile, and who is to look at it was decided without this.
        }
    }

    /// Sees to it that whatever comes next is looked at, if that follows from more than what is known to concern the proxy.
    fn mind(&mut self) {
        let ledger = self.ledger.lock();
        if ledger.must_look() {
            self.interest.anything();
            // The next plan decides anew, whichever it is.
            self.looked_at = 0;
        }
    }

    fn next_message(&mut self, behind: &mut bool, digest_due: &mut bool) -> Option<Bytes> {
        let mut ledger = self.ledger.lock();
        if *behind {
            let snapshot = self.snapshot.as_ref()?;
            let update = ledger.next_update(snapshot);
            *behind = ledger.is_behind();
            if let Some(update) = update {
                drop(ledger);
                self.surroundings.metrics.updates_sent.inc();
                return Some(update.encode(&snapshot.encodings));
            }
        }
        if !std::mem::take(digest_due) {
            return None;
        }
        // With answers outstanding a digest would only be another way to say that they are.
        let patience = match self.digests_withheld < DIGESTS_WITHHELD_LIMIT {
            true => Patience::Left,
            false => Patience::Over,
        };
        let digest = ledger.digest(patience);
        self.digests_withheld = if digest.is_some() { 0 } else { self.digests_withheld + 1 };
        let message = digest.map(ToProxy::Digest)?;
        Some(wire::ControlMessage { message: Some(message) }.encode_to_vec().into())
    }

    /// Takes a message in; true if it may have to be followed by an update.
    fn take(&mut self, message: wire::ProxyMessage) -> Result<bool, Status> {
        let mut ledger = self.ledger.lock();
        match message.message {
            Some(FromProxy::Subscribe(subscribe)) => {
                let known = Known {
                    version: Version(subscribe.known_version),
                    digest: subscribe.known_digest,
                };
                ledger.subscribe(key(subscribe.key)?, known).map_err(not_subscribed)?;
                Ok(true)
            }
            Some(FromProxy::Unsubscribe(unsubscribe)) => {
                ledger.unsubscribe(&key(unsubscribe.key)?);
                Ok(true)
            }
            Some(FromProxy::Ack(ack)) => {
                self.surroundings.metrics.updates_acknowledged.inc();
                Ok(ledger.acknowledge(&key(ack.key)?, Version(ack.version)))
            }
            Some(FromProxy::Nack(nack)) => {
                drop(ledger);
                self.take_refusal(nack)
            }
            Some(FromProxy::Hello(_)) => Err(Status::invalid_argument("a second hello")),
            // Of a later version of the protocol.
            None => Ok(false),
        }
    }
}

/// Completes some time after a certificate has expired: a proxy that has a newer one comes back with
/// that, and those that were made together do not come back together.
async fn expiry(not_after: Option<SystemTime>) {
    let Some(not_after) = not_after else { return std::future::pending().await };
    let left = not_after.duration_since(clock::now()).unwrap_or_default();
    let spread = (left / 10).min(EXPIRY_SPREAD);
    let late = Backoff::new(spread, spread).next_delay();
    let end = not_after.checked_add(late).unwrap_or(not_after);
    // Validity follows the wall clock, which may be set, and waiting does not.
    while let Ok(left) = end.duration_since(clock::now()) {
        tokio::time::sleep(left.clamp(CLOCK_LOOK_MIN, CLOCK_LOOK)).await;
    }
}

impl Stream {
    fn take_refusal(&self, nack: wire::Nack) -> Result<bool, Status> {
        self.surroundings.metrics.updates_refused.inc();
        let key = key(nack.key.clone())?;
        let refusal = refusal(nack);
        if self.warnings.is_due() {
            warn!(
                src = %self.own,
                resource = %key,
                config_version = %refusal.version,
                field = refusal.field,
                error = refusal.reason,
                "proxy refused an update and goes on with what it had"
            );
        }
        let mut ledger = self.ledger.lock();
        let send_again = ledger.refuse(&key, refusal.version, refusal);
        let lacks_all_but = ledger.lacks_all_but(&key);
        // Two streams that look at each other's ledgers must not hold their own.
        drop(ledger);
        let stand_in = lacks_all_but.and_then(|refused| {
            let newest = self.surroundings.snapshots.borrow().clone();
            let contents = newest?.contents;
            let namespace = contents.namespace(&self.own);
            let is_alike = |other: &PodUid| contents.namespace(other) == namespace;
            self.surroundings.proxies.taken(&key, refused, is_alike)
        });
        let Some(stand_in) = stand_in else { return Ok(send_again) };
        info!(src = %self.own, resource = %key, "it had nothing, and gets what another proxy acts on");
        self.ledger.lock().stand_in(&key, stand_in);
        Ok(true)
    }
}

fn key(key: Option<wire::ResourceKey>) -> Result<ResourceKey, Status> {
    let key = key.ok_or_else(|| Status::invalid_argument("key: is missing"))?;
    let key = ResourceKey::try_from(key)
        .map_err(|error: InvalidMessage| Status::invalid_argument(format!("key: {error}")))?;
    if let ResourceKey::Endpoints(port) = &key
        && ![&port.service.namespace, &port.service.name].into_iter().all(|name| is_name(name))
    {
        return Err(Status::invalid_argument("key: no service has such a name"));
    }
    Ok(key)
}

/// What a proxy says goes to logs and to an operator's terminal.
fn printable(text: &str, limit: usize) -> String {
    let shown = |character: char| if character.is_control() { ' ' } else { character };
    text.chars().take(limit).map(shown).collect()
}

/// As long as names of Kubernetes are at most, and printable.
fn is_name(text: &str) -> bool {
    text.len() <= NAME_LIMIT && !text.contains(char::is_control)
}

fn refusal(nack: wire::Nack) -> Refusal {
    let limited = |text: String| printable(&text, REASON_LIMIT_CHARS);
    let object = nack.origin.map(ObjectReference::from);
    Refusal {
        version: Version(nack.version),
        reason: limited(nack.reason),
        object: object.filter(|object| {
            [&object.kind, &object.namespace, &object.name].into_iter().all(|text| is_name(text))
        }),
        field: in_the_object(&limited(nack.field)),
    }
}

/// A rule with several matches is sent as several rules of one match, whose place tells the match
/// already: `spec.rules[0].matches[2]` and then `.matches[0]`, the only one that was sent.
fn in_the_object(field: &str) -> String {
    const ONLY: &str = "].matches[0]";
    let repeated = field.match_indices(ONLY).find(|(at, _)| {
        let before = field.get(..*at).unwrap_or_default();
        before.contains(".matches[")
    });
    match repeated {
        Some((at, _)) => {
            let before = field.get(..=at).unwrap_or_default();
            let after = field.get(at + ONLY.len()..).unwrap_or_default();
            format!("{before}{after}")
        }
        None => field.to_owned(),
    }
}

fn not_subscribed(error: NotSubscribed) -> Status {
    match error {
        NotSubscribed::OtherWorkload { .. } => Status::permission_denied(error.to_string()),
        NotSubscribed::TooMany => Status::resource_exhausted(error.to_string()),
        NotSubscribed::ImpossibleVersion(_) => Status::invalid_argument(error.to_string()),
    }
}

fn draining() -> Status {
    Status::unavailable("the control plane is shutting down")
}

/// How long a proxy may take for its first message.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon a stuck stream is found out; said in `discovery.proto`.
const DIGEST_INTERVAL: Duration = Duration::from_secs(30);
/// After that many a proxy that answers nothing is sent one all the same.
const DIGESTS_WITHHELD_LIMIT: u32 = 2;
/// How long after their certificates' end streams end.
const EXPIRY_SPREAD: Duration = Duration::from_secs(30);
/// How long at most until the wall clock is looked at again.
const CLOCK_LOOK: Duration = Duration::from_secs(30);
/// Nobody waits for less than this.
const CLOCK_LOOK_MIN: Duration = Duration::from_millis(10);
/// What is kept of a refusal's texts.
const REASON_LIMIT_CHARS: usize = 1024;
/// Of the longest name in Kubernetes.
const NAME_LIMIT: usize = 253;
/// What is kept of a proxy's version.
const VERSION_TEXT_LIMIT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_ends_soon_after_its_certificate() {
        let begin = Instant::now();
        expiry(Some(clock::now() - Duration::from_secs(60))).await;
        let soon = Duration::from_millis(200);
        expiry(Some(clock::now() + soon)).await;
        assert!(begin.elapsed() >= soon);
        assert!(expiry(None).now_or_never().is_none());
        let day = Duration::from_secs(24 * 3600);
        assert!(expiry(Some(clock::now() + day)).now_or_never().is_none());
    }

    #[test]
    fn what_a_proxy_says_cannot_drive_a_terminal() {
        let object = wire::ObjectReference { kind: "Pod\x1b[2J".into(), ..Default::default() };
        let refusal = refusal(wire::Nack {
            reason: "no\x1b]0;title\x07\nnew line".into(),
            field: "spec\u{9b}31m".into(),
            origin: Some(object),
            ..wire::Nack::default()
        });
        assert_eq!(refusal.reason, "no ]0;title  new line");
        assert_eq!(refusal.field, "spec 31m");
        assert_eq!(refusal.object, None);
        let named = |name: &str| {
            let service = Some(wire::ServiceName { namespace: "n".into(), name: name.into() });
            let port = wire::ServicePort { service, port: 80 };
            key(Some(wire::ResourceKey { key: Some(wire::resource_key::Key::Endpoints(port)) }))
        };
        assert!(named("api").is_ok());
        assert!(named("a\x1b[2J").is_err());
        assert!(named(&"a".repeat(254)).is_err());
    }

    #[test]
    fn a_field_names_the_match_as_it_was_written() {
        for (field, expected) in [
            (
                "spec.rules[0].matches[2].matches[0].path.value",
                "spec.rules[0].matches[2].path.value",
            ),
            ("spec.rules[0].matches[0].path.value", "spec.rules[0].matches[0].path.value"),
            ("spec.rules[1].matches[1].matches[0]", "spec.rules[1].matches[1]"),
            ("", ""),
        ] {
            assert_eq!(in_the_object(field), expected);
        }
    }
}
