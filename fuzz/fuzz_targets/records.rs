//! What the store keeps: manifests, the stat cache, results, run records.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pipeline::fuzz::records(bytes));
