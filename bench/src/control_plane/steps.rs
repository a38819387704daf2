//! What is done with the control plane, one thing after the other, and what is seen of it meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_runtime::clock;
use heddle_runtime::tasks::Tasks;
use tokio::time::{Instant, sleep};

use crate::control_plane::figures::{Changes, Idle, Restart, Spread, Start, median_bytes};
use crate::control_plane::fleet::Fleet;
use crate::control_plane::manifests::Files;
use crate::control_plane::plan::{Plan, Service};
use crate::control_plane::process::{Program, Running};
use crate::control_plane::sightings::{Sighting, Sightings, What};
use crate::control_plane::tally::Tally;
use crate::control_plane::{megabytes, micros, milliseconds};
use crate::processes::CpuTime;
use crate::statistics::median;

/// What all steps need.
pub struct Steps<'a> {
    /// The mesh.
    pub plan: &'a Plan,
    /// Its files.
    pub files: &'a Files,
    /// What its proxies do.
    pub sightings: Sightings,
    /// What runs in this process.
    pub tasks: Tasks,
}

impl Steps<'_> {
    /// Starts all proxies at once, and waits until each has all it wants.
    pub async fn start(
        &mut self,
        tallies: &[Tally],
        (address, control_plane): (SocketAddr, &Running),
        figures: &mut Start,
    ) -> Result<Fleet> {
        let cpu = control_plane.cpu()?;
        let began = Instant::now();
        let starting = Fleet::start(self.plan, self.files, (address, tallies), &self.tasks);
        let mut fleet = Box::pin(starting).await?;
        let last = fleet.subscribe(self.plan, START_WITHIN).await?;
        figures.in_sync_ms = milliseconds(last.duration_since(began));
        figures.cpu_seconds = control_plane.cpu()?.since(&cpu).as_secs_f64();
        fleet.check(self.plan, |_| false)?;
        figures.bytes_each = median_bytes(&fleet.received_bytes());
        figures.resident_mb = megabytes(control_plane.memory()?.resident_bytes);
        // What one of them said is not to be taken for an answer to what comes next.
        sleep(QUIET).await;
        self.sightings.take();
        Ok(fleet)
    }

    /// Lets so many endpoints become unready and ready again.
    pub async fn change(
        &mut self,
        fleet: &mut Fleet,
        control_plane: &Running,
        count: usize,
    ) -> Result<Changes> {
        let mut seen = Seen::default();
        let cpu = control_plane.cpu()?;
        let ranks = self.plan.changing();
        let mut short: BTreeSet<usize> = BTreeSet::new();
        for (index, rank) in ranks.iter().cycle().take(count).enumerate() {
            let is_ready = !short.insert(*rank);
            if is_ready {
                short.remove(rank);
            }
            let change = Change { rank: *rank, is_ready };
            let both = (control_plane.cpu()?, CpuTime::of(std::process::id())?);
            self.one(fleet, change, &mut seen).await.with_context(|| format!("change {index}"))?;
            if *rank == 0 {
                let used = control_plane.cpu()?.since(&both.0);
                let proxies = CpuTime::of(std::process::id())?.since(&both.1);
                seen.widest_cpu.push(milliseconds(used));
                seen.widest_proxies_cpu.push(milliseconds(proxies));
            }
            fleet.check(self.plan, |rank| short.contains(&rank))?;
        }
        let cpu = control_plane.cpu()?.since(&cpu);
        for rank in short {
            self.one(fleet, Change { rank, is_ready: true }, &mut Seen::default()).await?;
        }
        fleet.check(self.plan, |_| false)?;
        let memory = control_plane.memory()?;
        Ok(Changes {
            count,
            cpu_ms: milliseconds(cpu) / f64::from(u32::try_from(count.max(1))?),
            resident_mb: megabytes(memory.resident_bytes),
            peak_mb: megabytes(memory.peak_bytes),
            ..seen.figures()
        })
    }

    async fn one(&mut self, fleet: &Fleet, change: Change, seen: &mut Seen) -> Result<()> {
        let service = self.plan.services.get(change.rank).context("a service")?;
        let before = fleet.received_bytes();
        let written = micros(clock::now());
        self.files.write_slice(service, change.is_ready)?;
        let all = self.wait(service, written, CHANGE_WITHIN).await?;
        let received = fleet.received_bytes();
        let bytes: Vec<u64> = received.iter().zip(&before).map(|(now, then)| now - then).collect();
        seen.take(service, change, (&all, written), &bytes);
        Ok(())
    }

    /// Waits until all subscribers have taken something newer, and a moment more: what was seen until then.
    async fn wait(&self, service: &Service, since: u64, within: Duration) -> Result<Vec<Sighting>> {
        let key = service.endpoints_key().context("a port")?.to_string();
        let deadline = Instant::now() + within;
        let mut all = Vec::new();
        let mut missing = service.subscribers.clone();
        while !missing.is_empty() && Instant::now() < deadline {
            sleep(POLL_PAUSE).await;
            let known = all.len();
            self.look(&mut all)?;
            for sighting in all.iter().skip(known).filter(|one| one.takes(&key, since)) {
                missing.remove(&sighting.proxy);
            }
        }
        sleep(QUIET).await;
        self.look(&mut all)?;
        Ok(all)
    }

    fn look(&self, all: &mut Vec<Sighting>) -> Result<()> {
        let (more, lost) = self.sightings.take();
        ensure!(lost == 0, "{lost} events of proxies were not seen");
        all.extend(more);
        Ok(())
    }

    /// Does nothing for a while.
    pub async fn idle(
        &self,
        fleet: &Fleet,
        control_plane: &Running,
        pause: Duration,
    ) -> Result<Idle> {
        let (cpu, bytes) = (control_plane.cpu()?, fleet.received_bytes());
        sleep(pause).await;
        let (used, now) = (control_plane.cpu()?.since(&cpu), fleet.received_bytes());
        let received: u64 = now.iter().sum::<u64>() - bytes.iter().sum::<u64>();
        let seconds = pause.as_secs_f64().max(f64::MIN_POSITIVE);
        let proxies = f64::from(u32::try_from(self.plan.proxies.len())?);
        Ok(Idle {
            seconds,
            cpu_ms_per_second: milliseconds(used) / seconds,
            bytes_per_second: f64::from(u32::try_from(received)?) / proxies / seconds,
        })
    }

    /// Kills it and starts it again; meanwhile an endpoint goes that every proxy is to know of.
    pub async fn restart(
        &self,
        fleet: &Fleet,
        program: &Program,
        control_plane: Running,
    ) -> Result<(Running, Restart)> {
        let service = self.plan.services.first().context("a service")?;
        let killed = Instant::now();
        control_plane.kill().await?;
        self.files.write_slice(service, false)?;
        sleep(DOWN).await;
        self.sightings.take();
        let (began, since) = (Instant::now(), micros(clock::now()));
        let mut control_plane = program.start()?;
        let down = began.duration_since(killed);
        control_plane.ready().await?;
        let ready = began.elapsed();
        let all = self.wait(service, since, RESTART_WITHIN).await?;
        let memory = control_plane.memory()?;
        let cpu = control_plane.cpu()?;
        fleet.check(self.plan, |rank| rank == 0)?;
        let key = service.endpoints_key().context("a port")?.to_string();
        let opened = last(&all, |sighting| sighting.what == What::Opened);
        let synced = last(&all, |sighting| sighting.takes(&key, since));
        let until = |at: Option<&u64>| match at {
            Some(at) => {
                f64::from(u32::try_from(at.saturating_sub(since)).unwrap_or(u32::MAX)) / 1e3
            }
            None => f64::INFINITY,
        };
        let restart = Restart {
            down_ms: milliseconds(down),
            ready_ms: milliseconds(ready),
            connected_ms: until(opened.values().max()),
            in_sync_ms: until(synced.values().max()),
            in_sync: synced.len(),
            cpu_seconds: cpu.total().as_secs_f64(),
            resident_mb: megabytes(memory.resident_bytes),
            peak_mb: megabytes(memory.peak_bytes),
        };
        Ok((control_plane, restart))
    }
}

impl Sighting {
    /// Whether it takes endpoints that are newer than this.
    fn takes(&self, key: &str, since: u64) -> bool {
        matches!(&self.what, What::InUse { resource, version } if resource == key && *version > since)
    }
}

/// When each proxy first did something.
fn last(all: &[Sighting], is_it: impl Fn(&Sighting) -> bool) -> BTreeMap<usize, u64> {
    let mut found = BTreeMap::new();
    for sighting in all.iter().filter(|sighting| is_it(sighting)) {
        found.entry(sighting.proxy).or_insert(sighting.at_micros);
    }
    found
}

/// What changes.
#[derive(Clone, Copy, Debug)]
struct Change {
    rank: usize,
    is_ready: bool,
}

/// What was seen of all changes.
#[derive(Debug, Default)]
struct Seen {
    expected: usize,
    received: usize,
    strays: usize,
    refused: usize,
    delays: Vec<u32>,
    widest: Vec<u32>,
    from_published: Vec<u32>,
    until_published: Vec<u32>,
    widest_cpu: Vec<f64>,
    widest_proxies_cpu: Vec<f64>,
    added: Vec<u64>,
    removed: Vec<u64>,
    added_to_large: Vec<u64>,
    others: Vec<u64>,
}

impl Seen {
    fn take(
        &mut self,
        service: &Service,
        change: Change,
        (all, written): (&[Sighting], u64),
        bytes: &[u64],
    ) {
        let key = service.endpoints_key().map(|key| key.to_string()).unwrap_or_default();
        let small = |micros: u64| u32::try_from(micros).unwrap_or(u32::MAX);
        self.expected += service.subscribers.len();
        let mut told: BTreeSet<usize> = BTreeSet::new();
        let mut published = None;
        for sighting in all {
            match &sighting.what {
                What::Opened => {}
                What::Refused => self.refused += 1,
                What::InUse { resource, version } => {
                    let is_it = *resource == key
                        && service.subscribers.contains(&sighting.proxy)
                        && told.insert(sighting.proxy);
                    if !is_it {
                        self.strays += 1;
                        continue;
                    }
                    let delay = small(sighting.at_micros.saturating_sub(written));
                    self.delays.push(delay);
                    if change.rank == 0 {
                        self.widest.push(delay);
                    }
                    self.from_published.push(small(sighting.at_micros.saturating_sub(*version)));
                    published = Some(*version);
                }
            }
        }
        self.received += told.len();
        self.until_published
            .extend(published.map(|published| small(published.saturating_sub(written))));
        for (proxy, bytes) in bytes.iter().enumerate() {
            let samples = match (service.subscribers.contains(&proxy), change) {
                (false, _) => &mut self.others,
                (true, Change { is_ready: false, .. }) => &mut self.removed,
                (true, Change { rank: 0, is_ready: true }) => &mut self.added_to_large,
                (true, Change { is_ready: true, .. }) => &mut self.added,
            };
            samples.push(*bytes);
        }
    }

    fn figures(self) -> Changes {
        Changes {
            expected: self.expected,
            received: self.received,
            strays: self.strays,
            refused: self.refused,
            delay: Spread::of(self.delays),
            widest: Spread::of(self.widest),
            delay_from_published: Spread::of(self.from_published),
            until_published: Spread::of(self.until_published),
            widest_cpu_ms: median(&self.widest_cpu).unwrap_or_default(),
            widest_proxies_cpu_ms: median(&self.widest_proxies_cpu).unwrap_or_default(),
            bytes_added: median_bytes(&self.added),
            bytes_removed: median_bytes(&self.removed),
            bytes_added_to_large: median_bytes(&self.added_to_large),
            bytes_to_others: median_bytes(&self.others),
            ..Changes::default()
        }
    }
}

/// Until a thousand proxies have keys and certificates on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(180);
/// So long a change is waited for; what has not come then does not come.
const CHANGE_WITHIN: Duration = Duration::from_secs(30);
/// The same of a restart.
const RESTART_WITHIN: Duration = Duration::from_secs(120);
/// How long there is no control plane: proxies wait as long between attempts as they ever do at first.
const DOWN: Duration = Duration::from_secs(2);
/// For what should not come.
const QUIET: Duration = Duration::from_millis(150);
const POLL_PAUSE: Duration = Duration::from_millis(5);
