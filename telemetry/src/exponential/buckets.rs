//! Counts of neighbouring ranges: the first one's index, and no more counts than there is something in.

/// Counts by index. Neither the first nor the last is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Buckets {
    offset: i32,
    counts: Vec<u64>,
}

impl Buckets {
    /// `counts` from the index `offset` on.
    pub(super) fn new(offset: i32, counts: &[u64]) -> Self {
        let mut made = Self { offset, counts: counts.to_vec() };
        made.trim();
        made
    }

    pub(super) fn offset(&self) -> i32 {
        self.offset
    }

    pub(super) fn counts(&self) -> &[u64] {
        &self.counts
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i32, u64)> {
        (self.offset..).zip(self.counts.iter().copied())
    }

    /// The first and the last index.
    pub(super) fn bounds(&self) -> Option<(i32, i32)> {
        let length = i32::try_from(self.counts.len()).ok().filter(|length| *length > 0)?;
        Some((self.offset, self.offset.saturating_add(length - 1)))
    }

    /// The same, were there one more.
    pub(super) fn bounds_with(&self, index: i32) -> Option<(i32, i32)> {
        let (first, last) = self.bounds().unwrap_or((index, index));
        Some((first.min(index), last.max(index)))
    }

    /// Adds to what is at an index. Whoever calls it has seen that the width stays bounded.
    pub(super) fn add(&mut self, index: i32, count: u64) {
        if count == 0 {
            return;
        }
        let Some((first, last)) = self.bounds() else {
            *self = Self { offset: index, counts: vec![count] };
            return;
        };
        if index < first {
            let missing = usize::try_from(first.abs_diff(index)).unwrap_or(0);
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.offset = index;
        } else if index > last {
            let missing = usize::try_from(index.abs_diff(last)).unwrap_or(0);
            self.counts.extend(std::iter::repeat_n(0, missing));
        }
        let place = usize::try_from(index.abs_diff(self.offset)).unwrap_or(usize::MAX);
        if let Some(held) = self.counts.get_mut(place) {
            *held = held.saturating_add(count);
        }
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        for (index, count) in other.iter() {
            self.add(index, count);
        }
    }

    /// What is left if `other` is taken away; `None` if there is less than that.
    pub(super) fn without(&self, other: &Self) -> Option<Self> {
        let mut left = self.clone();
        for (index, count) in other.iter().filter(|(_, count)| *count > 0) {
            let place = usize::try_from(index.checked_sub(self.offset)?).ok()?;
            let held = left.counts.get_mut(place)?;
            *held = held.checked_sub(count)?;
        }
        left.trim();
        Some(left)
    }

    /// Makes one range of two, so many times.
    pub(super) fn merge_neighbours(&mut self, times: u32) {
        if times == 0 || self.counts.is_empty() {
            return;
        }
        let times = times.min(i32::BITS - 1);
        let mut merged = Self::default();
        for (index, count) in self.iter() {
            merged.add(index >> times, count);
        }
        *self = merged;
    }

    fn trim(&mut self) {
        let leading = self.counts.iter().take_while(|count| **count == 0).count();
        self.counts.drain(..leading);
        while self.counts.last() == Some(&0) {
            self.counts.pop();
        }
        self.offset = match self.counts.is_empty() {
            true => 0,
            false => self.offset.saturating_add_unsigned(u32::try_from(leading).unwrap_or(0)),
        };
    }
}
