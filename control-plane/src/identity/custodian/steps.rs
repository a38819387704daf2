//! A rotation's next step, when it is time, and what is told of it. Whether it is time is decided in
//! `rotation.rs`.

use std::time::Duration;

use heddle_runtime::clock;
use heddle_runtime::duration::Text;
use heddle_runtime::logging::Chain;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::identity::custodian::{Custodian, NotRotated};
use crate::identity::kept::NotBegun;
use crate::identity::replicas::NotHeard;
use crate::identity::rotation::{self, Facts, Kind, Move, Replica, Rotation, Step, Waiting};
use crate::identity::store::News;

impl Custodian {
    /// The next step of the rotation, if it is time.
    pub(super) async fn go_on(&mut self) -> Result<(), NotRotated> {
        let Some(current) = self.kept.rotations.current.clone() else { return Ok(()) };
        let replicas = match (self.ask_replicas().await, current.step) {
            (Ok(replicas), _) => replicas,
            (Err(error), Step::Announced | Step::Switched) => {
                self.waiting_for = format!("the other control planes: {}", Chain(&error));
                self.calm_since = None;
                return Ok(());
            }
            // Nothing hangs on what they say.
            (Err(error), Step::TurningOver) => {
                debug!(error = %Chain(&error), "the other control planes are not heard");
                Vec::new()
            }
        };
        let mut facts = self.facts(replicas);
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
                self.wait(&current, &waiting, current.lasts(facts.now)).await;
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

    async fn ask_replicas(&self) -> Result<Vec<Replica>, NotHeard> {
        self.setup.replicas.all(self.setup.population.report(&self.kept)).await
    }

    fn facts(&self, replicas: Vec<Replica>) -> Facts {
        let bundle = self.kept.authority.bundle().digest();
        let published = self.setup.published.as_ref();
        Facts {
            bundle,
            issuer: self.kept.authority.issuer_digest(),
            anchors_published: published
                .is_none_or(|published| published.borrow().everywhere == Some(bundle)),
            replicas,
            leaf_lifetime: self.setup.leaf_lifetime,
            now: clock::now(),
            calm_for: Duration::ZERO,
        }
    }

    async fn wait(&mut self, current: &Rotation, waiting: &Waiting, lasts: Duration) {
        if let Waiting::Expiry(left, _, _) = waiting {
            self.next_step = Instant::now() + (*left).min(EXPIRY_INTERVAL);
        }
        self.waiting_for = waiting.to_string();
        let is_late = current.step == Step::Announced && lasts >= HELD_UP;
        if !is_late || self.told_held_up == Some(current.since) {
            return;
        }
        self.told_held_up = Some(current.since);
        let lasts = Text(Duration::from_secs(lasts.as_secs()));
        let message = format!(
            "for {lasts} the rotation of the root has waited for {waiting}. A proxy that will not \
             acknowledge is left out by `meshctl identity rotate --without NAMESPACE/POD`"
        );
        warn!(rotation = %current.kind, step = "RotationHeldUp", "{message}");
        self.setup.store.tell(&News { warning: true, reason: "RotationHeldUp", message }).await;
    }

    /// A new issuer below the anchor of before, while another anchor is announced.
    pub(super) async fn renew_issuer(&mut self) {
        let renewed = self.kept.with_issuer_renewed(clock::now()).map_err(NotBegun::from);
        let kept = match renewed {
            Ok(kept) => self.keep(kept).await,
            Err(error) => Err(error.into()),
        };
        match kept {
            Ok(()) => {
                let message = "half of the issuer's life was over; a new one signs, below the trust \
                               anchor of before, while the new one is announced";
                info!(step = "IssuerRenewed", "{message}");
                let message = message.to_owned();
                let news = News { warning: false, reason: "IssuerRenewed", message };
                self.setup.store.tell(&news).await;
            }
            Err(error) => {
                error!(error = %Chain(&error), "issuer cannot be renewed; the present one stays");
            }
        }
    }

    async fn announce(&self, kind: Kind, next: &Move) {
        let (reason, message) = match (next, kind) {
            (Move::Wait(_), _) => return,
            (Move::Switch, _) => (
                "IssuerSwitched",
                "every proxy that is waited for has acknowledged the new trust anchor; the issuer is \
                 below it now",
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
}

/// While nothing but time is waited for, which may be a day.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(5);
/// Longer than any proxy takes that will acknowledge at all: then somebody should know.
const HELD_UP: Duration = Duration::from_mins(10);
