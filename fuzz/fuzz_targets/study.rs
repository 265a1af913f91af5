//! Study files, with what they extend.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
}

fuzz_target!(|bytes: &[u8]| FOLDER.with(|folder| pipeline::fuzz::study(folder.path(), bytes)));
