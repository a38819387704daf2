//! One series' last hour: a sample for each step in which something happened. Pure.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use crate::telemetry::sample::{self, Sample};

/// Ten seconds of the wall clock, counted since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step(pub u32);

impl Step {
    /// The one that this moment is in.
    pub fn at(now: SystemTime) -> Self {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u32::try_from(since.as_secs() / STEP.as_secs()).unwrap_or(u32::MAX))
    }

    /// When it began.
    pub fn began(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + STEP * self.0
    }

    /// The one that began at this second since 1970, or was under way then.
    pub fn of_second(second: u64) -> Self {
        Self(u32::try_from(second / STEP.as_secs()).unwrap_or(u32::MAX))
    }

    /// When it began, in seconds since 1970.
    pub fn began_seconds(self) -> u64 {
        u64::from(self.0) * STEP.as_secs()
    }

    /// The one this many earlier.
    #[must_use]
    pub fn before(self, steps: u32) -> Self {
        Self(self.0.saturating_sub(steps))
    }
}

/// The samples of one series.
#[derive(Debug, Default)]
pub struct Series {
    /// Of the newest step; more may come.
    open: Option<Box<(Step, Sample)>>,
    /// Of earlier ones; the oldest come first.
    chunks: VecDeque<Chunk>,
    /// How many connections are open, as the chunks tell: only changes are kept.
    told_open: u64,
}

/// Samples of steps that are near each other, each behind its distance from the one before.
#[derive(Debug)]
struct Chunk {
    first: Step,
    last: Step,
    bytes: Vec<u8>,
}

impl Series {
    /// Adds what was counted in a step. A clock that was set back changes the newest step, not earlier ones.
    pub fn add(&mut self, step: Step, sample: &Sample) {
        match &mut self.open {
            Some(open) if step <= open.0 => open.1.add(sample),
            Some(open) => {
                let done = std::mem::replace(open.as_mut(), (step, sample.clone()));
                self.close(done.0, &done.1);
            }
            None => self.open = Some(Box::new((step, sample.clone()))),
        }
    }

    fn close(&mut self, step: Step, sample: &Sample) {
        let changed = sample.open_connections.filter(|open| *open != self.told_open);
        self.told_open = changed.unwrap_or(self.told_open);
        let sample = &Sample { open_connections: changed, ..sample.clone() };
        if sample.is_empty() {
            return;
        }
        let is_near = |chunk: &&mut Chunk| step.0.saturating_sub(chunk.first.0) < CHUNK_STEPS;
        if let Some(chunk) = self.chunks.back_mut().filter(is_near) {
            // Doubled, most of it would lie idle in thousands of series.
            if chunk.bytes.capacity() - chunk.bytes.len() < SAMPLE_BYTES {
                chunk.bytes.reserve_exact(RESERVED_BYTES);
            }
            sample::put(&mut chunk.bytes, u64::from(step.0.saturating_sub(chunk.last.0)));
            sample.write(&mut chunk.bytes);
            chunk.last = step;
            return;
        }
        if let Some(full) = self.chunks.back_mut() {
            full.bytes.shrink_to_fit();
        }
        let mut bytes = Vec::new();
        sample::put(&mut bytes, 0);
        sample.write(&mut bytes);
        self.chunks.push_back(Chunk { first: step, last: step, bytes });
    }

    /// How many connections are open, as was said last.
    pub fn open_connections(&self) -> u64 {
        let open = self.open.as_ref().and_then(|open| open.1.open_connections);
        open.unwrap_or(self.told_open)
    }

    /// Looks at the samples of a step and of all after it.
    pub fn since(&self, from: Step, mut look: impl FnMut(Step, &Sample)) {
        for chunk in self.chunks.iter().filter(|chunk| chunk.last >= from) {
            let mut rest = chunk.bytes.as_slice();
            let mut step = chunk.first;
            while let Some(distance) = sample::take(&mut rest) {
                let Some(sample) = Sample::read(&mut rest) else { break };
                step = Step(step.0.saturating_add(u32::try_from(distance).unwrap_or(u32::MAX)));
                if step >= from {
                    look(step, &sample);
                }
            }
        }
        if let Some(open) = self.open.as_ref().filter(|open| open.0 >= from) {
            look(open.0, &open.1);
        }
    }

    /// Drops what is older; a part that begins earlier stays until it is older as a whole.
    pub fn forget_before(&mut self, step: Step) {
        while self.chunks.front().is_some_and(|chunk| chunk.last < step) {
            self.chunks.pop_front();
        }
        if self.chunks.is_empty() {
            self.chunks.shrink_to_fit();
        }
        if self.open.as_ref().is_some_and(|open| open.0 < step) {
            self.open = None;
        }
    }

    /// Nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.open.is_none() && self.chunks.is_empty()
    }

    /// What it takes, about.
    pub fn bytes(&self) -> usize {
        let open = self
            .open
            .as_ref()
            .map_or(0, |open| size_of::<(Step, Sample)>() + size_of_val(open.1.latency.buckets()));
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.bytes.capacity()).sum();
        size_of::<Self>() + open + chunks + self.chunks.capacity() * size_of::<Chunk>()
    }
}

/// What the memory tells apart in time.
pub const STEP: Duration = Duration::from_secs(10);
/// How many steps are remembered: one hour.
pub const STEPS: u32 = 360;
/// How many steps are in one piece of memory at the most: it is dropped as a whole.
pub const CHUNK_STEPS: u32 = 36;
/// What most samples fit into.
const SAMPLE_BYTES: usize = 48;
/// By how much a piece grows.
const RESERVED_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(requests: u64) -> Sample {
        Sample { requests, ..Sample::default() }
    }

    fn seen(series: &Series, from: u32) -> Vec<(u32, u64)> {
        let mut seen = Vec::new();
        series.since(Step(from), |step, sample| seen.push((step.0, sample.requests)));
        seen
    }

    #[test]
    fn a_series_tells_what_happened_in_which_step() {
        let mut series = Series::default();
        for (step, count) in [(5, 1), (5, 2), (6, 0), (7, 4), (90, 8), (89, 1), (91, 1)] {
            series.add(Step(step), &requests(count));
        }
        assert_eq!(seen(&series, 0), [(5, 3), (7, 4), (90, 9), (91, 1)]);
        assert_eq!(seen(&series, 7), [(7, 4), (90, 9), (91, 1)]);
        assert_eq!(seen(&series, 91), [(91, 1)]);
        assert_eq!(seen(&series, 92), []);
    }

    #[test]
    fn what_is_old_goes_and_takes_its_memory_along() {
        let mut series = Series::default();
        for step in 0..2000 {
            series.add(Step(step), &requests(1));
            series.forget_before(Step(step).before(STEPS));
        }
        let kept = u32::try_from(seen(&series, 0).len()).unwrap();
        assert!((STEPS..=STEPS + CHUNK_STEPS).contains(&kept), "{kept}");
        assert_eq!(seen(&series, 2000 - STEPS).len(), 360);
        let bytes = series.bytes();
        assert!(bytes < 5_000, "{bytes}");
        series.forget_before(Step(2000));
        assert!(series.is_empty() && series.bytes() < 100, "{}", series.bytes());
    }

    #[test]
    fn a_number_of_open_connections_is_the_last_that_was_said() {
        let mut series = Series::default();
        let open = |open| Sample { open_connections: Some(open), ..Sample::default() };
        for (step, count) in [(1, 4), (1, 3), (2, 5), (3, 5), (4, 0), (5, 1)] {
            series.add(Step(step), &open(count));
            assert_eq!(series.open_connections(), count);
        }
        series.add(Step(6), &requests(1));
        assert_eq!(series.open_connections(), 1);
        let mut told = Vec::new();
        series.since(Step(0), |step, sample| told.push((step.0, sample.open_connections)));
        assert_eq!(told, [(1, Some(3)), (2, Some(5)), (4, Some(0)), (5, Some(1)), (6, None)]);
    }

    #[test]
    fn a_step_is_ten_seconds() {
        let at = |seconds| Step::at(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!((at(0), at(9), at(10)), (Step(0), Step(0), Step(1)));
        assert_eq!(at(1234).began(), SystemTime::UNIX_EPOCH + Duration::from_secs(1230));
    }
}
