//! Hands the folder of libtorch on to the packages that link it, whose `rpath.rs` reads it.
fn main() {
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:libtorch_lib={folder}");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
