//! Build script of every package whose programs or tests load libtorch: where to find it at start. `torch-sys` says it to
//! packages that depend on it themselves.
fn main() {
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
