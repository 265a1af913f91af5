//! PyTorch's side: the peer's program, which prints one line of JSON.

use crate::{Args, Case, Times};
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::process::Command;
use torch::Precision;
use torch::device::DeviceChoice;

/// Runs the peer with the same sizes.
pub fn measure(args: &Args, case: &Case, program: &OsStr, style: &str) -> Result<Times> {
    let model = match case.size.as_str() {
        "tiny" => "tiny".to_string(),
        size => format!("switch-{}/2", size.to_uppercase()),
    };
    let gpu = matches!(args.device, DeviceChoice::Cuda(_));
    let (style_name, compile) = match style.strip_suffix("-compile") {
        Some(name) => (name, "--compile"),
        None => (style, "--no-compile"),
    };
    // The published code's own half precision is fp16.
    let precision = match (args.precision, style_name) {
        (Precision::F32, _) => "fp32",
        (Precision::Bf16, "official") if gpu => "fp16",
        (Precision::Bf16, _) => "bf16",
    };
    let python = std::env::var_os("TORCH_PYTHON").unwrap_or_else(|| "python3".into());
    // A shell's child: the kernel lets a process that is started directly begin with the peak memory of its parent.
    let mut command = Command::new("sh");
    command.args(["-c", "\"$@\"; exit $?", "sh"]).arg(&python).arg(program).arg(if case.train {
        "train"
    } else {
        "sample"
    });
    command.args(["--model", &model, "--style", style_name, "--precision", precision, compile]);
    command.args(["--batch", &case.batch.to_string(), "--threads", &args.threads.to_string()]);
    command.args(["--steps", &args.steps.to_string(), "--warmup", &args.warmup.to_string()]);
    command.args(["--device", if gpu { "cuda" } else { "cpu" }]);
    let output = command.output().with_context(|| format!("starting {}", python.display()))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", program.display(), error.lines().last().unwrap_or("it failed without a word"));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let json: serde_json::Value =
        serde_json::from_str(text.lines().last().unwrap_or_default()).context("reading the peer's JSON")?;
    let number = |key: &str| json[key].as_f64().with_context(|| format!("no {key} in the peer's JSON"));
    Ok(Times {
        name: style.into(),
        wall: number("median_step_s")?,
        cpu: number("cpu_s")?,
        memory: number("peak_mem_bytes")?,
    })
}
