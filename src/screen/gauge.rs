//! How busy the GPUs are, as `nvidia-smi` says; where there is none, nothing is shown.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it is asked; each time costs it some tens of milliseconds.
const ASK: Duration = Duration::from_secs(5);
/// How often the end is looked for.
const PAUSE: Duration = Duration::from_millis(50);
const QUESTION: [&str; 2] =
    ["--query-gpu=index,uuid,utilization.gpu,memory.used", "--format=csv,noheader,nounits"];

/// Percent of the time, and MiB, by index and by UUID.
type Loads = HashMap<String, (u64, u64)>;

/// Asks now and then, on a thread of its own.
pub struct Gauge {
    loads: Arc<Mutex<Loads>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Gauge {
    pub fn start() -> Self {
        let (loads, stop) = (Arc::new(Mutex::new(Loads::new())), Arc::new(AtomicBool::new(false)));
        let (kept, stopped) = (Arc::clone(&loads), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let answer = Command::new("nvidia-smi").args(QUESTION).stdin(Stdio::null()).output();
                let Ok(answer) = answer else { return };
                *kept.lock().unwrap_or_else(PoisonError::into_inner) =
                    parse(&String::from_utf8_lossy(&answer.stdout));
                let asked = Instant::now();
                while asked.elapsed() < ASK && !stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(PAUSE);
                }
            }
        });
        Self { loads, stop, thread: Some(thread) }
    }

    /// `GPU 87% 12.3 GiB`: the mean of the shares of these GPUs, and the sum of their memory; nothing when unknown.
    pub fn of(&self, gpus: &[String]) -> String {
        shown(&self.loads.lock().unwrap_or_else(PoisonError::into_inner), gpus)
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn parse(text: &str) -> Loads {
    let mut loads = Loads::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let [index, uuid, share, memory] = cells.as_slice() else { continue };
        if let (Ok(share), Ok(memory)) = (share.parse(), memory.parse()) {
            loads.extend([index, uuid].map(|name| (name.to_string(), (share, memory))));
        }
    }
    loads
}

fn shown(loads: &Loads, gpus: &[String]) -> String {
    let known: Vec<_> = gpus.iter().filter_map(|gpu| loads.get(gpu)).collect();
    if known.is_empty() {
        return String::new();
    }
    let share = known.iter().map(|(share, _)| share).sum::<u64>() / known.len() as u64;
    let memory: u64 = known.iter().map(|(_, memory)| memory << 20).sum();
    format!("GPU {share}% {}", crate::text::size(memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nvidia_smi_says_is_read() {
        let loads = parse("0, GPU-aa, 90, 1024\n1, GPU-bb, 50, 512\n2, GPU-cc, [N/A], 3\n");
        let of = |gpus: &[&str]| shown(&loads, &gpus.iter().map(|g| g.to_string()).collect::<Vec<_>>());
        assert_eq!(of(&["0", "GPU-bb"]), "GPU 70% 1.5 GiB");
        assert_eq!(of(&["2"]), "");
        assert_eq!(of(&[]), "");
    }
}
