//! Integers that begin within an octet: RFC 7541, section 5.1.

use crate::http::hpack::malformed::Malformed;

/// Reads an integer that begins in the bits of `first` which `mask` has, and takes from `rest` what
/// it goes on with. Fails for more than 32 bits.
#[inline]
pub(super) fn read(first: u8, mask: u8, rest: &mut &[u8]) -> Result<usize, Malformed> {
    let value = first & mask;
    if value < mask { Ok(usize::from(value)) } else { read_on(mask, rest) }
}

fn read_on(mask: u8, rest: &mut &[u8]) -> Result<usize, Malformed> {
    let mut value = u64::from(mask);
    for shift in SHIFTS {
        let (octet, after) = rest.split_first().ok_or(Malformed::Truncated)?;
        *rest = after;
        value += u64::from(octet & LOW) << shift;
        if octet & MORE == 0 {
            let value = u32::try_from(value).map_err(|_error| Malformed::Integer)?;
            return usize::try_from(value).map_err(|_error| Malformed::Integer);
        }
    }
    Err(Malformed::Integer)
}

/// Writes an integer that begins in the bits of an octet which `mask` has, with `pattern` above them.
#[inline]
pub(super) fn write(value: usize, pattern: u8, mask: u8, block: &mut Vec<u8>) {
    match u8::try_from(value) {
        Ok(small) if small < mask => block.push(pattern | small),
        Ok(_) | Err(_) => write_on(value, pattern, mask, block),
    }
}

fn write_on(value: usize, pattern: u8, mask: u8, block: &mut Vec<u8>) {
    block.push(pattern | mask);
    let mut left = value.saturating_sub(usize::from(mask));
    while left > usize::from(LOW) {
        block.push(low(left) | MORE);
        left >>= 7;
    }
    block.push(low(left));
}

fn low(value: usize) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low & LOW
}

/// An octet after the first has seven bits of the value, and one that says whether more follow.
const LOW: u8 = 0x7f;
const MORE: u8 = 0x80;
/// Five octets after the first hold 32 bits. Zeros in more of them would be legal, and only serve to
/// waste time: a limit is asked for by RFC 7541, section 7.4.
const SHIFTS: [u32; 5] = [0, 7, 14, 21, 28];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(octets: &[u8], mask: u8) -> (Result<usize, Malformed>, usize) {
        let (first, mut rest) = octets.split_first().unwrap();
        let read = read(*first, mask, &mut rest);
        (read, rest.len())
    }

    #[test]
    fn integers_of_the_rfc() {
        // Appendix C.1.
        for (case, octets, mask, expected) in [
            ("10 in five bits", &[0b1110_1010_u8][..], 0x1f, 10),
            ("1337 in five bits", &[0x1f, 0x9a, 0x0a], 0x1f, 1337),
            ("42 in an octet", &[42], 0xff, 42),
            ("a full prefix", &[0x7f, 0], 0x7f, 127),
            ("all 32 bits", &[0x7f, 0x80, 0xff, 0xff, 0xff, 0x0f], 0x7f, 0xffff_ffff),
            ("zeros at the end", &[0x1f, 0x80, 0x80, 0x80, 0x80, 0], 0x1f, 31),
        ] {
            assert_eq!(check(octets, mask), (Ok(expected), 0), "case: {case}");
        }
    }

    #[test]
    fn what_is_no_integer_of_32_bits_is_refused() {
        for (case, octets, expected) in [
            ("no second octet", &[0x7f_u8][..], Malformed::Truncated),
            ("no end", &[0x7f, 0x80, 0x80], Malformed::Truncated),
            ("33 bits", &[0x7f, 0x81, 0xff, 0xff, 0xff, 0x0f], Malformed::Integer),
            ("35 bits", &[0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f], Malformed::Integer),
            ("six octets more", &[0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0], Malformed::Integer),
            ("no end in sight", &[0xff; 40], Malformed::Integer),
        ] {
            assert_eq!(check(octets, 0x7f).0, Err(expected), "case: {case}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value: u32, bits in 4_u32..=7, more: Vec<u8>) {
            let (value, mask) = (usize::try_from(value).unwrap(), (1 << bits) - 1);
            let mut block = Vec::new();
            write(value, !mask, mask, &mut block);
            prop_assert_eq!(block[0] & !mask, !mask);
            block.extend(&more);
            prop_assert_eq!(check(&block, mask), (Ok(value), more.len()));
        }
    }
}
