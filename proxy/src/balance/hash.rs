//! Sends what has the same key to the same endpoint: a ring of points (Karger and others, "Consistent
//! Hashing and Random Trees"). An endpoint that goes takes only its own keys with it. Every proxy
//! makes the same ring of the same endpoints. Pure.

use heddle_model::identity::PodUid;
use heddle_model::policy::HashKey;
use http::HeaderMap;
use http::header::COOKIE;

/// The points of some endpoints, each named by a number that stays the same.
#[derive(Debug, Default)]
pub struct Ring {
    /// By place on the ring, with the index of whose point it is.
    points: Vec<(u64, usize)>,
}

impl Ring {
    /// Of endpoints by their numbers.
    pub fn new(numbers: &[u64]) -> Self {
        let each = points_of_each(numbers.len());
        let mut points: Vec<(u64, usize)> = numbers
            .iter()
            .enumerate()
            .flat_map(|(index, number)| {
                (0..each).map(move |point| (mix(number.wrapping_add(mix(point))), index))
            })
            .collect();
        points.sort_unstable();
        Self { points }
    }

    /// The first endpoint from the key's place on that may be chosen.
    pub fn pick(&self, key: u64, may_be: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.points.partition_point(|(place, _index)| *place < key);
        let (before, after) = self.points.split_at_checked(start)?;
        after.iter().chain(before).map(|(_place, index)| *index).find(|index| may_be(*index))
    }
}

/// Fewer for very many endpoints, which even out by themselves.
fn points_of_each(endpoints: usize) -> u64 {
    match endpoints {
        0..512 => 128,
        512..4096 => 16,
        _ => 2,
    }
}

/// What is hashed of a request; `None` if it has none of it. `own` is the calling workload's pod,
/// which stands for its address: it is the only one whose requests this proxy sends.
pub fn key(of: &HashKey, headers: &HeaderMap, own: &PodUid) -> Option<u64> {
    match of {
        HashKey::Header(name) => headers.get(name).map(|value| hash(value.as_bytes())),
        HashKey::Cookie(name) => cookie(headers, name).map(hash),
        HashKey::Source => Some(hash(own.as_str().as_bytes())),
    }
}

/// The value of the first cookie of this name. Source: RFC 6265, section 4.2.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let cookies = headers.get_all(COOKIE).into_iter();
    cookies.flat_map(|value| value.as_bytes().split(|byte| *byte == b';')).find_map(|pair| {
        let value = pair.trim_ascii_start().strip_prefix(name.as_bytes())?;
        value.strip_prefix(b"=").map(<[u8]>::trim_ascii_end)
    })
}

/// The same in every proxy and version: FNV-1a, mixed once more, since close inputs would otherwise be
/// close on the ring.
pub fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    mix(bytes.iter().fold(FNV_OFFSET, fold))
}

/// The finalizer of SplitMix64.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// draft-eastlake-fnv, the parameters for 64 bits.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
/// As above.
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn number(of: u32) -> u64 {
        hash(&of.to_be_bytes())
    }

    #[test]
    fn keys_are_read() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", HeaderValue::from_static("anna"));
        headers.append(COOKIE, HeaderValue::from_static("a=1; session=xyz ;b=2"));
        headers.append(COOKIE, HeaderValue::from_static("late=3"));
        let own: PodUid = "u1".parse().unwrap();
        for (case, of, expected) in [
            ("a header", HashKey::Header("X-User".to_owned()), Some(&b"anna"[..])),
            ("no such header", HashKey::Header("x-other".to_owned()), None),
            ("a cookie", HashKey::Cookie("session".to_owned()), Some(b"xyz")),
            ("the first cookie", HashKey::Cookie("a".to_owned()), Some(b"1")),
            ("a cookie of another line", HashKey::Cookie("late".to_owned()), Some(b"3")),
            ("a part of a name", HashKey::Cookie("sess".to_owned()), None),
            ("the source", HashKey::Source, Some(b"u1")),
        ] {
            assert_eq!(key(&of, &headers, &own), expected.map(hash), "case: {case}");
        }
    }

    #[test]
    fn keys_are_spread_evenly() {
        let numbers: Vec<u64> = (0..5).map(number).collect();
        let ring = Ring::new(&numbers);
        let mut counts = [0_u32; 5];
        for user in 0..10_000 {
            counts[ring.pick(hash(format!("user-{user}").as_bytes()), |_| true).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (1300..2800).contains(count)), "{counts:?}");
    }

    #[test]
    fn memory_is_bounded() {
        for endpoints in [1_usize, 511, 512, 4095, 4096, 30_000] {
            let numbers: Vec<u64> = (0..endpoints as u64).collect();
            assert!(Ring::new(&numbers).points.len() <= 1 << 16, "of {endpoints}");
        }
    }

    proptest! {
        #[test]
        fn an_endpoint_that_goes_moves_only_its_own_keys(
            endpoints in proptest::collection::btree_set(any::<u32>(), 2..20),
            gone: prop::sample::Index,
            keys in proptest::collection::vec(any::<u64>(), 1..50),
        ) {
            let before: Vec<u64> = endpoints.iter().map(|endpoint| number(*endpoint)).collect();
            let gone = gone.index(before.len());
            let mut after = before.clone();
            after.remove(gone);
            let (full, smaller) = (Ring::new(&before), Ring::new(&after));
            for key in keys {
                let chosen = full.pick(key, |_| true).unwrap();
                let now = after[smaller.pick(key, |_| true).unwrap()];
                if chosen != gone {
                    prop_assert_eq!(before[chosen], now);
                }
                // One that fails is as one that is gone.
                let next = full.pick(key, |index| index != gone).unwrap();
                prop_assert_eq!(before[next], now);
            }
        }
    }
}
