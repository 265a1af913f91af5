//! Finds the libtorch that is loaded and loads its CUDA half beside it.

use std::ffi::{CStr, CString, OsStr, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The folder of the libtorch in this process.
pub(crate) fn folder() -> Option<PathBuf> {
    let maps = std::fs::read("/proc/self/maps").ok()?;
    let line = maps.split(|&b| b == b'\n').find(|line| line.ends_with(b"/libtorch_cpu.so"))?;
    let path = Path::new(OsStr::from_bytes(&line[line.iter().position(|&b| b == b'/')?..]));
    path.parent().map(Path::to_path_buf)
}

/// Loads `libtorch_cuda.so` from beside `libtorch_cpu.so`, once; what it registers is then open to all of libtorch.
///
/// The programs do not link it, so that one binary serves machines with and without CUDA.
///
/// # Errors
/// What is missing, and the way out.
pub(crate) fn load_cuda() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(try_load).clone()
}

fn try_load() -> Result<(), String> {
    let folder = folder().ok_or("no libtorch_cpu.so is loaded, so libtorch_cuda.so cannot be found")?;
    let library = folder.join("libtorch_cuda.so");
    if !library.exists() {
        return Err(format!(
            "{} has no libtorch_cuda.so; build with a LIBTORCH that has CUDA",
            folder.display()
        ));
    }
    // The driver first: it is small, and without it the 0.8 GB of CUDA code are of no use.
    load(Path::new("libcuda.so.1"), libc::RTLD_LAZY | libc::RTLD_LOCAL)
        .map_err(|e| format!("no NVIDIA driver ({e}); install it"))?;
    load(&library, libc::RTLD_NOW | libc::RTLD_GLOBAL)
        .map(drop)
        .map_err(|e| format!("CUDA's libraries are incomplete ({e}); run ci/libtorch --cuda"))
}

/// Loads a library for the rest of the process.
pub(crate) fn load(path: &Path, flags: i32) -> Result<*mut c_void, String> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
    // SAFETY: `name` is a C string; the libraries named here have initialisers that may run at any time.
    let library = unsafe { libc::dlopen(name.as_ptr(), flags) };
    if library.is_null() { Err(error(&format!("loading {}", path.display()))) } else { Ok(library) }
}

/// Where a loaded library has a symbol; null for the library stands for all that are open to everybody.
pub(crate) fn symbol(library: *mut c_void, name: &str) -> Result<*mut c_void, String> {
    let name = CString::new(name).map_err(|e| e.to_string())?;
    // SAFETY: null or a handle that `load` gave, and a C string.
    let place = unsafe { libc::dlsym(library, name.as_ptr()) };
    if place.is_null() { Err(error(&format!("finding {name:?}"))) } else { Ok(place) }
}

/// What dl's last call on this thread has to say.
fn error(what: &str) -> String {
    // SAFETY: null or a text that stays until this thread's next call of dl's.
    unsafe {
        let error = libc::dlerror();
        if error.is_null() {
            return format!("{what} failed");
        }
        CStr::from_ptr(error).to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_is_found_and_a_missing_library_explained() {
        // A call that makes the linker keep libtorch.
        assert!(tch::get_num_threads() > 0);
        assert!(folder().unwrap().join("libtorch_cpu.so").exists());
        let e = load(Path::new("libsuch-as-there-is-not.so"), libc::RTLD_LAZY).unwrap_err();
        assert!(e.contains("libsuch-as-there-is-not.so"), "{e}");
    }
}
