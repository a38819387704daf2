//! What must hold for any bytes that come from outside, one function for each parser. The fuzzer calls
//! them with bytes of its own (`fuzz/targets/`); the tests with those that were saved (`fuzz/corpus/`).
//!
//! Each panics when something does not hold: that is how a fuzzer is told.
#![expect(clippy::panic, reason = "a check that fails has no other way to tell the fuzzer")]

mod channels;
mod detect;
mod export;
mod gate;
mod hello;
mod hpack;
mod route;
mod trace;
mod warm;
mod wire;

/// A check of one parser.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Of the fuzz target, and of the folder of its corpus.
    pub name: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
}

/// Every check.
pub const CHECKS: [Check; 10] = [
    Check { name: "channels", run: channels::check },
    Check { name: "detect", run: detect::check },
    Check { name: "export", run: export::check },
    Check { name: "gate", run: gate::check },
    Check { name: "hello", run: hello::check },
    Check { name: "hpack", run: hpack::check },
    Check { name: "route", run: route::check },
    Check { name: "trace", run: trace::check },
    Check { name: "warm", run: warm::check },
    Check { name: "wire", run: wire::check },
];

/// Runs the check of this name.
pub fn run(name: &str, data: &[u8]) {
    match CHECKS.iter().find(|check| check.name == name) {
        Some(check) => (check.run)(data),
        None => panic!("{name} is no check"),
    }
}
