//! Between wire and model. What comes off the wire is checked whole: a message that cannot be read is
//! refused with the field at fault, never half used.

use std::time::Duration;

use prost::Message;
use sha2::{Digest, Sha256};

mod destination;
mod endpoint;
mod filter;
mod key;
mod policy;
mod route;
mod tap;
mod workload;

/// A message that cannot be what it claims to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidMessage {
    /// Where, in the words of the `.proto` file.
    pub field: String,
    /// A sentence for people.
    pub reason: String,
}

impl InvalidMessage {
    fn new(field: &str, reason: impl ToString) -> Self {
        Self { field: field.to_owned(), reason: reason.to_string() }
    }

    fn missing(field: &str) -> Self {
        Self::new(field, "is missing")
    }

    fn within(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), reason: self.reason }
    }
}

/// Folds a message's content into a number that differs when the content does.
///
/// The first eight bytes of SHA-256 over the encoding; messages hold no maps, so that equal content
/// has one encoding. Never zero, which means "nothing known".
pub fn digest(message: &impl Message) -> u64 {
    let hash = Sha256::digest(message.encode_to_vec());
    let folded = hash.iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    folded.max(1)
}

fn required<T>(value: Option<T>, field: &str) -> Result<T, InvalidMessage> {
    value.ok_or_else(|| InvalidMessage::missing(field))
}

/// Converts a list, naming the index at fault.
fn all<W, M>(values: Vec<W>, field: &str) -> Result<Vec<M>, InvalidMessage>
where
    M: TryFrom<W, Error = InvalidMessage>,
{
    let convert = |(index, value)| {
        M::try_from(value)
            .map_err(|error: InvalidMessage| error.within(&format!("{field}[{index}]")))
    };
    values.into_iter().enumerate().map(convert).collect()
}

/// Converts what may be absent.
fn optional<W, M>(value: Option<W>, field: &str) -> Result<Option<M>, InvalidMessage>
where
    M: TryFrom<W, Error = InvalidMessage>,
{
    value.map(M::try_from).transpose().map_err(|error| error.within(field))
}

/// Converts what must be there.
fn part<W, M>(value: Option<W>, field: &str) -> Result<M, InvalidMessage>
where
    M: TryFrom<W, Error = InvalidMessage>,
{
    M::try_from(required(value, field)?).map_err(|error| error.within(field))
}

/// Rounds up to a whole millisecond: what is above zero stays so.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Zero means "none".
fn optional_milliseconds(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |duration| milliseconds(duration).max(1))
}

/// Zero means "none".
fn duration(milliseconds: u64) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

fn positive(milliseconds: u64, field: &str) -> Result<Duration, InvalidMessage> {
    duration(milliseconds).ok_or_else(|| InvalidMessage::new(field, "want more than zero"))
}

fn above_zero(number: u32, field: &str) -> Result<u32, InvalidMessage> {
    let above_zero = Some(number).filter(|number| *number > 0);
    above_zero.ok_or_else(|| InvalidMessage::new(field, "want more than zero"))
}

fn percent(number: u32, field: &str) -> Result<u8, InvalidMessage> {
    let percent = u8::try_from(number).ok().filter(|percent| *percent <= 100);
    percent.ok_or_else(|| InvalidMessage::new(field, format!("{number} is not 0 to 100 percent")))
}

#[cfg(test)]
mod tests;
