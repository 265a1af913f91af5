//! Files of `torch.save`, in both formats.
#![no_main]

/// A one-byte operation makes a list of 24 bytes and a value of 16 in vectors that grow by doubling.
const FACTOR: usize = 256;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    evaluate_fuzz::bounded(data.len(), FACTOR, || drop(weights::pickle::parse(data)));
});
