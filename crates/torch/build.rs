//! Builds the C++ shim against libtorch, and hands libtorch's folder on to the packages that link it, whose `rpath.rs`
//! reads it, and to `cuda-double`, with the headers. What calls CUDA becomes a shared object of its own, which a program
//! carries inside and loads with CUDA.

use std::path::{Path, PathBuf};

const SOURCES: [&str; 10] = [
    "shim/event.cpp",
    "shim/fused/attention.cpp",
    "shim/fused/block.cpp",
    "shim/fused/mix.cpp",
    "shim/fused/product.cpp",
    "shim/optimiser.cpp",
    "shim/parallel.cpp",
    "shim/precision.cpp",
    "shim/side_by_side.cpp",
    "shim/system.cpp",
];

/// The instruction sets that the kernels are compiled for, by their table's name.
const KERNELS: [(&str, &[&str]); 3] =
    [("kernels_base", &[]), ("kernels_avx2", &["-mavx2", "-mfma"]), ("kernels_avx512", &AVX512)];

const AVX512: [&str; 5] = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"];

/// Those of processors that multiply bf16 by themselves; their intrinsics raise warnings in compilers' own headers.
const BF16: [&str; 3] = ["-mavx512bf16", "-Wno-uninitialized", "-Wno-maybe-uninitialized"];

/// Defined where they are.
const BF16_KERNELS: &str = "BF16_KERNELS";

const CUDA_SOURCES: [&str; 3] = ["shim/cuda/graph.cpp", "shim/cuda/nccl.cpp", "shim/cuda/passes.cpp"];

/// What the object carries as text, for the machine's own compiler, and the names it has there.
const CUDA_TEXTS: [(&str, &str); 2] = [("PASS_H", "shim/fused/pass.h"), ("PASSES_CU", "shim/cuda/passes.cu")];

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=shim");
    for name in ["LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI", "CXX", "CUDA_HOME"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    // Without a libtorch (`doc-only`) nothing links, so there is nothing to build.
    let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        return cuda(Err("there was no libtorch".into()));
    };
    println!("cargo:libtorch_lib={folder}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    let bf16 = kernels();
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    let include = headers(Path::new(&folder));
    println!("cargo:libtorch_include={}", include.display());
    let mut build = cc::Build::new();
    build
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
        .include(".")
        .include("shim");
    cuda(cuda_object(&build, Path::new(&folder)))?;
    if bf16 {
        build.define(BF16_KERNELS, None);
    }
    build.file(together("shim.cpp", &SOURCES)?).compile("torch_shim");
    Ok(())
}

/// One source of all these: of the time that each takes by itself, most is libtorch's headers.
fn together(name: &str, sources: &[&str]) -> std::io::Result<PathBuf> {
    let lines = sources.iter().map(|source| format!("#include \"{source}\"\n"));
    let path = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join(name);
    std::fs::write(&path, lines.collect::<String>())?;
    Ok(path)
}

/// The kernels between a block's matrix products, once for each instruction set; whether those of bf16 are among them, which an old
/// compiler cannot make.
fn kernels() -> bool {
    let x86 = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    for (table, flags) in KERNELS.into_iter().take(if x86 { KERNELS.len() } else { 1 }) {
        kernel(&["shim/fused/kernels.cpp"], flags).define("KERNELS", table).compile(table);
    }
    let bf16 = x86 && cc::Build::new().cpp(true).is_flag_supported(BF16[0]).unwrap_or(false);
    if bf16 {
        let files = ["attention", "gelu", "products"].map(|name| format!("shim/fused/bf16/{name}.cpp"));
        kernel(&files, &[&AVX512[..], &BF16].concat()).define(BF16_KERNELS, None).compile("kernels_bf16");
    }
    bf16
}

/// What compiles files of arithmetic.
fn kernel<P: AsRef<Path>>(files: &[P], flags: &[&str]) -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(3).files(files);
    // Nobody asks for the errors and traps of arithmetic; a product and a sum may be rounded once.
    for flag in ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"].iter().chain(flags) {
        build.flag(flag);
    }
    build
}

/// The folder of libtorch's headers: where `LIBTORCH_INCLUDE` says, else beside its libraries.
fn headers(libraries: &Path) -> PathBuf {
    match std::env::var("LIBTORCH_INCLUDE") {
        Ok(base) => Path::new(&base).join("include"),
        Err(_) => libraries.with_file_name("include"),
    }
}

/// Puts the object, or nothing and the reason, where `src/shim/cuda.rs` takes it from.
fn cuda(object: Result<PathBuf, String>) -> std::io::Result<()> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let reason = match object {
        Ok(_) => String::new(),
        Err(reason) => std::fs::write(out.join(OBJECT), "").map(|()| reason)?,
    };
    println!("cargo:rustc-env=CUDA_LEFT_OUT={reason}");
    Ok(())
}

const OBJECT: &str = "cuda_calls.so";

/// The shared object that calls CUDA. It links nothing: its symbols are found when it is loaded after `libtorch_cuda.so`.
fn cuda_object(build: &cc::Build, libraries: &Path) -> Result<PathBuf, String> {
    let headers = cuda_headers(libraries).ok_or("no headers of CUDA were found; run ci/libtorch")?;
    println!("cargo:rerun-if-changed={}", headers.display());
    println!("cargo:cuda_include={}", headers.display());
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let object = folder.join(OBJECT);
    cuda_texts(&folder.join("passes_text.h")).map_err(|e| e.to_string())?;
    let mut compile = build.get_compiler().to_command();
    compile.args(["-shared", "-fPIC", "-Ishim/cuda/nccl", "-I"]).arg(&folder).arg("-isystem").arg(&headers);
    compile.arg(together("cuda_calls.cpp", &CUDA_SOURCES).map_err(|e| e.to_string())?).arg("-o").arg(&object);
    let output = compile.output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(object);
    }
    // A libtorch of one's own may have other headers; the CPU's half is of use without them.
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().find(|line| line.contains("error")).unwrap_or("the compiler failed");
    println!("cargo:warning=built without CUDA graphs and NCCL: {said}");
    Err(format!("it did not compile: {said}"))
}

/// A header with the texts.
fn cuda_texts(path: &Path) -> std::io::Result<()> {
    let mut header = String::new();
    for (name, file) in CUDA_TEXTS {
        let text = std::fs::read_to_string(file)?;
        header += &format!("static const char {name}[] = R\"text({text})text\";\n");
    }
    std::fs::write(path, header)
}

/// The folder of CUDA's headers: beside libtorch as the wheels lie, else in `CUDA_HOME`.
fn cuda_headers(libraries: &Path) -> Option<PathBuf> {
    let wheels = libraries.ancestors().nth(2).map(|root| root.join("nvidia/cu13/include"));
    let home = std::env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("include"));
    let whole = |folder: &PathBuf| {
        ["cuda_runtime_api.h", "crt/host_config.h"].iter().all(|header| folder.join(header).exists())
    };
    wheels.into_iter().chain(home).find(whole)
}
