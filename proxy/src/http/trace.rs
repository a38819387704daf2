//! Where a request is in a trace: what its headers say, what becomes of that here, and what is written
//! instead. Pure. What is recorded of it is in telemetry/spans.rs.

pub mod b3;
pub mod carry;
pub mod w3c;

use std::num::{NonZeroU64, NonZeroU128};

/// The part of a trace that a request is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Of the trace.
    pub trace: NonZeroU128,
    /// Of the span that sent the request.
    pub span: NonZeroU64,
    /// Whether the trace is recorded; `None`: whoever started it leaves that to others.
    pub is_sampled: Option<bool>,
}

/// What headers say of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// Nothing.
    Nothing,
    /// Something that cannot be read: the trace begins anew.
    Broken,
    /// This.
    Here(T),
}

/// A number in lower-case hexadecimal digits, and in all of them.
fn hexadecimal(text: &[u8]) -> Option<u128> {
    text.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(value))
    })
}

fn trace_id(text: &[u8]) -> Option<NonZeroU128> {
    NonZeroU128::new(hexadecimal(text)?)
}

fn span_id(text: &[u8]) -> Option<NonZeroU64> {
    NonZeroU64::new(u64::try_from(hexadecimal(text)?).ok()?)
}
