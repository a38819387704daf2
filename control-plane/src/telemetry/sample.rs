//! What one series counted in one step, and its bytes in memory: most steps of most series fit into thirty. Pure.

use crate::telemetry::latency::Latency;

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Requests answered.
    pub requests: u64,
    /// Those of them that failed; see `point.rs`.
    pub failures: u64,
    /// How long they took.
    pub latency: Latency,
    /// What the proxy itself took of a share of its requests.
    pub own_time: Latency,
    /// Connections carried as bytes, counted when set up.
    pub connections: u64,
    /// Bytes carried that way from clients.
    pub to_server_bytes: u64,
    /// Bytes carried that way to clients.
    pub to_client_bytes: u64,
    /// How many connections were open at the end; `None`: nobody said.
    pub open_connections: Option<u64>,
}

impl Sample {
    /// Adds what was counted later in the same step.
    pub fn add(&mut self, later: &Self) {
        self.requests = self.requests.saturating_add(later.requests);
        self.failures = self.failures.saturating_add(later.failures);
        self.latency.merge(&later.latency);
        self.own_time.merge(&later.own_time);
        self.connections = self.connections.saturating_add(later.connections);
        self.to_server_bytes = self.to_server_bytes.saturating_add(later.to_server_bytes);
        self.to_client_bytes = self.to_client_bytes.saturating_add(later.to_client_bytes);
        self.open_connections = later.open_connections.or(self.open_connections);
    }

    /// Nothing happened, and nothing is told.
    pub fn is_empty(&self) -> bool {
        self.requests == 0
            && self.own_time.is_empty()
            && self.connections == 0
            && self.to_server_bytes == 0
            && self.to_client_bytes == 0
            && self.open_connections.is_none()
    }

    /// Appends its bytes.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        let tcp = self.connections != 0 || self.to_server_bytes != 0 || self.to_client_bytes != 0;
        let mut parts = 0;
        for (part, is_there) in [
            (REQUESTS, self.requests != 0),
            (TCP, tcp),
            (OPEN, self.open_connections.is_some()),
            (OWN_TIME, !self.own_time.is_empty()),
        ] {
            parts |= if is_there { part } else { 0 };
        }
        bytes.push(parts);
        if parts & REQUESTS != 0 {
            put(bytes, self.requests);
            put(bytes, self.failures);
            write_latency(&self.latency, bytes);
        }
        if parts & TCP != 0 {
            put(bytes, self.connections);
            put(bytes, self.to_server_bytes);
            put(bytes, self.to_client_bytes);
        }
        if let Some(open) = self.open_connections {
            put(bytes, open);
        }
        if parts & OWN_TIME != 0 {
            write_latency(&self.own_time, bytes);
        }
    }

    /// Reads what was written, and moves on behind it; `None` at the end.
    pub fn read(bytes: &mut &[u8]) -> Option<Self> {
        let (parts, rest) = bytes.split_first()?;
        *bytes = rest;
        let mut sample = Self::default();
        if parts & REQUESTS != 0 {
            sample.requests = take(bytes)?;
            sample.failures = take(bytes)?;
            sample.latency = read_latency(bytes)?;
        }
        if parts & TCP != 0 {
            sample.connections = take(bytes)?;
            sample.to_server_bytes = take(bytes)?;
            sample.to_client_bytes = take(bytes)?;
        }
        if parts & OPEN != 0 {
            sample.open_connections = Some(take(bytes)?);
        }
        if parts & OWN_TIME != 0 {
            sample.own_time = read_latency(bytes)?;
        }
        Some(sample)
    }
}

/// Neighbouring buckets are the rule: a gap before one is told only where there is one.
fn write_latency(latency: &Latency, bytes: &mut Vec<u8>) {
    bytes.push(latency.scale().to_le_bytes()[0]);
    put(bytes, latency.zero());
    put(bytes, u64::try_from(latency.buckets().len()).unwrap_or_default());
    let mut expected = 0;
    for (index, count) in latency.buckets() {
        let gap = zigzag(i64::from(*index) - expected);
        let has_gap = u64::from(gap != 0);
        // A count of more than 63 bits cannot come: it would take longer than the sun lives.
        put(bytes, (count.min(&(u64::MAX >> 1)) << 1) | has_gap);
        if gap != 0 {
            put(bytes, gap);
        }
        expected = i64::from(*index) + 1;
    }
}

fn read_latency(bytes: &mut &[u8]) -> Option<Latency> {
    let (scale, rest) = bytes.split_first()?;
    *bytes = rest;
    let zero = take(bytes)?;
    let length = take(bytes)?;
    let mut buckets = Vec::new();
    let mut expected = 0;
    for _ in 0..length {
        let token = take(bytes)?;
        let gap = if token & 1 == 0 { 0 } else { unzigzag(take(bytes)?) };
        let index = i32::try_from(expected + gap).ok()?;
        buckets.push((index, token >> 1));
        expected = i64::from(index) + 1;
    }
    Latency::new(i8::from_le_bytes([*scale]), zero, buckets)
}

/// Seven bits a byte, the lowest first; the highest bit of a byte says that more follow.
pub fn put(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// Reads what [`put`] wrote.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn zigzag(number: i64) -> u64 {
    number.unsigned_abs().wrapping_mul(2).wrapping_sub(u64::from(number < 0))
}

fn unzigzag(number: u64) -> i64 {
    let half = i64::try_from(number >> 1).unwrap_or_default();
    if number & 1 == 0 { half } else { -half - 1 }
}

const REQUESTS: u8 = 1;
const TCP: u8 = 2;
const OPEN: u8 = 4;
const OWN_TIME: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_usual_step_takes_few_bytes() {
        let buckets = (-60..-40).map(|index| (index, 5)).collect();
        let sample = Sample {
            requests: 100,
            failures: 1,
            latency: Latency::new(3, 0, buckets).unwrap(),
            ..Sample::default()
        };
        let mut bytes = Vec::new();
        sample.write(&mut bytes);
        assert!(bytes.len() <= 30, "{} bytes", bytes.len());
    }

    #[test]
    fn a_sample_that_breaks_off_is_none() {
        for bytes in [&[][..], &[REQUESTS], &[REQUESTS, 0x80], &[REQUESTS, 1, 0, 3, 0, 200, 1]] {
            assert_eq!(Sample::read(&mut &*bytes), None, "case: {bytes:?}");
        }
        assert_eq!(take(&mut &[0xff; 11][..]), None);
    }

    #[test]
    fn numbers_of_both_signs_keep_their_order_of_size() {
        for (number, expected) in [(0, 0), (-1, 1), (1, 2), (-2, 3), (2, 4)] {
            assert_eq!(zigzag(number), expected, "case: {number}");
            assert_eq!(unzigzag(expected), number, "case: {number}");
        }
    }

    prop_compose! {
        fn any_sample()(
            (scale, zero) in (1_i8..=3, 0_u64..1000),
            buckets in proptest::collection::btree_map(-2000_i32..2000, 1..u64::MAX >> 1, 0..40),
            (requests, failures) in (1_u64.., any::<u64>()),
            (connections, to_server_bytes, to_client_bytes) in any::<(u64, u64, u64)>(),
            open_connections in any::<Option<u64>>(),
            own in proptest::collection::btree_map(-2000_i32..2000, 1..u64::MAX >> 1, 0..40),
        ) -> Sample {
            let latency = Latency::new(scale, zero, buckets.into_iter().collect()).unwrap();
            // One without anything is not written, and read as the usual one.
            let own_time = match own.is_empty() {
                true => Latency::default(),
                false => Latency::new(scale, 0, own.into_iter().collect()).unwrap(),
            };
            Sample {
                requests, failures, latency, own_time, connections, to_server_bytes, to_client_bytes,
                open_connections,
            }
        }
    }

    proptest! {
        #[test]
        fn a_sample_is_read_as_it_was_written(sample in any_sample()) {
            let mut bytes = Vec::new();
            sample.write(&mut bytes);
            let mut rest = bytes.as_slice();
            let found = Sample::read(&mut rest);
            prop_assert_eq!(found, Some(sample));
            prop_assert!(rest.is_empty());
        }
    }
}
