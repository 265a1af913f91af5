//! Where latents stay while they are fed: in memory when they fit, else on the disk.

use std::fs;

/// Share of the free memory that latents may take of their own accord: the rest is the training's.
const SHARE: f64 = 0.5;

stage::choice! {
    /// Where latents stay while they are fed. Batches are the same bytes either way.
    pub enum Residence {
        /// In memory when they fit into half of what is free, else on the disk.
        Auto = "auto",
        /// In memory, read and verified once.
        Memory = "memory",
        /// Mapped from the disk; rows are asked for a few batches ahead, and processes share what the system keeps of them.
        Disk = "disk",
    }
}

impl Residence {
    /// What `auto` comes to for latents of `bytes` in each of `processes` that may share this machine.
    pub(crate) fn resolve(self, bytes: u64, processes: usize) -> Self {
        let free = free_memory().unwrap_or(0) as f64;
        match self {
            Self::Auto if bytes as f64 * processes as f64 <= SHARE * free => Self::Memory,
            Self::Auto => Self::Disk,
            chosen => chosen,
        }
    }
}

/// Bytes that this process could still take: of the machine, and of its control group where that has a limit.
fn free_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = 1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(machine.min(free_of_group().unwrap_or(u64::MAX)))
}

/// What the control group (version 2) leaves; none where it has no limit.
fn free_of_group() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let number = |name: &str| {
        let text = fs::read_to_string(format!("/sys/fs/cgroup{group}/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_decides_unless_told_otherwise() {
        assert_eq!(Residence::Auto.resolve(1, 1), Residence::Memory);
        assert_eq!(Residence::Auto.resolve(u64::MAX / 2, 1), Residence::Disk);
        assert_eq!(Residence::Auto.resolve(1, usize::MAX), Residence::Disk);
        assert_eq!(Residence::Memory.resolve(u64::MAX, 8), Residence::Memory);
        assert_eq!(Residence::Disk.resolve(1, 1), Residence::Disk);
    }
}
