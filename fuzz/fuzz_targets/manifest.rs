//! Lists of what a folder holds, from anybody, and the folders that are made of them.

#![no_main]

use std::sync::LazyLock;
use store::manifest::{Manifest, digest_of};

static FOLDER: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a folder for temporary files"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let read = || Manifest::parse(bytes, &digest_of(bytes));
    // What is wrong with it is for the other readers to say.
    let _ = fuzz::bounded(bytes.len(), fuzz::READER, read);
    fuzz::bounded(bytes.len(), fuzz::STORE, || pipeline::fuzz::manifest(FOLDER.path(), bytes));
});
