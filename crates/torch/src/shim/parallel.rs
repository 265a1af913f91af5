//! A group of processes and the sum of gradients over it, on libtorch's c10d with its Gloo.

use super::{check, pointers};
use anyhow::{Result, ensure};
use std::ffi::{CString, c_char, c_int, c_void};
use std::rc::Rc;
use std::time::Duration;
use tch::Tensor;
use torch_sys::C_tensor;

/// A `Group` of the shim.
#[repr(C)]
struct CGroup {
    _opaque: [u8; 0],
}

/// A `Reducer` of the shim.
#[repr(C)]
struct CReducer {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn shim_group_join(
        host: *const c_char,
        port: c_int,
        host_store: bool,
        interface: *const c_char,
        rank: c_int,
        size: c_int,
        timeout_ms: i64,
        patience_ms: i64,
        group: *mut *mut CGroup,
    ) -> *mut c_char;
    fn shim_group_carry(group: *mut CGroup, transport: *const Transport);
    fn shim_group_free(group: *mut CGroup);
    fn shim_group_sum(group: *mut CGroup, tensor: *const C_tensor) -> *mut c_char;
    fn shim_group_broadcast(group: *mut CGroup, tensor: *const C_tensor, from: c_int) -> *mut c_char;
    fn shim_reducer_new(
        group: *mut CGroup,
        parameters: *const *const C_tensor,
        bucket_of: *const usize,
        count: usize,
        buckets: *const *const C_tensor,
        bucket_count: usize,
        reducer: *mut *mut CReducer,
    ) -> *mut c_char;
    fn shim_reducer_free(reducer: *mut CReducer);
    fn shim_reducer_begin(reducer: *mut CReducer) -> *mut c_char;
    fn shim_reducer_finish(reducer: *mut CReducer, started: *mut usize) -> *mut c_char;
}

/// How gradients of one kind of device travel: `Transport` of the shim's `transport.h`.
#[repr(C)]
pub(crate) struct Transport {
    /// c10's number for the kind of device.
    pub device: c_int,
    /// What the functions are called with.
    pub state: *mut c_void,
    /// Begins to replace a tensor by its sum over the processes.
    pub sum: unsafe extern "C" fn(*mut c_void, *const C_tensor) -> *mut c_char,
    /// Makes the current stream wait for all sums that have begun.
    pub wait: unsafe extern "C" fn(*mut c_void) -> *mut c_char,
}

/// Where and how a process joins its group.
pub(crate) struct Meeting<'a> {
    /// Host of the store where the processes find each other.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// Whether this process opens the store.
    pub host_store: bool,
    /// Network interface for the gradients; empty for the one that fits.
    pub interface: &'a str,
    /// Number of this process.
    pub rank: usize,
    /// Processes in all.
    pub size: usize,
    /// Longest wait for the others at the start.
    pub timeout: Duration,
    /// Longest wait for them in each operation.
    pub patience: Duration,
}

/// A joined group of processes.
pub(crate) struct Gloo(*mut CGroup);

impl Gloo {
    pub(crate) fn join(meeting: &Meeting) -> Result<Self> {
        let (host, interface) = (CString::new(meeting.host)?, CString::new(meeting.interface)?);
        let mut group = std::ptr::null_mut();
        // SAFETY: two C strings that live through the call; on success `group` is new and ours.
        unsafe {
            check(shim_group_join(
                host.as_ptr(),
                c_int::from(meeting.port),
                meeting.host_store,
                interface.as_ptr(),
                c_int::try_from(meeting.rank)?,
                c_int::try_from(meeting.size)?,
                i64::try_from(meeting.timeout.as_millis())?,
                i64::try_from(meeting.patience.as_millis())?,
                &raw mut group,
            ))?;
        }
        Ok(Self(group))
    }

    /// Lets `transport`, which lives as long as the process, have the tensors of its kind of device.
    pub(crate) fn carry(&self, transport: &Transport) {
        // SAFETY: a live group and a live transport, which is copied.
        unsafe { shim_group_carry(self.0, transport) }
    }

    pub(crate) fn sum(&self, tensor: &Tensor) -> Result<()> {
        // SAFETY: a live group and a live tensor.
        unsafe { check(shim_group_sum(self.0, tensor.as_ptr())) }
    }

    pub(crate) fn broadcast(&self, tensor: &Tensor, from: usize) -> Result<()> {
        // SAFETY: a live group and a live tensor.
        unsafe { check(shim_group_broadcast(self.0, tensor.as_ptr(), c_int::try_from(from)?)) }
    }
}

impl Drop for Gloo {
    fn drop(&mut self) {
        // SAFETY: made by `shim_group_join`, freed once; a reducer keeps its group alive.
        unsafe { shim_group_free(self.0) }
    }
}

/// Sums buckets of gradients while the backward pass runs.
pub(crate) struct Reducer {
    raw: *mut CReducer,
    /// Outlives `raw`, which points to it.
    _group: Rc<Gloo>,
}

impl Reducer {
    /// `bucket_of[i]` is the bucket in which the gradient of parameter `i` lies.
    pub(crate) fn new(
        group: &Rc<Gloo>,
        parameters: &[Tensor],
        bucket_of: &[usize],
        buckets: &[Tensor],
    ) -> Result<Self> {
        ensure!(parameters.len() == bucket_of.len(), "a bucket for every parameter");
        let (p, b) = (pointers(parameters), pointers(buckets));
        let mut raw = std::ptr::null_mut();
        // SAFETY: arrays of the lengths given, of pointers to live tensors; on success `raw` is new and ours.
        unsafe {
            check(shim_reducer_new(
                group.0,
                p.as_ptr(),
                bucket_of.as_ptr(),
                p.len(),
                b.as_ptr(),
                b.len(),
                &raw mut raw,
            ))?;
        }
        Ok(Self { raw, _group: Rc::clone(group) })
    }

    pub(crate) fn begin(&self) -> Result<()> {
        // SAFETY: a live reducer.
        unsafe { check(shim_reducer_begin(self.raw)) }
    }

    pub(crate) fn finish(&self) -> Result<usize> {
        let mut started = 0;
        // SAFETY: a live reducer and a local that lives through the call.
        unsafe { check(shim_reducer_finish(self.raw, &raw mut started)) }?;
        Ok(started)
    }
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // SAFETY: made by `shim_reducer_new`, freed once, before its group.
        unsafe { shim_reducer_free(self.raw) }
    }
}
