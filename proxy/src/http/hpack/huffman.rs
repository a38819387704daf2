//! The Huffman code of strings: RFC 7541, section 5.2 and appendix B. Only reads it.

use crate::http::hpack::malformed::Malformed;

/// Appends what `input` stands for to `output`.
pub(super) fn decode(input: &[u8], output: &mut Vec<u8>) -> Result<(), Malformed> {
    let begin = output.len();
    output.resize(begin.saturating_add(longest(input.len())), 0);
    let mut sink = Sink { room: output.get_mut(begin..).unwrap_or_default(), written: 0 };
    let decoded = read(Bits { rest: input, window: 0, valid: 0 }, &mut sink);
    let written = sink.written;
    output.truncate(begin.saturating_add(written));
    decoded
}

/// The most octets that so many stand for: no code is shorter than five bits. With one more, because
/// two are written at a time.
fn longest(length: usize) -> usize {
    (length.saturating_mul(8) / usize::from(SHORTEST)).saturating_add(1)
}

fn read(mut bits: Bits<'_>, sink: &mut Sink<'_>) -> Result<(), Malformed> {
    loop {
        bits.refill();
        if bits.valid < LONGEST {
            break;
        }
        while bits.valid >= LONGEST {
            let found = bits.next();
            if found.count == 0 {
                return Err(Malformed::EndOfString);
            }
            sink.write(found);
            bits.skip(found);
        }
    }
    // Nothing is left to fill the window with. If what follows were the ones of padding, a code that
    // ends before them would be found all the same, and that of the string's end would not end.
    bits.window |= u64::MAX >> bits.valid;
    loop {
        let mut found = bits.next();
        if found.length > bits.valid {
            found = found.first();
        }
        if found.count == 0 || found.length > bits.valid {
            break;
        }
        sink.write(found);
        bits.skip(found);
    }
    let has_ones_only = bits.window >> (u64::BITS - u8::BITS) == u64::from(u8::MAX);
    if bits.valid < 8 && has_ones_only { Ok(()) } else { Err(Malformed::Padding) }
}

/// What is still to be read.
struct Bits<'a> {
    rest: &'a [u8],
    /// Its highest bits come next.
    window: u64,
    /// How many bits of the window count. Those below are the ones that follow in `rest`, or zeros.
    valid: u8,
}

impl Bits<'_> {
    /// Has 56 valid bits or more, or all that are left.
    #[inline]
    fn refill(&mut self) {
        if let Some(octets) = self.rest.first_chunk() {
            self.window |= u64::from_be_bytes(*octets) >> self.valid;
            let used = (63 - self.valid) / 8;
            self.rest = self.rest.get(usize::from(used)..).unwrap_or_default();
            self.valid += used * 8;
            return;
        }
        while self.valid < 56
            && let Some((octet, rest)) = self.rest.split_first()
        {
            self.window |= u64::from(*octet) << (56 - self.valid);
            self.rest = rest;
            self.valid += 8;
        }
    }

    /// What the window begins with. Of no symbols for the code of a string's end.
    #[inline]
    fn next(&self) -> Found {
        let index = (self.window >> (u64::BITS - TABLE_BITS)) as usize;
        match SHORT.get(index) {
            Some(found) if found.count > 0 => *found,
            Some(_) | None => long(self.window),
        }
    }

    #[inline]
    fn skip(&mut self, found: Found) {
        self.window <<= found.length;
        self.valid = self.valid.saturating_sub(found.length);
    }
}

/// Where symbols are written.
struct Sink<'a> {
    room: &'a mut [u8],
    written: usize,
}

impl Sink<'_> {
    #[inline]
    fn write(&mut self, found: Found) {
        // What is beyond the count is written over, or cut off.
        if let Some(pair) = self.room.get_mut(self.written..).and_then(<[u8]>::first_chunk_mut) {
            *pair = found.symbols;
        }
        self.written += usize::from(found.count);
    }
}

/// Up to two symbols, and how many bits they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    symbols: [u8; 2],
    count: u8,
    length: u8,
}

impl Found {
    const fn one(symbol: u8, length: u8) -> Self {
        Self { symbols: [symbol, 0], count: 1, length }
    }

    /// Without the second symbol.
    fn first(self) -> Self {
        let [symbol, _] = self.symbols;
        if self.count < 2 {
            return self;
        }
        Self::one(symbol, LENGTHS.get(usize::from(symbol)).copied().unwrap_or(u8::MAX))
    }
}

/// What a window begins with that begins with no code of [`TABLE_BITS`] or fewer.
#[cold]
fn long(window: u64) -> Found {
    let bits = window >> (u64::BITS - LONGEST as u32);
    for group in &GROUPS {
        if bits < group.end {
            let number = (bits - group.begin) >> (LONGEST - group.length);
            let position = group.position + usize::try_from(number).unwrap_or(usize::MAX);
            let symbol = SORTED.get(position).and_then(|symbol| u8::try_from(*symbol).ok());
            return symbol.map_or(END_OF_STRING, |symbol| Found::one(symbol, group.length));
        }
    }
    END_OF_STRING
}

const END_OF_STRING: Found = Found { symbols: [0; 2], count: 0, length: LONGEST };

/// In bits.
const SHORTEST: u8 = 5;
const LONGEST: u8 = 30;

/// So many bits are looked up at once: two symbols of the commonest, for 16 KiB.
const TABLE_BITS: u32 = 12;

/// How long the code of each symbol is: of each octet, and of the string's end. Nothing else has to be
/// known, because the code is canonical: shorter codes come before longer ones, and those of one
/// length are in the order of their symbols.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The symbols in the order of their codes.
static SORTED: [u16; 257] = sorted();

#[expect(clippy::indexing_slicing, reason = "done by the compiler")]
const fn sorted() -> [u16; 257] {
    let mut sorted = [0; 257];
    let (mut position, mut length) = (0, SHORTEST);
    while length <= LONGEST {
        let mut symbol: u16 = 0;
        while symbol <= 256 {
            if LENGTHS[symbol as usize] == length {
                sorted[position] = symbol;
                position += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    sorted
}

/// The codes of one length.
#[derive(Clone, Copy)]
struct Group {
    length: u8,
    /// The first code, with zeros up to [`LONGEST`] bits.
    begin: u64,
    /// Where the codes of the next length begin.
    end: u64,
    /// Where the symbols begin in [`SORTED`].
    position: usize,
}

/// By their lengths, from [`SHORTEST`] to [`LONGEST`].
const GROUP_COUNT: usize = (LONGEST - SHORTEST) as usize + 1;
static GROUPS: [Group; GROUP_COUNT] = groups();

#[expect(clippy::indexing_slicing, reason = "done by the compiler")]
const fn groups() -> [Group; GROUP_COUNT] {
    let mut groups = [Group { length: 0, begin: 0, end: 0, position: 0 }; GROUP_COUNT];
    let (mut length, mut begin, mut position) = (SHORTEST, 0, 0);
    while length <= LONGEST {
        let (mut symbol, mut count) = (0, 0);
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] == length {
                count += 1;
            }
            symbol += 1;
        }
        let end = begin + ((count as u64) << (LONGEST - length));
        groups[(length - SHORTEST) as usize] = Group { length, begin, end, position };
        (begin, position) = (end, position + count);
        length += 1;
    }
    assert!(begin == 1 << LONGEST, "a code is missing, or one too many");
    groups
}

/// What each sequence of [`TABLE_BITS`] begins with. Of no symbols where a longer code begins.
static SHORT: [Found; 1 << TABLE_BITS] = short();

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "done by the compiler; what has a code of twelve bits or fewer is an octet"
)]
const fn short() -> [Found; 1 << TABLE_BITS] {
    let (sorted, mut singles) = (sorted(), [END_OF_STRING; 1 << TABLE_BITS]);
    let (mut index, mut position) = (0, 0);
    while index < singles.len() {
        let length = LENGTHS[sorted[position] as usize];
        if length as u32 > TABLE_BITS {
            break;
        }
        let end = index + (1 << (TABLE_BITS - length as u32));
        while index < end {
            singles[index] = Found::one(sorted[position] as u8, length);
            index += 1;
        }
        position += 1;
    }
    let mut found = singles;
    index = 0;
    while index < singles.len() {
        let first = singles[index];
        let second = singles[(index << first.length) % singles.len()];
        let length = first.length + second.length;
        if first.count == 1 && second.count == 1 && length as u32 <= TABLE_BITS {
            found[index] =
                Found { symbols: [first.symbols[0], second.symbols[0]], count: 2, length };
        }
        index += 1;
    }
    found
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The codes of appendix B, made of their lengths.
    fn codes() -> [(u32, u8); 257] {
        let mut codes = [(0, 0); 257];
        let (mut next, mut before) = (0, 5);
        for symbol in SORTED {
            let length = LENGTHS[usize::from(symbol)];
            next <<= length - before;
            codes[usize::from(symbol)] = (next, length);
            (next, before) = (next + 1, length);
        }
        codes
    }

    /// What `text` is coded as, without its padding: a one and a zero a bit.
    fn bits(text: &[u8]) -> String {
        let codes = codes();
        let code = |octet: &u8| {
            let (code, length) = codes[usize::from(*octet)];
            format!("{code:0width$b}", width = usize::from(length))
        };
        text.iter().map(code).collect()
    }

    fn packed(bits: &str) -> Vec<u8> {
        let chunks = bits.as_bytes().chunks(8);
        chunks
            .map(|chunk| u8::from_str_radix(std::str::from_utf8(chunk).unwrap(), 2).unwrap())
            .collect()
    }

    pub(in crate::http::hpack) fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = bits(text);
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        packed(&bits)
    }

    fn decoded(input: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut output = b"before".to_vec();
        let decoded = decode(input, &mut output);
        assert!(output.starts_with(b"before"));
        decoded.map(|()| output.split_off(6))
    }

    #[test]
    fn codes_of_the_rfc() {
        let codes = codes();
        for (symbol, code, length) in [
            (0, 0x1ff8, 13),
            (10, 0x3fff_fffc, 30),
            (usize::from(b' '), 0x14, 6),
            (usize::from(b'0'), 0, 5),
            (usize::from(b'A'), 0x21, 6),
            (usize::from(b'X'), 0xfc, 8),
            (usize::from(b'\\'), 0x7_fff0, 19),
            (usize::from(b'z'), 0x7b, 7),
            (127, 0xfff_fffc, 28),
            (128, 0xf_ffe6, 20),
            (199, 0x1ff_ffec, 25),
            (249, 0xfff_fffe, 28),
            (255, 0x3ff_ffee, 26),
            (256, 0x3fff_ffff, 30),
        ] {
            assert_eq!(codes[symbol], (code, length), "symbol {symbol}");
        }
    }

    #[test]
    fn no_code_begins_another() {
        let mut codes: Vec<_> =
            codes().map(|(code, length)| (code << (30 - length), length)).into();
        codes.sort_unstable();
        let ends = codes.iter().map(|(code, length)| code + (1 << (30 - length)));
        let next = codes.iter().skip(1).map(|(code, _)| *code).chain([1 << 30]);
        assert!(ends.eq(next), "each code begins where the one before it ends");
    }

    #[test]
    fn every_octet_is_read_at_every_offset() {
        for octet in 0..=u8::MAX {
            for (before, after) in
                (0..20).flat_map(|before| [(before, 0), (before, 1), (before, 9)])
            {
                let text = [vec![b'0'; before], vec![octet], vec![b'e'; after]].concat();
                assert_eq!(decoded(&encode(&text)), Ok(text), "{octet} after {before}");
            }
        }
    }

    #[test]
    fn what_is_no_string_is_refused() {
        let padded = |text: &[u8], padding: &str| decoded(&packed(&(bits(text) + padding)));
        for (case, text, padding, expected) in [
            ("ones", "0", "111", Ok(b"0".to_vec())),
            ("zeros", "0", "000", Err(Malformed::Padding)),
            ("a zero first", "0", "011", Err(Malformed::Padding)),
            ("a zero last", "0", "110", Err(Malformed::Padding)),
            ("none", "0000000a", "", Ok(b"0000000a".to_vec())),
            ("seven ones", "00000", "1111111", Ok(b"00000".to_vec())),
            ("seven ones and a zero", "00000", "1111110", Err(Malformed::Padding)),
            ("eight ones", "0000000a", "11111111", Err(Malformed::Padding)),
            ("twelve ones", "0000", "111111111111", Err(Malformed::Padding)),
            ("half a code", "0", "11111111110", Err(Malformed::Padding)),
            ("nothing but ones", "", "11111111", Err(Malformed::Padding)),
            ("17 ones", "000", &"1".repeat(17), Err(Malformed::Padding)),
            ("the end within", "0000", &("1".repeat(30) + "000000"), Err(Malformed::EndOfString)),
            (
                "the end, long before",
                "00",
                &("1".repeat(30) + &"0".repeat(80)),
                Err(Malformed::EndOfString),
            ),
        ] {
            assert_eq!(padded(text.as_bytes(), padding), expected, "case: {case}");
        }
    }

    proptest! {
        #[test]
        fn what_is_coded_is_read(text: Vec<u8>) {
            prop_assert_eq!(decoded(&encode(&text)), Ok(text));
        }

        #[test]
        fn common_text_is_read(text in "[ -~]{0,200}") {
            prop_assert_eq!(decoded(&encode(text.as_bytes())), Ok(text.into_bytes()));
        }

        /// Each string has one code: whatever is read is coded as it was.
        #[test]
        fn what_is_read_is_coded_the_same(input in prop::collection::vec(any::<u8>(), 0..12)) {
            if let Ok(text) = decoded(&input) {
                prop_assert_eq!(encode(&text), input);
            }
        }
    }
}
