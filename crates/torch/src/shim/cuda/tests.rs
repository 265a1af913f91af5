//! The object as far as a machine without a GPU can look at it.

use super::*;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Names of symbols in the dynamic table of an object, as `nm` of the compiler's binutils lists them.
fn symbols(object: &Path, which: &str) -> BTreeSet<String> {
    let output = Command::new("nm").args(["-D", which]).arg(object).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let name = |line: &str| {
        let mut words = line.rsplit(' ');
        let name = words.next()?.split('@').next()?.to_string();
        // Weak ones may stay undefined.
        (which != "--undefined-only" || words.next() == Some("U")).then_some(name)
    };
    text.lines().filter_map(name).collect()
}

/// Whether something that this process has loaded defines it.
fn here(name: &str) -> bool {
    // `RTLD_DEFAULT`.
    libraries::symbol(std::ptr::null_mut(), name).is_ok()
}

#[test]
fn every_symbol_is_in_libtorch_or_in_the_runtime_of_cuda() {
    if let Some(reason) = left_out() {
        // A libtorch without CUDA's headers beside it; `--doctor` tells.
        assert!(!reason.is_empty());
        return;
    }
    let folder = libraries::folder().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), OBJECT).unwrap();
    let runtime = folder.ancestors().nth(2).unwrap().join("nvidia/cu13/lib/libcudart.so.13");
    let mut defined = BTreeSet::new();
    for library in [folder.join("libtorch_cuda.so"), folder.join("libc10_cuda.so"), runtime] {
        defined.extend(symbols(&library, "--defined-only"));
    }
    let missing: Vec<String> = symbols(file.path(), "--undefined-only")
        .into_iter()
        .filter(|name| !defined.contains(name) && !here(name))
        .collect();
    assert!(missing.is_empty(), "nothing defines {missing:?}");
}

#[test]
fn a_library_is_loaded_from_memory() {
    let library = libraries::folder().unwrap().join("libgomp.so.1");
    let (path, _file) = in_memory(&std::fs::read(library).unwrap()).unwrap();
    let library = libraries::load(&path, libc::RTLD_NOW | libc::RTLD_LOCAL).unwrap();
    assert!(libraries::symbol(library, "omp_get_num_threads").is_ok());
    assert!(libraries::symbol(library, "such_as_there_is_not").is_err());
}

#[test]
fn without_a_gpu_there_is_a_reason() {
    if !crate::device::doctor().contains("cuda:0") {
        let e = SideStream::new(Device::Cuda(0)).err().unwrap().to_string();
        assert!(!e.is_empty() && !e.contains('\n'), "{e}");
    }
    assert!(SideStream::new(Device::Cpu).is_err());
}
