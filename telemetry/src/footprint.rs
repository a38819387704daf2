//! How much memory an export of metrics takes once it is read, told from its bytes alone. Pure. A point that says nothing
//! is two bytes long and a hundred times that in memory, so that a limit on the length of messages bounds nothing.
//!
//! What is known here of OTLP is which fields are messages, and which are lists; see `opentelemetry/proto/metrics/v1`.

use opentelemetry_proto::tonic::common::v1::{AnyValue, EntityRef, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, SummaryDataPoint, summary_data_point::ValueAtQuantile,
};

/// Why the bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It breaks off, or a number in it is none.
    #[error("it breaks off, or is no protobuf")]
    Malformed,
    /// Such as OTLP does not have.
    #[error("it has a group, which no message of OTLP has")]
    Group,
    /// Its parts are in one another, more often than anybody reads.
    #[error("its parts are more than {DEPTH_LIMIT} deep in one another")]
    Deep,
}

/// What `ExportMetricsServiceRequest` takes when these bytes are read as one: the elements of its lists, with the room that
/// lists have to spare, and its texts. No less, and just that of what an encoder writes. While it is read, the longest list is there once more, for a moment.
///
/// Reads every byte once, and keeps nothing.
pub fn footprint_bytes(message: &[u8]) -> Result<usize, Unreadable> {
    let mut total = 0;
    walk(Part::Request, message, 0, &mut total)?;
    Ok(total)
}

/// The kinds of messages that an export is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Request,
    ResourceMetrics,
    Resource,
    EntityRef,
    ScopeMetrics,
    Scope,
    Metric,
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
    NumberPoint,
    HistogramPoint,
    ExponentialPoint,
    Buckets,
    SummaryPoint,
    Quantile,
    Exemplar,
    KeyValue,
    AnyValue,
    Array,
    KeyValueList,
}

/// What a field takes beside its message.
#[derive(Clone, Copy, Debug)]
enum Field {
    /// A message within the message.
    One(Part),
    /// A list of messages, each of so many bytes.
    Many(Part, usize),
    /// A text, or bytes.
    Text,
    /// A list of texts.
    Texts,
    /// A list of numbers of eight bytes.
    Fixed,
    /// A list of numbers of eight bytes, written in as many as each needs.
    Varints,
}

impl Part {
    /// Fields that take memory beside their message, by number.
    fn fields(self) -> &'static [(u64, Field)] {
        use Field::{Fixed, Many, One, Text, Texts, Varints};
        const ATTRIBUTES: Field = Many(Part::KeyValue, size_of::<KeyValue>());
        const EXEMPLARS: Field = Many(Part::Exemplar, size_of::<Exemplar>());
        const NUMBERS: Field = Many(Part::NumberPoint, size_of::<NumberDataPoint>());
        match self {
            Self::Request => {
                const { &[(1, Many(Part::ResourceMetrics, size_of::<ResourceMetrics>()))] }
            }
            Self::ResourceMetrics => {
                const SCOPES: Field = Many(Part::ScopeMetrics, size_of::<ScopeMetrics>());
                &[(1, One(Part::Resource)), (2, SCOPES), (3, Text)]
            }
            Self::Resource => {
                const ENTITIES: Field = Many(Part::EntityRef, size_of::<EntityRef>());
                &[(1, ATTRIBUTES), (3, ENTITIES)]
            }
            Self::EntityRef => &[(1, Text), (2, Text), (3, Texts), (4, Texts)],
            Self::ScopeMetrics => {
                const METRICS: Field = Many(Part::Metric, size_of::<Metric>());
                &[(1, One(Part::Scope)), (2, METRICS), (3, Text)]
            }
            Self::Scope => &[(1, Text), (2, Text), (3, ATTRIBUTES)],
            Self::Metric => &[
                (1, Text),
                (2, Text),
                (3, Text),
                (5, One(Part::Gauge)),
                (7, One(Part::Sum)),
                (9, One(Part::Histogram)),
                (10, One(Part::ExponentialHistogram)),
                (11, One(Part::Summary)),
                (12, ATTRIBUTES),
            ],
            Self::Gauge | Self::Sum => &[(1, NUMBERS)],
            Self::Histogram => {
                const { &[(1, Many(Part::HistogramPoint, size_of::<HistogramDataPoint>()))] }
            }
            Self::ExponentialHistogram => {
                const POINT: usize = size_of::<ExponentialHistogramDataPoint>();
                &[(1, Many(Part::ExponentialPoint, POINT))]
            }
            Self::Summary => {
                const { &[(1, Many(Part::SummaryPoint, size_of::<SummaryDataPoint>()))] }
            }
            Self::NumberPoint => &[(5, EXEMPLARS), (7, ATTRIBUTES)],
            Self::HistogramPoint => &[(6, Fixed), (7, Fixed), (8, EXEMPLARS), (9, ATTRIBUTES)],
            Self::ExponentialPoint => &[
                (1, ATTRIBUTES),
                (8, One(Part::Buckets)),
                (9, One(Part::Buckets)),
                (11, EXEMPLARS),
            ],
            Self::Buckets => &[(2, Varints)],
            Self::SummaryPoint => {
                const QUANTILES: Field = Many(Part::Quantile, size_of::<ValueAtQuantile>());
                &[(6, QUANTILES), (7, ATTRIBUTES)]
            }
            Self::Quantile => &[],
            Self::Exemplar => &[(4, Text), (5, Text), (7, ATTRIBUTES)],
            Self::KeyValue => &[(1, Text), (2, One(Part::AnyValue))],
            Self::AnyValue => {
                &[(1, Text), (5, One(Part::Array)), (6, One(Part::KeyValueList)), (7, Text)]
            }
            Self::Array => const { &[(1, Many(Part::AnyValue, size_of::<AnyValue>()))] },
            Self::KeyValueList => &[(1, ATTRIBUTES)],
        }
    }
}

fn walk(part: Part, message: &[u8], depth: usize, total: &mut usize) -> Result<(), Unreadable> {
    if depth > DEPTH_LIMIT {
        return Err(Unreadable::Deep);
    }
    let mut tally = Tally::default();
    let mut rest = message;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let (number, value) = (key >> 3, Value::take(key & 7, &mut rest)?);
        let field = part.fields().iter().find(|(known, _)| *known == number);
        let Some((_, field)) = field else { continue };
        match (field, value) {
            (Field::One(of), Value::Bytes(bytes)) => {
                let before = *total;
                walk(*of, bytes, depth + 1, total)?;
                let took = total.saturating_sub(before);
                let earlier = tally.push(number, took);
                // What is said twice is read as one: its lists go on, and have room for twice as many at most.
                if earlier > 0 {
                    add(total, earlier.saturating_add(took));
                }
            }
            (Field::Many(of, size), Value::Bytes(bytes)) => {
                add(total, tally.grow(number, 1) * size);
                walk(*of, bytes, depth + 1, total)?;
            }
            (Field::Text, Value::Bytes(bytes)) => add(total, text(bytes)),
            (Field::Texts, Value::Bytes(bytes)) => {
                add(total, tally.grow(number, 1) * size_of::<String>() + text(bytes));
            }
            (Field::Fixed, Value::Bytes(bytes)) => {
                add(total, tally.grow(number, bytes.len() / NUMBER) * NUMBER);
            }
            (Field::Varints, Value::Bytes(bytes)) => {
                // Of a number's bytes all but the last say that there is more.
                let count = bytes.iter().filter(|byte| **byte & 0x80 == 0).count();
                add(total, tally.grow(number, count) * NUMBER);
            }
            (Field::Fixed | Field::Varints, Value::Number) => {
                add(total, tally.grow(number, 1) * NUMBER);
            }
            // Of the wrong kind: nobody reads it.
            (Field::One(_) | Field::Many(..) | Field::Text | Field::Texts, Value::Number) => {}
        }
    }
    Ok(())
}

fn add(total: &mut usize, bytes: usize) {
    *total = total.saturating_add(bytes);
}

fn text(bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { bytes.len().max(TEXT_MINIMUM_BYTES) }
}

/// What one message has of its fields so far, by their numbers: how many elements, or bytes. None has more than eight that
/// are counted here.
#[derive(Default)]
struct Tally([(u64, usize); 8]);

impl Tally {
    /// How much there was before.
    fn push(&mut self, number: u64, more: usize) -> usize {
        let mut fields = self.0.iter_mut();
        let known = fields.find(|(owner, count)| *owner == number || *count == 0);
        let Some((owner, count)) = known else { return more };
        *owner = number;
        let before = *count;
        *count = before.saturating_add(more);
        before
    }

    /// By how many elements a list has more room once it has so many more: a list that is full doubles.
    fn grow(&mut self, number: u64, more: usize) -> usize {
        let before = self.push(number, more);
        room(before.saturating_add(more)) - room(before)
    }
}

/// For how many elements a list of this length has room.
fn room(length: usize) -> usize {
    match length {
        0 => 0,
        _ => length.checked_next_power_of_two().unwrap_or(usize::MAX).max(LIST_MINIMUM),
    }
}

/// A field's value, as far as it matters.
enum Value<'a> {
    Number,
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn take(wire_type: u64, rest: &mut &'a [u8]) -> Result<Self, Unreadable> {
        let number = |bytes: Result<&'a [u8], Unreadable>| bytes.map(|_| Self::Number);
        match wire_type {
            0 => varint(rest).map(|_| Self::Number),
            1 => number(take(rest, 8)),
            2 => {
                let length = varint(rest)?;
                let length = usize::try_from(length).map_err(|_| Unreadable::Malformed)?;
                take(rest, length).map(Self::Bytes)
            }
            3 | 4 => Err(Unreadable::Group),
            5 => number(take(rest, 4)),
            _ => Err(Unreadable::Malformed),
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Unreadable> {
    let (taken, left) = rest.split_at_checked(length).ok_or(Unreadable::Malformed)?;
    *rest = left;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, Unreadable> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, left) = rest.split_first().ok_or(Unreadable::Malformed)?;
        *rest = left;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Unreadable::Malformed)
}

/// As prost has it, which reads the messages: nothing that is deeper is read at all.
const DEPTH_LIMIT: usize = 100;
/// The first element of a `Vec` makes room for four, if it has from 2 to 1024 bytes,
const LIST_MINIMUM: usize = 4;
/// and for eight, if it has one.
const TEXT_MINIMUM_BYTES: usize = 8;
/// Bytes of a `u64` or `f64`.
const NUMBER: usize = 8;

#[cfg(test)]
mod tests;
