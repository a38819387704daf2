//! Keeps the authority: takes over what is kept whenever that is something else and can be trusted, rotates
//! step by step if this process leads, and sees to the control plane's own certificate.
//!
//! What is decided is in `rotation.rs` and `kept.rs`; where it is kept, in `store.rs`; how it is there at the
//! start, in `keeper/load.rs`.

pub mod load;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::identity::TrustDomain;
use heddle_runtime::clock;
use heddle_runtime::logging::Chain;
use heddle_tls::authority::Authority;
use heddle_tls::bundle::Bundle;
use heddle_tls::credentials::CredentialsWriter;
use heddle_tls::digest::Digest;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::identity::keeper::load::KeeperError;
use crate::identity::kept::{Kept, NotBegun, Read};
use crate::identity::own::{Own, OwnError};
use crate::identity::replicas::{Population, Replicas};
use crate::identity::rotation::{self, Facts, Kind, Move, Report, Rotations, Waiting};
use crate::identity::store::{News, Revision, Saved, Store, StoreError, Stored};

/// Reads the authority of the moment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authorities(watch::Receiver<Arc<Authority>>);

impl Authorities {
    /// The authority of the moment.
    pub fn current(&self) -> Arc<Authority> {
        Arc::clone(&self.0.borrow())
    }

    /// The trust bundle as soon as it is another than `told`; `None` when the keeper is gone.
    ///
    /// Cancel safe: yes.
    pub async fn bundle_other_than(&mut self, told: Option<&Bundle>) -> Option<Bundle> {
        let other = |authority: &Arc<Authority>| Some(authority.bundle()) != told;
        self.0.wait_for(other).await.ok().map(|authority| authority.bundle().clone())
    }
}

/// What a keeper works with.
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
    /// Tells which bundle new proxies are given everywhere, if it is the same one everywhere. `None`:
    /// they are given what is kept, where it is kept.
    pub published: Option<watch::Receiver<Option<Digest>>>,
}

/// Tells whether this process leads now.
pub type Leads = Arc<dyn Fn() -> bool + Send + Sync>;

/// Asks for a rotation.
#[derive(Debug)]
pub struct Request {
    /// What to replace.
    pub kind: Kind,
    /// Whether that was begun.
    pub answer: oneshot::Sender<Result<(), NotRotated>>,
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
}

/// Keeps the authority.
pub struct Keeper {
    setup: Setup,
    kept: Kept,
    revision: Revision,
    /// What is kept is not in use.
    problem: Option<String>,
    waiting_for: String,
    /// Since when nothing has been outstanding.
    calm_since: Option<Instant>,
    /// When to look at the rotation again.
    next_step: Instant,
    /// What the other control planes were told, and when.
    told: Option<(Report, Instant)>,
    own: Own,
    authority: watch::Sender<Arc<Authority>>,
    view: watch::Sender<View>,
    requests: mpsc::Receiver<Request>,
}

/// What others have of a keeper.
#[derive(Clone, Debug)]
pub struct Handles {
    /// Signs.
    pub authorities: Authorities,
    /// How things are.
    pub view: watch::Receiver<View>,
    /// Takes requests.
    pub requests: mpsc::Sender<Request>,
}

impl Keeper {
    /// Loads the authority or makes one, and issues our own certificate.
    pub async fn start(
        setup: Setup,
        credentials: CredentialsWriter,
    ) -> Result<(Self, Handles), KeeperError> {
        let (kept, revision) = load::load_or_create(&setup).await?;
        let own = Own::begin(credentials, setup.leaf_lifetime, &kept.authority)?;
        let (authority, authorities) = watch::channel(Arc::new(kept.authority.clone()));
        let (view, viewed) = watch::channel(View::default());
        let (requesting, requests) = mpsc::channel(REQUESTS_QUEUED);
        let keeper = Self {
            setup,
            kept,
            revision,
            problem: None,
            waiting_for: String::new(),
            calm_since: None,
            next_step: Instant::now(),
            told: None,
            own,
            authority,
            view,
            requests,
        };
        keeper.show();
        let authorities = Authorities(authorities);
        Ok((keeper, Handles { authorities, view: viewed, requests: requesting }))
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
                    let begun = self.begin(request.kind).await;
                    // Whoever asked may have gone.
                    let _ = request.answer.send(begun);
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
            match self.own.renew(&self.kept.authority) {
                Ok(()) => info!("own certificate renewed"),
                Err(error) => error!(error = %Chain(&error), "own certificate cannot be renewed"),
            }
        }
        let rotates = self.kept.rotations.current.is_some();
        if rotates {
            self.tell_others().await;
        }
        // What is kept is somebody's to mend first.
        if !(self.setup.leads)() || self.problem.is_some() {
            return;
        }
        if rotates {
            if Instant::now() < self.next_step {
                return;
            }
            if let Err(error) = self.go_on().await {
                warn!(error = %Chain(&error), "the rotation waits; its next step failed");
                self.waiting_for = format!("another attempt: {}", Chain(&error));
            }
        } else if self.kept.authority.issuer_is_due(clock::now())
            && self.kept.authority.has_root_key()
        {
            info!("half of the issuer's life is over");
            if let Err(error) = self.begin(Kind::Issuer).await {
                error!(error = %Chain(&error), "issuer cannot be renewed; the present one stays");
            }
        }
    }

    /// The next step of the rotation, if it is time.
    async fn go_on(&mut self) -> Result<(), NotRotated> {
        let Some(current) = self.kept.rotations.current.clone() else { return Ok(()) };
        let report = self.setup.population.report(&self.kept.authority);
        let replicas = match self.setup.replicas.all(report).await {
            Ok(replicas) => replicas,
            Err(error) => {
                self.waiting_for = format!("the other control planes: {}", Chain(&error));
                self.calm_since = None;
                return Ok(());
            }
        };
        let bundle = self.kept.authority.bundle().digest();
        let mut facts = Facts {
            bundle,
            issuer: self.kept.authority.issuer_digest(),
            anchors_published: self
                .setup
                .published
                .as_ref()
                .is_none_or(|published| *published.borrow() == Some(bundle)),
            replicas,
            leaf_lifetime: self.setup.leaf_lifetime,
            now: clock::now(),
            calm_for: Duration::ZERO,
        };
        facts.calm_for = match rotation::outstanding(current.step, &facts) {
            Some(_) => {
                self.calm_since = None;
                Duration::ZERO
            }
            None => self.calm_since.get_or_insert_with(Instant::now).elapsed(),
        };
        let next = rotation::next(&current, &facts);
        let Some(kept) = self.kept.after(&next, facts.now).map_err(NotBegun::from)? else {
            if let Move::Wait(waiting) = next {
                if let Waiting::Expiry(left) = waiting {
                    self.next_step = Instant::now() + left.min(EXPIRY_INTERVAL);
                }
                self.waiting_for = waiting.to_string();
            }
            return Ok(());
        };
        self.keep(kept).await?;
        self.calm_since = None;
        self.waiting_for = String::new();
        self.announce(current.kind, &next).await;
        if next == Move::End
            && let Err(error) = self.setup.replicas.forget().await
        {
            warn!(error = %Chain(&error), "what control planes told each other stays behind");
        }
        Ok(())
    }

    async fn announce(&self, kind: Kind, next: &Move) {
        let (reason, message) = match (next, kind) {
            (Move::Wait(_), _) => return,
            (Move::Switch, _) => (
                "IssuerSwitched",
                "every proxy has acknowledged the new trust anchor; the issuer is below it now",
            ),
            (Move::TurnOver, _) => (
                "IssuerInUse",
                "every control plane signs with the new issuer; certificates of before run out",
            ),
            (Move::End, Kind::Root) => {
                ("RootRotated", "no certificate is below the trust anchor of before; it is dropped")
            }
            (Move::End, Kind::Issuer) => {
                ("IssuerRotated", "no certificate of the issuer of before is left")
            }
        };
        info!(rotation = %kind, step = reason, "{message}");
        let message = message.to_owned();
        self.setup.store.tell(&News { warning: false, reason, message }).await;
    }

    /// Begins a rotation. Any replica may; the one that leads goes on with it. Where what is kept cannot
    /// be used, what is in use is kept anew in any case.
    async fn begin(&mut self, kind: Kind) -> Result<(), NotRotated> {
        let kept = match self.kept.begin(kind, clock::now()) {
            Err(NotBegun::UnderWay(_)) if self.problem.is_some() => {
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

    /// Keeps a new state, and then goes by it.
    async fn keep(&mut self, kept: Kept) -> Result<(), NotRotated> {
        match self.setup.store.save(&kept.to_texts(), &self.revision).await? {
            Saved::Conflict => Err(NotRotated::Conflict),
            Saved::As(revision) => {
                self.revision = revision;
                self.problem = None;
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
        if other {
            self.authority.send_replace(Arc::new(self.kept.authority.clone()));
            self.own.follow(&self.kept.authority)?;
        }
        Ok(())
    }

    /// What is kept was changed, by another replica or by somebody's hand.
    async fn follow(&mut self, stored: Stored) {
        if stored.revision == self.revision || stored.revision.is_before(&self.revision) {
            return;
        }
        let now = clock::now();
        let read = Kept::read(&stored.texts, &self.setup.trust_domain, now);
        let problem = match read {
            Ok(Read::Whole(kept))
                if self.kept.authority.is_vouched_for_by(kept.authority.bundle()) =>
            {
                self.revision = stored.revision;
                if self.problem.take().is_some() {
                    info!("what is kept of the authority can be used again");
                }
                if let Err(error) = self.adopt(kept) {
                    error!(error = %Chain(&error), "own certificate cannot be renewed");
                }
                return;
            }
            Ok(Read::Whole(_) | Read::Amended(_)) => format!(
                "{} holds another authority, which does not trust the anchor that the certificates in \
                 use are below",
                self.setup.store
            ),
            Ok(Read::Nothing) => format!("{} holds no authority any more", self.setup.store),
            Err(error) => format!("{}: {}", self.setup.store, Chain(&error)),
        };
        self.revision = stored.revision;
        let problem = format!(
            "{problem}; the one of before stays in use. Put it back, or have it written anew by \
             `meshctl identity rotate --issuer`"
        );
        if self.problem.as_ref() != Some(&problem) {
            error!(error = %problem, "what is kept of the authority cannot be used");
            let message = problem.clone();
            let news = News { warning: true, reason: "AuthorityNotUsable", message };
            self.setup.store.tell(&news).await;
        }
        self.problem = Some(problem);
    }

    async fn tell_others(&mut self) {
        let report = self.setup.population.report(&self.kept.authority);
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
        let view = View {
            rotations,
            waiting_for: if rotates { self.waiting_for.clone() } else { String::new() },
            problem: self.problem.clone().unwrap_or_default(),
            kept_in: self.setup.store.to_string(),
            leads: (self.setup.leads)(),
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

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("kept", &self.kept).finish_non_exhaustive()
    }
}

/// Sooner than the shortest certificate is due, and often enough to follow a rotation with the eye.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// While nothing but time is waited for, which may be a day.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(5);
/// No more often than that are others told what has changed.
const TELL_INTERVAL: Duration = Duration::from_secs(2);
/// Also when nothing has: see `FRESH` in `replicas.rs`.
const TELL_AGAIN: Duration = Duration::from_secs(15);
/// People ask for rotations.
const REQUESTS_QUEUED: usize = 4;

#[cfg(test)]
mod tests;
