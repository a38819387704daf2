//! The arguments of `meshctl trace`.

use std::str::FromStr;

use clap::Args;
use heddle_model::tap::typed::Resource;

use crate::output::Format;
use crate::tap::arguments::Which;

/// `meshctl trace`.
#[derive(Clone, Debug, Args)]
#[command(after_help = TRACE_AFTER_HELP)]
pub struct TraceArguments {
    /// Whose next request that matches, as for `meshctl tap`; or the id of a trace, 32 digits, that is about to begin
    #[arg(value_name = "RESOURCE|TRACE-ID")]
    pub subject: Option<TraceSubject>,
    /// Which.
    #[command(flatten)]
    pub which: Which,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

const TRACE_AFTER_HELP: &str = "\
Waits for a request, follows it through all proxies, and shows its way as a tree: who called whom, how it was secured
and routed, what came back, and how long the proxies took of it. Nothing is recorded before it begins.

A request that is in no trace is put into one, which is not sampled: nobody else records it. One that is in a trace
keeps it. Applications have to pass on the headers `traceparent` and `tracestate` (W3C Trace Context): beyond one that
does not, the way cannot be seen.

Examples:
  meshctl trace deploy/frontend --path /checkout
  meshctl trace svc/api --status 5xx
  meshctl trace 4bf92f3577b34da6a3ce929d0e0e4736

Which mesh is meant: see `meshctl status --help`. Who may: see `meshctl tap --help`.";

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceSubject {
    /// The next request of it that matches.
    Next(Resource),
    /// This trace.
    Trace([u8; 16]),
}

impl FromStr for TraceSubject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return text.parse().map(Self::Next);
        }
        let number = u128::from_str_radix(text, 16).ok().filter(|number| *number != 0);
        let is_id = text.len() == TRACE_ID_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
        match number.filter(|_| is_id) {
            Some(number) => Ok(Self::Trace(number.to_be_bytes())),
            None => {
                Err("want such as deploy/frontend, or the 32 hexadecimal digits of a trace's id"
                    .to_owned())
            }
        }
    }
}

/// Source: W3C Trace Context, section 3.2.2.3.
const TRACE_ID_DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_a_resource_or_a_trace() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parsed: TraceSubject = id.parse().unwrap();
        let TraceSubject::Trace(bytes) = parsed else { panic!("{parsed:?}") };
        assert_eq!(heddle_report::tap::hex(&bytes), id);
        assert!(matches!("deploy/api".parse(), Ok(TraceSubject::Next(_))));
        for text in ["api", "4bf9", &"0".repeat(32), "+bf92f3577b34da6a3ce929d0e0e4736", "node/a"] {
            assert!(text.parse::<TraceSubject>().is_err(), "{text}");
        }
    }
}
