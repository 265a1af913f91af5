//! Builds the C++ shim against libtorch, and hands libtorch's folder on to the packages that link it, whose `rpath.rs`
//! reads it.

use std::path::{Path, PathBuf};

const SOURCES: [&str; 7] = [
    "shim/event.cpp",
    "shim/fused/attention.cpp",
    "shim/fused/block.cpp",
    "shim/optimiser.cpp",
    "shim/parallel.cpp",
    "shim/precision.cpp",
    "shim/system.cpp",
];

/// The instruction sets that the kernels are compiled for, by their table's name.
const KERNELS: [(&str, &[&str]); 3] = [
    ("base", &[]),
    ("avx2", &["-mavx2", "-mfma"]),
    ("avx512", &["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]),
];

fn main() {
    println!("cargo:rerun-if-changed=shim");
    for name in ["LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI", "CXX"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    // Without a libtorch (`doc-only`) nothing links, so there is nothing to build.
    let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") else { return };
    println!("cargo:libtorch_lib={folder}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    kernels();
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

/// The kernels between a block's matrix products, once for each instruction set.
fn kernels() {
    let x86 = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    for (name, flags) in KERNELS.iter().take(if x86 { KERNELS.len() } else { 1 }) {
        let table = format!("kernels_{name}");
        let mut build = cc::Build::new();
        build
            .cpp(true)
            .std("c++17")
            .opt_level(3)
            .define("KERNELS", table.as_str())
            .file("shim/fused/kernels.cpp");
        // Nobody asks for the errors and traps of arithmetic; a product and a sum may be rounded once.
        for flag in ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"].iter().chain(*flags) {
            build.flag(flag);
        }
        build.compile(&table);
    }
}

/// The folder of libtorch's headers: where `LIBTORCH_INCLUDE` says, else beside its libraries.
fn headers(libraries: &Path) -> PathBuf {
    match std::env::var("LIBTORCH_INCLUDE") {
        Ok(base) => Path::new(&base).join("include"),
        Err(_) => libraries.with_file_name("include"),
    }
}
