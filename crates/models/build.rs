//! Builds the C++ shim against libtorch, and hands libtorch's folder on to the packages that link it, whose `rpath.rs`
//! reads it.

use std::path::{Path, PathBuf};

const SOURCES: [&str; 5] =
    ["shim/event.cpp", "shim/optimiser.cpp", "shim/parallel.cpp", "shim/precision.cpp", "shim/system.cpp"];

fn main() {
    println!("cargo:rerun-if-changed=shim");
    for name in ["LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI", "CXX"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    // Without a libtorch (`doc-only`) nothing links, so there is nothing to build.
    let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") else { return };
    println!("cargo:libtorch_lib={folder}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    let include = headers(Path::new(&folder));
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(1)
        .warnings(false)
        .flag(format!("-D_GLIBCXX_USE_CXX11_ABI={abi}"))
        // System headers, so that their warnings are not ours.
        .flag("-isystem")
        .flag(include.display().to_string())
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include").display().to_string())
        .include("shim")
        .files(SOURCES)
        .compile("models_shim");
}

/// The folder of libtorch's headers: where `LIBTORCH_INCLUDE` says, else beside its libraries.
fn headers(libraries: &Path) -> PathBuf {
    match std::env::var("LIBTORCH_INCLUDE") {
        Ok(base) => Path::new(&base).join("include"),
        Err(_) => libraries.with_file_name("include"),
    }
}
