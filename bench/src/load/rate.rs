//! Requests that are due at fixed times, whatever became of those before.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use heddle_runtime::tasks::Tasks;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;

use super::Recording;
use super::client::Client;
use super::plan::Extent;
use super::recorder::{Phase, Recorder, Window};

/// Starts a clock, and a worker per client. A request that finds all workers busy waits for one, and its latency runs.
pub fn start(
    clients: Vec<Client>,
    per_second: u32,
    extent: Extent,
    window: &Arc<Window>,
    tasks: &Tasks,
) -> Result<Vec<Recording>> {
    let interval = Duration::from_secs(1) / per_second.max(1);
    let ticks = Ticks::every(interval)?;
    let number = match extent {
        Extent::Time { warm, measured } => {
            (warm + measured).as_nanos() / interval.as_nanos().max(1) + 1
        }
        Extent::Requests(number) => number.into(),
    };
    // Room for all there will ever be, so that no due request is held back by those that wait.
    let (due, waiting) = mpsc::channel(usize::try_from(number)?.max(1));
    tasks.spawn("load.clock", send_due(ticks, interval, due, Arc::clone(window)));
    let waiting = Arc::new(Mutex::new(waiting));
    let workers = clients.into_iter().map(|client| {
        let (sender, recording) = oneshot::channel();
        let work = work(client, Arc::clone(&waiting), Arc::clone(window));
        tasks.spawn_quiet(async move {
            // Nobody waits for it after a timeout.
            let _ = sender.send(work.await);
        });
        recording
    });
    Ok(workers.collect())
}

async fn send_due(
    ticks: Ticks,
    interval: Duration,
    due: mpsc::Sender<Instant>,
    window: Arc<Window>,
) {
    let mut next = ticks.began + interval;
    while let Ok(passed) = ticks.next().await {
        for _ in 0..passed {
            if !window.may_begin() || due.try_send(next).is_err() {
                return;
            }
            next += interval;
        }
    }
}

async fn work(
    mut client: Client,
    waiting: Arc<Mutex<mpsc::Receiver<Instant>>>,
    window: Arc<Window>,
) -> Recorder {
    let mut recorder = Recorder::default();
    loop {
        let due = waiting.lock().await.recv().await;
        let Some(due) = due else { return recorder };
        // What was due in time and is late counts: it would have been measured had it been faster.
        let phase = if window.phase() == Phase::Over { Phase::Measured } else { window.phase() };
        let bytes = client.exchange().await;
        let failed = bytes.is_err();
        recorder.note(phase, due, bytes);
        if failed && client.reconnect().await.is_err() {
            return recorder;
        }
    }
}

/// A timer of the kernel's: tokio's own wakes on whole milliseconds only.
struct Ticks {
    timer: AsyncFd<OwnedFd>,
    /// Not later than the kernel's count began, so that no request is sent before it is due.
    began: Instant,
}

impl Ticks {
    fn every(interval: Duration) -> Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).context("make a timer")?;
        let interval = Timespec { tv_sec: 0, tv_nsec: interval.subsec_nanos().into() };
        let times = Itimerspec { it_interval: interval, it_value: interval };
        let began = Instant::now();
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times).context("set a timer")?;
        // Its successor is unsafe, since a type's descriptor might change; that of an `OwnedFd` does not.
        #[expect(deprecated, reason = "sound for a descriptor that is owned and never replaced")]
        let timer = AsyncFd::new(timer)?;
        Ok(Self { timer, began })
    }

    /// Waits for the next tick; how many have passed.
    async fn next(&self) -> std::io::Result<u64> {
        loop {
            let mut ready = self.timer.readable().await?;
            let mut passed = [0; 8];
            match rustix::io::read(self.timer.get_ref(), &mut passed) {
                Ok(_) => return Ok(u64::from_ne_bytes(passed)),
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
