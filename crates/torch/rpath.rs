//! Build script of every package whose programs or tests load libtorch: where to find it at start. `torch-sys` says it to
//! packages that depend on it themselves.

use std::path::{Path, PathBuf};

fn main() {
    let Some(folder) = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    // First as seen from the program, so that a clone that is moved or copied takes its programs along: `target/release`,
    // and for tests the folder `deps` in it.
    if let Some(inside) = inside(&folder) {
        for up in ["../..", "../../.."] {
            println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/{up}/{}", inside.display());
        }
    }
    // A release has no place for the path of the machine that it was built on.
    println!("cargo:rerun-if-env-changed=RPATH_RELATIVE_ONLY");
    if std::env::var_os("RPATH_RELATIVE_ONLY").is_none() {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.display());
    }
}

/// The folder from the root of the workspace, where it lies in it.
fn inside(folder: &Path) -> Option<PathBuf> {
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    let root = package.ancestors().find(|above| above.join("Cargo.lock").is_file())?;
    folder.strip_prefix(root).ok().map(Path::to_path_buf)
}
