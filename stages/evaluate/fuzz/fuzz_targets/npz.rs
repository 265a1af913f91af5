//! NumPy's archives, through a file, as the reader wants one.
#![no_main]

#[path = "../../src/arrays.rs"]
#[allow(dead_code, reason = "a module of another package; its writer is not fuzzed")]
mod arrays;

use npz::Npz;
use std::sync::LazyLock;

/// Deflate gives at most 1032 bytes for one; a number of one byte is held as such, as f64, and as f64 in a tensor.
const FACTOR: usize = 1032 * 20;

static FILE: LazyLock<std::path::PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("fuzz-{}.npz", std::process::id())));

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if std::fs::write(&*FILE, data).is_err() {
        return;
    }
    evaluate_fuzz::bounded(data.len(), FACTOR, || {
        let Ok(mut archive) = Npz::open(&FILE) else { return };
        for name in ["arr_0", "mu", "sigma", "f8", "fortran_f8", "v3", "x"] {
            let _ = archive.numbers(name);
        }
        let _ = arrays::statistics(&mut archive, "_s");
        let _ = archive.note("provenance.json");
        if let Ok((mut array, [count, height, width])) = npz::pictures(&mut archive) {
            for _ in 0..count.min(4) {
                let _ = array.read(height * width * 3);
            }
            let _ = array.finish();
        }
        let _ = npz::labels(&mut archive, 4);
    });
});
