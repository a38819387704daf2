//! Feeds the fuzzer's bytes to the check of the same name.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| heddle_fuzz::run("channels", data));
