//! `cargo fuzz` hands inputs to a target.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::signature_header(input));
