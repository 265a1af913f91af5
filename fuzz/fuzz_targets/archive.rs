//! Archives of results, from anybody.

#![no_main]

use std::sync::LazyLock;

static FOLDER: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a folder for temporary files"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::bounded(bytes.len(), fuzz::STORE, || pipeline::fuzz::archive(FOLDER.path(), bytes));
});
