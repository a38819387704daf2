//! The one writer of discovery: turns asks of the data path and messages of the control plane into
//! values for readers and answers for the control plane. No I/O: see client.rs.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use heddle_model::identity::PodUid;
use heddle_model::names::ServicePort;
use heddle_model::resource::{ResourceKey, Version};
use heddle_proto::discovery as wire;
use heddle_proto::discovery::proxy_message::Message;
use heddle_runtime::readiness::Readiness;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::balance::locality::Place;
use crate::discovery::metrics::{DiscoveryMetrics, UpdateOutcome};
use crate::discovery::resolved::{Resolved, Resolver};
use crate::discovery::state::{Agreement, Change, Outcome, State, Subscription};
use crate::discovery::store::{Ask, NotDiscovered, StoreWriter};
use crate::discovery::subscriptions::{Asked, Subscriptions};
use crate::discovery::update::{self, Refusal, Unreadable};

/// Owns all that discovery knows.
pub struct Writer {
    state: State,
    subscriptions: Subscriptions,
    resolver: Resolver,
    store: StoreWriter,
    waiting: HashMap<SocketAddr, Vec<Waiter>>,
    outbox: VecDeque<wire::ProxyMessage>,
    link: Link,
    metrics: DiscoveryMetrics,
    readiness: Readiness,
}

type Waiter = oneshot::Sender<Result<watch::Receiver<Resolved>, NotDiscovered>>;

/// The stream to the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    /// What is put into the outbox will be sent once it is up.
    Opening,
    Up,
}

/// Whether the stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Continue,
    /// It is to be opened anew, since both ends believe different things.
    Resync,
}

impl Writer {
    /// Knows nothing yet, wants its own workload. Sets the condition [`READY_CONDITION`].
    pub fn new(
        own: PodUid,
        store: StoreWriter,
        metrics: DiscoveryMetrics,
        readiness: Readiness,
    ) -> Self {
        Self {
            state: State::new(own),
            subscriptions: Subscriptions::new(SUBSCRIPTION_LIMIT),
            resolver: Resolver::default(),
            store,
            waiting: HashMap::new(),
            outbox: VecDeque::new(),
            link: Link::Down,
            metrics,
            readiness,
        }
    }

    /// A stream is being opened: its first messages are all that is wanted, with what is known.
    pub fn opening(&mut self) {
        self.link = Link::Opening;
        self.outbox.clear();
        let hello = wire::Hello {
            proxy_version: env!("CARGO_PKG_VERSION").to_owned(),
            highest_known_version: self.state.highest_version().0,
        };
        self.send(Message::Hello(hello));
        for subscription in self.state.begin_session() {
            self.send(subscribe(&subscription));
        }
    }

    /// The stream is open.
    pub fn opened(&mut self) {
        self.link = Link::Up;
        self.metrics.set_connected(true);
    }

    /// The stream has ended, or was never opened. Everything goes on with what is held.
    pub fn closed(&mut self) {
        self.link = Link::Down;
        self.outbox.clear();
        self.metrics.set_connected(false);
    }

    /// The next message for the control plane.
    pub fn take_outgoing(&mut self) -> Option<wire::ProxyMessage> {
        self.outbox.pop_front()
    }

    /// Whether there is a message for the control plane.
    pub fn has_outgoing(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// False while so many answers are unsent that reading more would pile them up.
    pub fn takes_more(&self) -> bool {
        self.outbox.len() < UNSENT_LIMIT
    }

    /// Somebody wants to know what an address means.
    pub fn ask(&mut self, ask: Ask, now: Instant) {
        let Ask { address, answer } = ask;
        if self.subscriptions.ask(address, now) == Asked::Full {
            self.make_room(now);
            if self.subscriptions.ask(address, now) == Asked::Full {
                self.metrics.subscription_refused();
                // Whoever asked may have gone; then nobody needs the answer.
                let _ = answer.send(Err(NotDiscovered::Full));
                return;
            }
        }
        if self.state.want(address) {
            self.metrics.set_subscriptions(self.subscriptions.len());
            debug!(dst = %address, "subscribing");
            let key = ResourceKey::Destination(address);
            let nothing = Subscription { key, known_version: Version(0), known_digest: 0 };
            self.send(subscribe(&nothing));
        }
        match self.store.known(address) {
            Some(known) => {
                let _ = answer.send(Ok(known));
            }
            None => self.waiting.entry(address).or_default().push(answer),
        }
    }

    /// A message came from the control plane.
    pub fn receive(&mut self, message: wire::ControlMessage) -> Verdict {
        use wire::control_message::Message;

        match message.message {
            Some(Message::Update(update)) => {
                self.receive_update(update);
                Verdict::Continue
            }
            Some(Message::Digest(digest)) => self.receive_digest(&digest),
            None => {
                warn!(
                    "message of an unknown kind ignored; is this proxy older than its control plane?"
                );
                Verdict::Continue
            }
        }
    }

    /// Gives up what nobody used for long; to be called every [`SWEEP_INTERVAL`].
    pub fn sweep(&mut self, now: Instant) {
        self.waiting.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        self.touch(now);
        // Without a control plane nothing can be learned again, so everything is kept.
        if self.link == Link::Up {
            for address in self.subscriptions.idle(now, IDLE_LIMIT) {
                self.give_up(address);
            }
        }
        let state = &self.state;
        self.resolver.drop_unused(|service| state.holds(&ResourceKey::Endpoints(service.clone())));
    }

    fn receive_update(&mut self, update: wire::Update) {
        let (key, version, outcome) = match update::read(update) {
            Ok(update) => {
                let (key, version) = (update.key.clone(), update.version);
                (key, version, self.state.apply(update))
            }
            Err(unreadable) => match *unreadable {
                Unreadable { key: Some(key), version, refusal } => {
                    let outcome = self.state.refuse(key.clone(), version, refusal);
                    (key, version, outcome)
                }
                Unreadable { key: None, version: config_version, refusal } => {
                    let reason = refusal.reason;
                    self.metrics.updated(UpdateOutcome::Nacked);
                    error!(error = reason, %config_version, "update without a readable key dropped");
                    return;
                }
            },
        };
        match outcome {
            Outcome::Ack(change) => self.accept(&key, version, change),
            Outcome::Nack(refusal) => self.refuse(&key, version, refusal),
            Outcome::IgnoredOlder { held } => {
                info!(resource = %key, config_version = %version, %held, "older update ignored");
                self.metrics.updated(UpdateOutcome::IgnoredOlder);
                self.send(acknowledge(&key, held));
            }
        }
    }

    fn accept(&mut self, key: &ResourceKey, version: Version, change: Change) {
        debug!(resource = %key, config_version = %version, "update in use");
        match change {
            Change::None => {}
            Change::Workload(workload) => {
                let (zone, node) = (workload.zone.clone(), workload.node.clone());
                self.resolver.set_place(Place { zone, node });
                self.store.set_workload(workload);
                self.readiness.set_ready(READY_CONDITION);
            }
            Change::Destination { address, meaning, unused } => {
                let resolved = self.resolver.resolve(address, meaning);
                self.publish(address, resolved);
                self.drop_endpoints(&unused);
            }
            Change::Endpoints(service, set) => self.resolver.update(&service, *set),
            Change::EndpointsRemoved(service) => self.drop_endpoints(&[service]),
        }
        self.metrics.updated(UpdateOutcome::Acked);
        self.metrics.in_use(version);
        self.send(acknowledge(key, version));
    }

    fn refuse(&mut self, key: &ResourceKey, version: Version, refusal: Refusal) {
        let Refusal { reason, origin, field } = refusal;
        let object = origin.as_ref().map(ToString::to_string).unwrap_or_default();
        warn!(resource = %key, config_version = %version, error = reason, object, field, "update refused");
        self.metrics.updated(UpdateOutcome::Nacked);
        match key {
            ResourceKey::Destination(address)
                if !self.state.holds(key) && self.subscriptions.contains(*address) =>
            {
                self.publish(*address, Resolved::Refused { reason: reason.clone() });
            }
            ResourceKey::Destination(_) | ResourceKey::Workload(_) | ResourceKey::Endpoints(_) => {}
        }
        self.send(Message::Nack(wire::Nack {
            key: Some(wire::ResourceKey::from(key)),
            version: version.0,
            reason,
            origin: origin.as_ref().map(wire::ObjectReference::from),
            field,
        }));
    }

    fn receive_digest(&mut self, digest: &wire::Digest) -> Verdict {
        match self.state.compare(digest.fold, digest.resources) {
            Agreement::Same => Verdict::Continue,
            Agreement::Differs => {
                let (fold, resources) = self.state.fold();
                let (theirs, their_resources) = (digest.fold, digest.resources);
                debug!(fold, resources, theirs, their_resources, "control plane's digest differs");
                Verdict::Continue
            }
            Agreement::Resync => Verdict::Resync,
        }
    }

    fn publish(&mut self, address: SocketAddr, resolved: Resolved) {
        self.store.publish(address, resolved);
        for waiter in self.waiting.remove(&address).unwrap_or_default() {
            if let Some(known) = self.store.known(address) {
                let _ = waiter.send(Ok(known));
            }
        }
    }

    fn drop_endpoints(&mut self, services: &[ServicePort]) {
        for service in services {
            self.resolver.remove(service);
        }
    }

    fn make_room(&mut self, now: Instant) {
        if self.link != Link::Up {
            return;
        }
        self.touch(now);
        for address in self.subscriptions.idle(now, Duration::ZERO) {
            if self.give_up(address) {
                return;
            }
        }
    }

    fn touch(&mut self, now: Instant) {
        let (store, waiting) = (&self.store, &self.waiting);
        self.subscriptions
            .touch(now, |address| waiting.contains_key(address) || store.is_used(*address));
    }

    fn give_up(&mut self, address: SocketAddr) -> bool {
        // A connection may have come since this was found to be idle.
        if !self.store.forget_unused(address) {
            return false;
        }
        self.subscriptions.remove(address);
        let unused = self.state.unwant(address);
        self.drop_endpoints(&unused);
        self.resolver.forget(address);
        self.metrics.set_subscriptions(self.subscriptions.len());
        debug!(dst = %address, "idle, unsubscribing");
        let key = wire::ResourceKey::from(&ResourceKey::Destination(address));
        self.send(Message::Unsubscribe(wire::Unsubscribe { key: Some(key) }));
        true
    }

    fn send(&mut self, message: Message) {
        match self.link {
            // A new stream begins with everything that is wanted then.
            Link::Down => {}
            Link::Opening | Link::Up => {
                self.outbox.push_back(wire::ProxyMessage { message: Some(message) });
            }
        }
    }
}

fn subscribe(subscription: &Subscription) -> Message {
    Message::Subscribe(wire::Subscribe {
        key: Some(wire::ResourceKey::from(&subscription.key)),
        known_version: subscription.known_version.0,
        known_digest: subscription.known_digest,
    })
}

fn acknowledge(key: &ResourceKey, version: Version) -> Message {
    Message::Ack(wire::Ack { key: Some(wire::ResourceKey::from(key)), version: version.0 })
}

/// The condition of readiness that holds once the own workload was received.
pub const READY_CONDITION: &str = "discovery";
/// How often [`Writer::sweep`] is called.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// How long a destination stays subscribed to after its last connection.
pub const IDLE_LIMIT: Duration = Duration::from_secs(600);
/// How many destinations one workload may talk to: far more than any sane one does, few enough that
/// a port scan does not eat the proxy's memory. Below the control plane's own limit of 10,000.
pub const SUBSCRIPTION_LIMIT: usize = 9_000;
/// How many unsent answers stop the reading.
const UNSENT_LIMIT: usize = 20_000;

#[cfg(test)]
mod tests;
