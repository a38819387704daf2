//! Keeps the authority: takes over what is kept whenever that is something else and can be trusted, rotates
//! step by step if this process leads, and sees to the control plane's own certificate.
//!
//! What is decided is in `rotation.rs` and `kept.rs`; where it is kept, in `store.rs`; how it is there at the
//! start, in `custodian/load.rs`; how a rotation goes on, in `custodian/steps.rs`; what is done when somebody else
//! has changed what is kept, in `custodian/follow.rs`.

mod follow;
pub mod load;
mod steps;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::identity::TrustDomain;
use heddle_runtime::clock;
use heddle_runtime::logging::Chain;
use heddle_tls::authority::{Authority, LEAF_LIFETIME_MINIMUM};
use heddle_tls::bundle::Bundle;
use heddle_tls::credentials::CredentialsWriter;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::identity::anchors::Published;
use crate::identity::custodian::follow::Trouble;
use crate::identity::custodian::load::CustodianError;
use crate::identity::kept::{Kept, NotBegun};
use crate::identity::own::{Own, OwnError};
use crate::identity::replicas::{Population, Replicas};
use crate::identity::rotation::{Kind, LeftOut, Report, Rotations, Step};
use crate::identity::store::{News, Revision, Saved, Store, StoreError, Stored};

/// Reads the authority of the moment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authorities(watch::Receiver<Signing>);

/// What certificates are signed with.
#[derive(Clone, Debug)]
struct Signing {
    authority: Arc<Authority>,
    leaf_lifetime: Duration,
}

impl Signing {
    /// No certificate lives longer than what is kept says: the end of the next rotation relies on it.
    fn of(kept: &Kept, setting: Duration) -> Self {
        let kept_longest = kept.rotations.longest_leaf.map_or(setting, Duration::from_secs);
        Self {
            authority: Arc::new(kept.authority.clone()),
            leaf_lifetime: setting.min(kept_longest).max(LEAF_LIFETIME_MINIMUM),
        }
    }
}

impl Authorities {
    /// The authority of the moment.
    pub fn current(&self) -> Arc<Authority> {
        Arc::clone(&self.0.borrow().authority)
    }

    /// How long a certificate lives that is issued now.
    pub fn leaf_lifetime(&self) -> Duration {
        self.0.borrow().leaf_lifetime
    }

    /// Completes when something of it is other than at the last call; false when the custodian is gone.
    ///
    /// Cancel safe: yes.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }

    /// The trust bundle as soon as it is another than `told`; `None` when the custodian is gone.
    ///
    /// Cancel safe: yes.
    pub async fn bundle_other_than(&mut self, told: Option<&Bundle>) -> Option<Bundle> {
        let other = |signing: &Signing| Some(signing.authority.bundle()) != told;
        self.0.wait_for(other).await.ok().map(|signing| signing.authority.bundle().clone())
    }
}

/// What a custodian works with.
pub struct Setup {
    /// Where the authority is kept.
    pub store: Store,
    /// Of all identities.
    pub trust_domain: TrustDomain,
    /// Of certificates of workloads.
    pub leaf_lifetime: Duration,
    /// The proxies that are connected here.
    pub population: Population,
    /// The other control planes.
    pub replicas: Replicas,
    /// Whether this process leads now.
    pub leads: Leads,
    /// Tells which bundle new proxies are given. `None`: they are given what is kept, where it is kept.
    pub published: Option<watch::Receiver<Published>>,
}

/// Tells whether this process leads now.
pub type Leads = Arc<dyn Fn() -> bool + Send + Sync>;

/// Asks for something to be done about a rotation.
#[derive(Debug)]
pub struct Request {
    /// For what.
    pub asked: Asked,
    /// Whether that was begun.
    pub answer: oneshot::Sender<Result<(), NotRotated>>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To replace this.
    Rotate(Kind),
    /// Not to wait for the proxies of these pods.
    LeaveOut(Vec<LeftOut>),
}

/// Why no rotation was begun.
#[derive(Debug, thiserror::Error)]
pub enum NotRotated {
    /// It will not do.
    #[error(transparent)]
    NotBegun(#[from] NotBegun),
    /// It cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is kept was changed meanwhile.
    #[error("somebody else has changed the authority at the same time; look at it and try again")]
    Conflict,
    /// The new state cannot be used.
    #[error(transparent)]
    Own(#[from] OwnError),
}

/// How things are, for whoever asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// What is under way, and what was last.
    pub rotations: Rotations,
    /// What the next step waits for.
    pub waiting_for: String,
    /// Why what is kept is not what is in use; empty: it is.
    pub problem: String,
    /// Where it is kept.
    pub kept_in: String,
    /// Whether this process leads.
    pub leads: bool,
    /// Namespaces in which the trust anchors cannot be kept, each with the reason; told by the one that leads.
    pub lacking_anchors: Vec<String>,
}

/// Keeps the authority.
pub struct Custodian {
    setup: Setup,
    kept: Kept,
    revision: Revision,
    /// What is kept is not in use.
    trouble: Option<Trouble>,
    /// When to try again to write what should be kept.
    next_mending: Instant,
    waiting_for: String,
    /// Since when nothing has been outstanding.
    calm_since: Option<Instant>,
    /// When to look at the rotation again.
    next_step: Instant,
    /// The step, by its beginning, that was told to take long.
    told_held_up: Option<u64>,
    /// What the other control planes were told, and when.
    told: Option<(Report, Instant)>,
    own: Own,
    authority: watch::Sender<Signing>,
    view: watch::Sender<View>,
    requests: mpsc::Receiver<Request>,
}

/// What others have of a custodian.
#[derive(Clone, Debug)]
pub struct Handles {
    /// Signs.
    pub authorities: Authorities,
    /// How things are.
    pub view: watch::Receiver<View>,
    /// Takes requests.
    pub requests: mpsc::Sender<Request>,
}

impl Custodian {
    /// Loads the authority or makes one, and issues our own certificate. An API server is waited for.
    pub async fn start(
        setup: Setup,
        credentials: CredentialsWriter,
    ) -> Result<(Self, Handles), CustodianError> {
        let (kept, revision) = load::load_patiently(&setup).await?;
        let signing = Signing::of(&kept, setup.leaf_lifetime);
        let own = Own::begin(credentials, signing.leaf_lifetime, &kept.authority)?;
        let (authority, authorities) = watch::channel(signing);
        let (view, viewed) = watch::channel(View::default());
        let (requesting, requests) = mpsc::channel(REQUESTS_QUEUED);
        let custodian = Self {
            setup,
            kept,
            revision,
            trouble: None,
            next_mending: Instant::now(),
            waiting_for: String::new(),
            calm_since: None,
            next_step: Instant::now(),
            told_held_up: None,
            told: None,
            own,
            authority,
            view,
            requests,
        };
        custodian.show();
        let authorities = Authorities(authorities);
        Ok((custodian, Handles { authorities, view: viewed, requests: requesting }))
    }

    /// Keeps it until the drain.
    pub async fn run(mut self, drain: CancellationToken) {
        let mut changes = self.setup.store.changes();
        let mut next_look = Instant::now();
        loop {
            tokio::select! {
                () = drain.cancelled() => return,
                stored = changed(&mut changes) => self.follow(stored).await,
                Some(request) = self.requests.recv() => {
                    let done = match request.asked {
                        Asked::Rotate(kind) => self.begin(kind).await,
                        Asked::LeaveOut(pods) => self.leave_out(&pods).await,
                    };
                    // Whoever asked may have gone.
                    let _ = request.answer.send(done);
                }
                () = tokio::time::sleep_until(next_look) => {
                    next_look = Instant::now() + LOOK_INTERVAL;
                    self.look().await;
                }
            }
            self.show();
        }
    }

    async fn look(&mut self) {
        if self.own.is_due(clock::now()) {
            let lifetime = self.authority.borrow().leaf_lifetime;
            match self.own.renew(&self.kept.authority, lifetime) {
                Ok(()) => info!("own certificate renewed"),
                Err(error) => error!(error = %Chain(&error), "own certificate cannot be renewed"),
            }
        }
        let step = self.kept.rotations.current.as_ref().map(|current| current.step);
        if step.is_some() {
            self.tell_others().await;
        }
        self.mend().await;
        // What is kept is somebody's to mend first.
        if !(self.setup.leads)() || self.trouble.is_some() {
            return;
        }
        let authority = &self.kept.authority;
        let is_due = authority.issuer_is_due(clock::now()) && authority.has_root_key();
        match step {
            None if is_due => {
                info!("half of the issuer's life is over");
                if let Err(error) = self.begin(Kind::Issuer).await {
                    error!(error = %Chain(&error), "issuer cannot be renewed; the present one stays");
                }
            }
            None => {}
            // What is announced may wait for long, and the issuer must not run out meanwhile.
            Some(Step::Announced) if is_due => self.renew_issuer().await,
            Some(_) if Instant::now() < self.next_step => {}
            Some(_) => {
                if let Err(error) = self.go_on().await {
                    warn!(error = %Chain(&error), "the rotation waits; its next step failed");
                    self.waiting_for = format!("another attempt: {}", Chain(&error));
                }
            }
        }
    }

    /// Begins a rotation. Any replica may; the one that leads goes on with it. Where what is kept cannot
    /// be used, what is in use is kept anew in any case.
    async fn begin(&mut self, kind: Kind) -> Result<(), NotRotated> {
        let kept = match self.kept.begin(kind, clock::now()) {
            Err(NotBegun::UnderWay(_)) if self.trouble.is_some() => {
                self.keep(self.kept.clone()).await?;
                info!("what is in use of the authority is kept anew");
                return Ok(());
            }
            begun => begun?,
        };
        self.keep(kept).await?;
        self.calm_since = None;
        let (reason, message) = match kind {
            Kind::Root => ("RootAnnounced", "a new trust anchor is announced to every proxy"),
            Kind::Issuer => ("IssuerSwitched", "a new issuer signs, below the same trust anchor"),
        };
        info!(rotation = %kind, step = reason, "{message}");
        let message = message.to_owned();
        self.setup.store.tell(&News { warning: false, reason, message }).await;
        Ok(())
    }

    /// Goes on without the proxies of these pods. Any replica may be asked.
    async fn leave_out(&mut self, pods: &[LeftOut]) -> Result<(), NotRotated> {
        let kept = self.kept.leaving_out(pods)?;
        self.keep(kept).await?;
        let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
        let message = format!("not waited for any more: {}", names.join(", "));
        info!(step = "ProxiesLeftOut", "{message}");
        self.setup.store.tell(&News { warning: true, reason: "ProxiesLeftOut", message }).await;
        Ok(())
    }

    /// Keeps a new state, and then goes by it. Whatever is kept allows for our own certificates.
    async fn keep(&mut self, kept: Kept) -> Result<(), NotRotated> {
        let kept = kept.allowing(self.setup.leaf_lifetime).unwrap_or(kept);
        match self.setup.store.save(&kept.to_texts(), &self.revision).await? {
            Saved::Conflict => Err(NotRotated::Conflict),
            Saved::As(revision) => {
                self.revision = revision;
                self.trouble = None;
                Ok(self.adopt(kept)?)
            }
        }
    }

    /// Goes by another state from now on.
    fn adopt(&mut self, kept: Kept) -> Result<(), OwnError> {
        let before = &self.kept.authority;
        let other = before.bundle() != kept.authority.bundle()
            || before.issuer_digest() != kept.authority.issuer_digest();
        self.kept = kept;
        let signing = Signing::of(&self.kept, self.setup.leaf_lifetime);
        let lifetime = signing.leaf_lifetime;
        if other || lifetime != self.authority.borrow().leaf_lifetime {
            self.authority.send_replace(signing);
        }
        if other {
            self.own.follow(&self.kept.authority, lifetime)?;
        }
        Ok(())
    }

    async fn tell_others(&mut self) {
        let report = self.setup.population.report(&self.kept);
        let due = self.told.as_ref().is_none_or(|(told, at)| {
            let since = at.elapsed();
            since >= TELL_AGAIN || (*told != report && since >= TELL_INTERVAL)
        });
        if !due {
            return;
        }
        match self.setup.replicas.tell(&report).await {
            Ok(()) => self.told = Some((report, Instant::now())),
            Err(error) => warn!(error = %Chain(&error), "the other control planes cannot be told"),
        }
    }

    fn show(&self) {
        let rotations = self.kept.rotations.clone();
        let rotates = rotations.current.is_some();
        let published = self.setup.published.as_ref();
        let view = View {
            rotations,
            waiting_for: if rotates { self.waiting_for.clone() } else { String::new() },
            problem: self.trouble.as_ref().map(ToString::to_string).unwrap_or_default(),
            kept_in: self.setup.store.to_string(),
            leads: (self.setup.leads)(),
            lacking_anchors: published
                .map(|published| published.borrow().lacking.clone())
                .unwrap_or_default(),
        };
        self.view.send_if_modified(|shown| {
            let other = *shown != view;
            *shown = view;
            other
        });
    }
}

/// What is kept, whenever that is something else. Cancel safe, as the receiver is.
async fn changed(changes: &mut Option<watch::Receiver<Option<Stored>>>) -> Stored {
    loop {
        let Some(receiver) = changes else { return std::future::pending().await };
        if receiver.changed().await.is_err() {
            *changes = None;
            continue;
        }
        if let Some(stored) = receiver.borrow_and_update().clone() {
            return stored;
        }
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("store", &self.store).finish_non_exhaustive()
    }
}

impl fmt::Debug for Custodian {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custodian").field("kept", &self.kept).finish_non_exhaustive()
    }
}

/// Sooner than the shortest certificate is due, and often enough to follow a rotation with the eye.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// No more often than that are others told what has changed.
const TELL_INTERVAL: Duration = Duration::from_secs(2);
/// Also when nothing has: see `FRESH` in `replicas.rs`.
const TELL_AGAIN: Duration = Duration::from_secs(15);
/// People ask for rotations.
const REQUESTS_QUEUED: usize = 4;

#[cfg(test)]
mod tests;
