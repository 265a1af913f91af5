//! Which device a stage computes on, and why not another.

use crate::{libraries, shim};
use anyhow::Result;
use stage::{Kind, Value, bad_input};
use std::fmt::{self, Display, Formatter};
use std::sync::Once;
use tch::{Cuda, Device};

/// What `--device` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU that CUDA offers, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number among those that CUDA offers.
    Cuda(usize),
}

impl Display for DeviceChoice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl Value for DeviceChoice {
    fn kind() -> Kind {
        Kind::Text
    }
    fn parse(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("cuda:").map(str::parse)) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(Ok(index))) => Ok(Self::Cuda(index)),
            _ => {
                let near = if text.starts_with("cuda") || text.starts_with("gpu") {
                    Some("cuda:0")
                } else {
                    stage::nearest(text, ["auto", "cpu", "cuda:0"])
                };
                let hint = near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
                Err(format!("`{text}` is none of auto, cpu, cuda:N{hint}"))
            }
        }
    }
    fn json(&self) -> stage::serde_json::Value {
        self.to_string().into()
    }
}

/// Makes the device ready and sets the number of CPU threads an operation may use (0 leaves libtorch's own default: the
/// cores there are, or `OMP_NUM_THREADS`). Memory that a tensor leaves is from then on kept for the next one.
///
/// CUDA is loaded here when it is wanted and can be. libtorch looks for it once, so call this before anything else of
/// libtorch's. [`unused_gpu`] says why `auto` did not take a GPU.
///
/// # Errors
/// Bad input when the GPU that was asked for cannot be used, with the reason and the way out.
pub fn open(choice: DeviceChoice, threads: usize) -> Result<Device> {
    open_local(choice, 0, threads)
}

/// The same for the process of number `local` on its machine: `auto` takes the GPU of that number, counted round.
///
/// # Errors
/// As [`open`].
pub fn open_local(choice: DeviceChoice, local: usize, threads: usize) -> Result<Device> {
    keep_memory();
    set_threads(threads);
    let index = match choice {
        DeviceChoice::Cpu => return Ok(Device::Cpu),
        DeviceChoice::Auto => local,
        DeviceChoice::Cuda(index) => index,
    };
    match (gpus(), choice) {
        (Ok(count), DeviceChoice::Auto) => Ok(Device::Cuda(index % count)),
        (Ok(count), _) if index < count => Ok(Device::Cuda(index)),
        (_, DeviceChoice::Auto) => Ok(Device::Cpu),
        (Ok(count), _) => {
            bad_input!(
                "--device {choice}: CUDA offers {count} GPU(s), counted from 0; use cuda:{}",
                count - 1
            )
        }
        (Err(reason), _) => bad_input!("--device {choice}: {reason}, or use --device cpu"),
    }
}

/// What stands against this choice on this machine, if it names a GPU that cannot be used here: for a warning, before there is
/// anything to compute.
pub fn missing(choice: DeviceChoice) -> Option<String> {
    let named = matches!(choice, DeviceChoice::Cuda(_));
    named.then(|| open(choice, 0).err().map(|e| e.to_string())).flatten()
}

/// Says what the work runs with, for the record of its result; after [`open`].
pub fn report(device: Device, context: &stage::Context) {
    let name = match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Cpu => "cpu".into(),
        other => format!("{other:?}").to_lowercase(),
    };
    context.facts(&[("device", &name), ("libtorch", version().as_deref().unwrap_or("unknown"))]);
}

/// The version of libtorch, where it says one.
fn version() -> Option<String> {
    let settings = shim::build_settings().ok()?;
    let rest = settings.split("TORCH_VERSION=").nth(1)?;
    rest.split([',', '\n']).next().map(str::to_string)
}

/// Why a GPU that this machine has is not used, if it has one and it cannot be used; for a message after [`open`].
pub fn unused_gpu() -> Option<String> {
    let driver = std::path::Path::new("/proc/driver/nvidia/version").exists();
    driver.then(gpus)?.err()
}

/// Why a block's passes over tokens of this width are not fused on a GPU, if they are not: for a message, and before any work is
/// recorded, for it is found out here.
pub fn unfused(device: Device, width: i64) -> Option<String> {
    match device {
        Device::Cuda(index) => shim::fused::usable(index, width).err(),
        _ => None,
    }
}

/// The width of tokens that the doctor tries a GPU's passes with: that of S.
const USUAL_WIDTH: i64 = 384;

/// What was found, for a person whose GPU is not used: libtorch, the processor, CUDA or why not, the devices,
/// whether a GPU has fused passes or why not.
pub fn doctor() -> String {
    // First: where libtorch is asked anything before CUDA is loaded, it says ever after that there is none.
    let gpus = gpus();
    let version = version();
    let folder = libraries::folder().map_or_else(|| "an unknown folder".into(), |f| f.display().to_string());
    let cuda = match &gpus {
        Ok(_) => "loaded".to_string(),
        Err(reason) => format!("not loaded: {reason}"),
    };
    let graphs = match shim::cuda::left_out() {
        None => "CUDA graphs and NCCL are built in".to_string(),
        Some(reason) => format!("built without CUDA graphs and NCCL: {reason}"),
    };
    let passes = match gpus.as_ref().map(|_| shim::fused::usable(0, USUAL_WIDTH)) {
        Ok(Ok(())) => "fused".to_string(),
        Ok(Err(reason)) => format!("plain: {reason}"),
        Err(_) => "fused on the CPU".to_string(),
    };
    let bf16 = if shim::fused::multiplies_bf16() { ", and for products in bf16" } else { "" };
    let devices: Vec<String> =
        std::iter::once("cpu".into()).chain((0..gpus.unwrap_or(0)).map(|i| format!("cuda:{i}"))).collect();
    [
        ("libtorch", format!("{} in {folder}", version.as_deref().unwrap_or("of unknown version"))),
        (
            "processor",
            format!("kernels for {}{bf16}", shim::cpu_capability().unwrap_or_else(|e| e.to_string())),
        ),
        ("threads", format!("{} in an operation", tch::get_num_threads())),
        ("cuda", cuda),
        ("devices", devices.join(", ")),
        ("graphs", graphs),
        ("passes", passes),
    ]
    .map(|(name, text)| format!("{name:<10} {text}\n"))
    .concat()
}

/// How many GPUs CUDA offers, at least one, or why none.
fn gpus() -> Result<usize, String> {
    libraries::load_cuda()?;
    let count = if Cuda::is_available() { usize::try_from(Cuda::device_count()).unwrap_or(0) } else { 0 };
    match (count, std::env::var("CUDA_VISIBLE_DEVICES")) {
        (0, Ok(visible)) => {
            Err(format!("CUDA offers no GPU while CUDA_VISIBLE_DEVICES is `{visible}`; change or unset it"))
        }
        (0, Err(_)) => Err("CUDA is loaded but offers no GPU; see whether nvidia-smi does".into()),
        (count, _) => Ok(count),
    }
}

fn set_threads(threads: usize) {
    static INTEROP: Once = Once::new();
    if let Ok(threads @ 1..) = i32::try_from(threads) {
        tch::set_num_threads(threads);
    }
    // The stages run one operation at a time. Somebody who has set it before us has had a reason.
    INTEROP.call_once(|| drop(shim::set_interop_threads(1)));
}

/// Keeps freed memory for the next tensor: the stages' tensors have the same sizes over and over. By default glibc gives
/// large pieces back to the kernel, which clears them anew each time: a twentieth of a training step of S/2 on two cores,
/// a fifth of the seconds of the processor of a pass through Inception.
fn keep_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: settings of the allocator, which may change at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1); // never
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_printed() {
        for text in ["auto", "cpu", "cuda:0", "cuda:11"] {
            assert_eq!(DeviceChoice::parse(text).unwrap().to_string(), text);
        }
        for (text, hint) in [("cuda", "cuda:0"), ("cuda:x", "cuda:0"), ("cpus", "cpu"), ("gpu", "cuda:0")] {
            let e = DeviceChoice::parse(text).unwrap_err();
            assert_eq!(e, format!("`{text}` is none of auto, cpu, cuda:N; did you mean `{hint}`?"));
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert_eq!(open(DeviceChoice::Cpu, 2).unwrap(), Device::Cpu);
        assert_eq!(tch::get_num_threads(), 2);
        open(DeviceChoice::Auto, 0).unwrap();
    }

    #[test]
    fn a_gpu_that_is_not_there_is_bad_input() {
        let e = open(DeviceChoice::Cuda(99), 0).unwrap_err();
        assert_eq!(stage::exit_code(&e), 2);
        let text = e.to_string();
        assert!(text.starts_with("--device cuda:99: ") && text.contains("use "), "{text}");
        assert!(!text.contains('\n'), "{text}");
        assert_eq!(missing(DeviceChoice::Cuda(99)), Some(text));
        assert_eq!([missing(DeviceChoice::Auto), missing(DeviceChoice::Cpu)], [None, None]);
    }

    #[test]
    fn the_doctor_names_what_it_found() {
        let text = doctor();
        for name in
            ["libtorch   2.", "processor  ", "threads  ", "cuda  ", "devices    cpu", "graphs  ", "passes  "]
        {
            assert!(text.contains(name), "{name} is not in\n{text}");
        }
        assert_eq!(text.lines().count(), 7, "{text}");
    }
}
