//! Builds the double against libtorch's headers, and lays it beside the libtorch in use, where the programs look for CUDA.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::{env, fs};

/// The device, which goes by the name of libtorch's CUDA half.
const DEVICE: [&str; 5] = ["device", "graph", "kernels", "nccl", "operators"];
/// What is not part of it.
const BESIDE: [&str; 2] = ["driver", "nvrtc"];

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=double");
    let given = |name: &str| env::var_os(format!("DEP_TORCH_{name}")).map(PathBuf::from);
    let places = (given("LIBTORCH_LIB"), given("LIBTORCH_INCLUDE"), given("CUDA_INCLUDE"));
    let (Some(libraries), Some(include), Some(cuda)) = places else {
        // Nothing to build against (`doc-only`, or a libtorch without CUDA's headers).
        println!("cargo:rustc-env=CUDA_DOUBLE=");
        return Ok(());
    };
    let root = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let lib = root.join("torch/lib");
    fs::create_dir_all(&lib)?;
    lay_out(&libraries, &lib)?;
    // libtorch finds what it needs of CUDA's two folders above itself.
    if let Some(wheels) =
        libraries.ancestors().nth(2).map(|above| above.join("nvidia")).filter(|w| w.exists())
    {
        let _ = fs::remove_file(root.join("nvidia"));
        std::os::unix::fs::symlink(wheels, root.join("nvidia"))?;
    }

    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    let mut compiler = cc::Build::new();
    compiler.cpp(true).std("c++17").opt_level(1).warnings(false);
    compiler.flag(format!("-D_GLIBCXX_USE_CXX11_ABI={abi}"));
    for headers in [&include, &include.join("torch/csrc/api/include"), &cuda] {
        compiler.flag("-isystem").flag(headers.display().to_string());
    }
    compiler.include("../../crates/torch/shim/cuda/nccl");
    let compiler = compiler.get_compiler();
    let object = |name: &str| root.join(format!("{name}.o"));
    let compile = |name: &str| {
        compiler.to_command().args(["-c", &format!("double/{name}.cpp"), "-o"]).arg(object(name)).spawn()
    };
    for child in DEVICE.iter().chain(&BESIDE).map(|name| compile(name)).collect::<Result<Vec<Child>>>()? {
        done(child, "compiling")?;
    }
    let link = |name: &str, objects: &[PathBuf]| {
        done(
            compiler.to_command().arg("-shared").args(objects).arg("-o").arg(lib.join(name)).spawn()?,
            "linking",
        )
    };
    link("libtorch_cuda.so", &DEVICE.map(object))?;
    link("libcuda.so.1", &[object("driver")])?;
    link("libcaffe2_nvrtc.so", &[object("nvrtc")])?;
    // What it compiles kernels with.
    fs::copy("double/kernel.h", lib.join("kernel.h"))?;
    println!("cargo:rustc-env=CUDA_DOUBLE={}", lib.display());
    Ok(())
}

/// The same libraries under another folder, all but CUDA's.
fn lay_out(libraries: &Path, lib: &Path) -> Result<()> {
    for entry in fs::read_dir(libraries)? {
        let (from, to) = {
            let entry = entry?;
            (entry.path(), lib.join(entry.file_name()))
        };
        let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.contains(".so") || name.contains("cuda") || name.contains("nvrtc") {
            continue;
        }
        println!("cargo:rerun-if-changed={}", from.display());
        let _ = fs::remove_file(&to);
        // A link to the file itself: through a symbolic one the programs would find their own folder.
        fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop))?;
    }
    Ok(())
}

fn done(mut child: Child, what: &str) -> Result<()> {
    if child.wait()?.success() { Ok(()) } else { Err(Error::other(format!("{what} failed"))) }
}
