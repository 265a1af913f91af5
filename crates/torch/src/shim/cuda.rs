//! What calls CUDA itself: a side stream, graphs of its work, and NCCL. The code is a shared object that the program carries
//! inside and loads after `libtorch_cuda.so`, where its symbols are.

use super::check;
use super::panics::caught;
use super::parallel::Transport;
use crate::libraries;
use anyhow::{Context, Result, anyhow, bail};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::PathBuf;
use std::sync::OnceLock;
use tch::Device;

/// The object; empty where the program was built without.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cuda_calls.so"));

/// Why CUDA graphs and NCCL are not in this program, if they are not.
pub(crate) fn left_out() -> Option<&'static str> {
    OBJECT.is_empty().then_some(env!("CUDA_LEFT_OUT"))
}

/// A `SideStream` of the object.
#[repr(C)]
struct CSide {
    _opaque: [u8; 0],
}

/// An `at::cuda::CUDAGraph`.
#[repr(C)]
struct CGraph {
    _opaque: [u8; 0],
}

/// A `Passes` of the object, for the shim.
#[repr(C)]
pub(super) struct CPasses {
    _opaque: [u8; 0],
}

/// The functions of the object, by their names in it.
macro_rules! functions {
    ($($name:ident: $type:ty,)*) => {
        struct Functions { $($name: $type,)* }

        impl Functions {
            /// # Safety
            /// `library` is the object.
            unsafe fn find(library: *mut c_void) -> Result<Self> {
                // SAFETY: the types are those of the object's sources.
                unsafe {
                    Ok(Self { $($name: std::mem::transmute::<*mut c_void, $type>(
                        libraries::symbol(library, stringify!($name)).map_err(|e| anyhow!("{e}"))?
                    ),)* })
                }
            }
        }
    };
}

functions! {
    cuda_side_new: unsafe extern "C" fn(c_int, *mut *mut CSide) -> *mut c_char,
    cuda_side_free: unsafe extern "C" fn(*mut CSide),
    cuda_side_enter: unsafe extern "C" fn(*mut CSide) -> *mut c_char,
    cuda_side_leave: unsafe extern "C" fn(*mut CSide) -> *mut c_char,
    cuda_graph_begin: unsafe extern "C" fn(*mut CGraph, *mut *mut CGraph) -> *mut c_char,
    cuda_graph_end: unsafe extern "C" fn(*mut CGraph) -> *mut c_char,
    cuda_graph_abandon: unsafe extern "C" fn(*mut CGraph),
    cuda_graph_replay: unsafe extern "C" fn(*mut CGraph) -> *mut c_char,
    cuda_graph_free: unsafe extern "C" fn(*mut CGraph),
    cuda_gpu_place: unsafe extern "C" fn(c_int, *mut c_char, c_int) -> *mut c_char,
    cuda_passes: unsafe extern "C" fn() -> *const CPasses,
    cuda_passes_prepare: unsafe extern "C" fn(c_int, i64, *const c_char) -> *mut c_char,
    cuda_nccl_identity: unsafe extern "C" fn(*mut u8, usize) -> *mut c_char,
    cuda_nccl_join: unsafe extern "C" fn(*const u8, usize, c_int, c_int, c_int, *mut MaybeUninit<Transport>) -> *mut c_char,
}

/// Loaded once, on first use; `libtorch_cuda.so` must be there.
fn functions() -> Result<&'static Functions> {
    static LOADED: OnceLock<Result<Functions, String>> = OnceLock::new();
    LOADED.get_or_init(|| load().map_err(|e| format!("{e:#}"))).as_ref().map_err(|e| anyhow!("{e}"))
}

fn load() -> Result<Functions> {
    if let Some(reason) = left_out() {
        bail!("this program was built without what calls CUDA: {reason}")
    }
    libraries::load_cuda().map_err(|e| anyhow!("{e}"))?;
    let (path, _file) = in_memory(OBJECT)?;
    let library = libraries::load(&path, libc::RTLD_NOW | libc::RTLD_LOCAL)
        .map_err(|e| anyhow!("{e}"))
        .context("loading what calls CUDA")?;
    // SAFETY: it is the object.
    unsafe { Functions::find(library) }
}

/// A file without a name in any folder, and the path by which it is opened while the handle lives.
fn in_memory(bytes: &[u8]) -> Result<(PathBuf, File)> {
    let name = CString::new("cuda_calls")?;
    // SAFETY: a C string that lives through the call; a descriptor that is not negative is new and ours.
    let mut file = unsafe {
        let descriptor = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC);
        if descriptor < 0 {
            return Err(std::io::Error::last_os_error()).context("making a file in memory");
        }
        File::from_raw_fd(descriptor)
    };
    file.write_all(bytes).context("writing a file in memory")?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())), file))
}

/// A stream of a GPU beside the default one, on which work can be captured.
pub struct SideStream(*mut CSide);

impl SideStream {
    /// One of the device's.
    ///
    /// # Errors
    /// When CUDA is not loaded, or the device is no GPU.
    pub fn new(device: Device) -> Result<Self> {
        let Device::Cuda(index) = device else { bail!("{device:?} has no streams") };
        let mut side = std::ptr::null_mut();
        // SAFETY: `side` is written where the call succeeds, and ours afterwards.
        unsafe { check((functions()?.cuda_side_new)(c_int::try_from(index)?, &raw mut side)) }?;
        Ok(Self(side))
    }

    /// Does this thread's work on the stream, after all that the current one was given; what the current one is given later
    /// comes after it.
    ///
    /// # Errors
    /// Those of `work`, or when CUDA fails.
    pub fn run<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let functions = functions()?;
        // SAFETY: a living side.
        unsafe { check((functions.cuda_side_enter)(self.0)) }?;
        let result = work();
        // SAFETY: the same.
        unsafe { check((functions.cuda_side_leave)(self.0)) }?;
        result
    }
}

impl Drop for SideStream {
    fn drop(&mut self) {
        if let Ok(functions) = functions() {
            // SAFETY: made by `cuda_side_new`, and freed once.
            unsafe { (functions.cuda_side_free)(self.0) }
        }
    }
}

/// Work of a GPU over memory that stays in its place, to be done again and again at one call each.
pub struct Graph(*mut CGraph);

impl Graph {
    /// Records what `work` gives to the current stream, inside [`SideStream::run`]; nothing of it is done. The tensors that it
    /// makes are in the graph's memory, or in that of `beside`, a graph that is always replayed before this one.
    ///
    /// # Errors
    /// Those of `work`, or when something in it cannot be recorded; nothing has changed then.
    pub fn capture<T>(beside: Option<&Graph>, work: impl FnOnce() -> Result<T>) -> Result<(Self, T)> {
        let functions = functions()?;
        let pool = beside.map_or(std::ptr::null_mut(), |graph| graph.0);
        let mut graph = std::ptr::null_mut();
        // SAFETY: null or a living graph; `graph` is written where the call succeeds, and ours afterwards.
        unsafe { check((functions.cuda_graph_begin)(pool, &raw mut graph)) }?;
        let done = match caught(work) {
            // SAFETY: a living graph.
            Ok(result) => unsafe { check((functions.cuda_graph_end)(graph)) }.map(|()| result),
            Err(e) => Err(e),
        };
        match done {
            Ok(result) => Ok((Self(graph), result)),
            Err(e) => {
                // SAFETY: a living graph, not used again.
                unsafe { (functions.cuda_graph_abandon)(graph) };
                Err(e.context("recording a CUDA graph"))
            }
        }
    }

    /// Does the work, on the current stream.
    ///
    /// # Errors
    /// When CUDA fails.
    pub fn replay(&self) -> Result<()> {
        // SAFETY: a living graph.
        unsafe { check((functions()?.cuda_graph_replay)(self.0)) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if let Ok(functions) = functions() {
            // SAFETY: made by `cuda_graph_begin`, and freed once.
            unsafe { (functions.cuda_graph_free)(self.0) }
        }
    }
}

/// The passes over a block's tokens, made ready on a GPU for tokens of this width. Not while a graph is recorded.
pub(super) fn passes(index: usize, width: i64) -> Result<*const CPasses> {
    let folder = libraries::folder().context("no libtorch is loaded")?;
    // libtorch's own way to NVRTC.
    let nvrtc = CString::new(folder.join("libcaffe2_nvrtc.so").into_os_string().into_encoded_bytes())?;
    let functions = functions()?;
    // SAFETY: a C string that lives through the call.
    unsafe {
        check((functions.cuda_passes_prepare)(c_int::try_from(index)?, width, nvrtc.as_ptr()))?;
        Ok((functions.cuda_passes)())
    }
}

/// What the processes of a group join NCCL with: one makes it, all have it.
pub(crate) struct Identity(pub [u8; 128]);

impl Default for Identity {
    /// For one that is yet to come.
    fn default() -> Self {
        Self([0; 128])
    }
}

impl Identity {
    pub(crate) fn new() -> Result<Self> {
        let mut bytes = [0; 128];
        // SAFETY: an array of that length.
        unsafe { check((functions()?.cuda_nccl_identity)(bytes.as_mut_ptr(), bytes.len())) }?;
        Ok(Self(bytes))
    }
}

/// This process's GPU among those of a group.
pub(crate) struct Ring(pub Transport);

impl Ring {
    /// Where a GPU sits on its machine's bus.
    pub(crate) fn place(index: usize) -> Result<String> {
        let mut text = [0; 64];
        let size = c_int::try_from(text.len())?;
        // SAFETY: an array of that length, which ends in 0 in any case.
        unsafe {
            check((functions()?.cuda_gpu_place)(c_int::try_from(index)?, text.as_mut_ptr(), size - 1))?;
            Ok(CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned())
        }
    }

    /// Waits for the others.
    pub(crate) fn join(identity: &Identity, rank: usize, size: usize, index: usize) -> Result<Self> {
        let mut transport = MaybeUninit::uninit();
        let [rank, size, index] = [rank, size, index].map(c_int::try_from);
        let bytes = &identity.0;
        let join = functions()?.cuda_nccl_join;
        // SAFETY: an array of that length; the transport is written where the call succeeds.
        unsafe {
            check(join(bytes.as_ptr(), bytes.len(), rank?, size?, index?, &raw mut transport))?;
            Ok(Self(transport.assume_init()))
        }
    }
}

#[cfg(test)]
mod tests;
