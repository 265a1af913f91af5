//! Commands with their places, quantities and digests.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pipeline::fuzz::interpolation(bytes));
