//! Build script of every package whose programs or tests load libtorch: where to find it at start.
fn main() {
    if let Ok(folder) = std::env::var("DEP_MODELS_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
