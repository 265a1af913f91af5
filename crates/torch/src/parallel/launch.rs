//! How the processes of one training know of each other: the variables of `torchrun`, or of `srun`.

use anyhow::Result;
use stage::{BadInput, bad_input};
use std::str::FromStr;

/// This process among those of its training.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Number of this process, from 0.
    pub rank: usize,
    /// Processes in all, at least 2.
    pub size: usize,
    /// Number of this process on its machine: the GPU it takes.
    pub local: usize,
    /// Host where the processes meet.
    pub host: String,
    /// Port there.
    pub port: u16,
    /// Whether this process opens the store there (under `torchrun`'s agent nobody does, for it is open).
    pub hosts_store: bool,
    /// Network interface for the gradients (`GLOO_SOCKET_IFNAME`); empty for the one that fits.
    pub interface: String,
}

impl Launch {
    /// What the launcher's variables say, which `get` looks up; `None` for a process alone.
    ///
    /// `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR` and `MASTER_PORT` (torchrun), else `SLURM_PROCID`,
    /// `SLURM_STEP_NUM_TASKS`, `SLURM_LOCALID` and the first of `SLURM_STEP_NODELIST` (srun), where `MASTER_ADDR` and
    /// `MASTER_PORT` still win.
    ///
    /// # Errors
    /// Bad input that names the variable that is missing or wrong.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let (names, address) = if get("RANK").is_some() || get("WORLD_SIZE").is_some() {
            (["RANK", "WORLD_SIZE", "LOCAL_RANK"], None)
        } else if get("SLURM_STEP_NUM_TASKS").is_some() {
            let first = get("SLURM_STEP_NODELIST").map(|list| first_host(&list));
            (["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"], first)
        } else {
            return Ok(None);
        };
        let [rank, size, local] = names.map(|name| number::<usize>(&get, name));
        let size = size?;
        if size == 1 {
            return Ok(None);
        }
        let (rank, local) = (rank?, local?);
        if rank >= size {
            bad_input!("{} {rank} among {} {size}; ranks count from 0", names[0], names[1])
        }
        let host = get("MASTER_ADDR").or(address).ok_or_else(|| missing("MASTER_ADDR"))?;
        let port = match (get("MASTER_PORT"), get("SLURM_JOB_ID")) {
            // A port for each job, so that two jobs on one machine do not meet.
            (None, Some(_)) => (20_000 + number::<u64>(&get, "SLURM_JOB_ID")? % 20_000) as u16,
            _ => number(&get, "MASTER_PORT")?,
        };
        let agent = get("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
        let interface = get("GLOO_SOCKET_IFNAME").unwrap_or_default();
        Ok(Some(Self { rank, size, local, host, port, hosts_store: rank == 0 && !agent, interface }))
    }
}

fn number<T: FromStr>(get: &impl Fn(&str) -> Option<String>, name: &str) -> Result<T> {
    let text = get(name).ok_or_else(|| missing(name))?;
    Ok(text.parse().map_err(|_| BadInput(format!("{name}=`{text}` is no number that it can be")))?)
}

fn missing(name: &str) -> BadInput {
    BadInput(format!(
        "{name} is not set, though this process is one of several; start them with torchrun or srun"
    ))
}

/// `gpu[03-05,9],cpu1` is `gpu03`.
fn first_host(list: &str) -> String {
    match list.split_once('[') {
        Some((prefix, rest)) if !prefix.contains(',') => {
            let first = rest.split([',', '-', ']']).next().unwrap_or_default();
            format!("{prefix}{first}")
        }
        _ => list.split(',').next().unwrap_or_default().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Launch>> {
        Launch::read(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_string()))
    }

    #[test]
    fn torchrun_and_srun_are_read() {
        let torchrun = [
            ("RANK", "3"),
            ("WORLD_SIZE", "4"),
            ("LOCAL_RANK", "1"),
            ("MASTER_ADDR", "a"),
            ("MASTER_PORT", "29500"),
        ];
        let launch = read(&torchrun).unwrap().unwrap();
        assert_eq!((launch.rank, launch.size, launch.local, launch.port), (3, 4, 1, 29500));
        assert!(!launch.hosts_store);

        let srun = [
            ("SLURM_PROCID", "0"),
            ("SLURM_STEP_NUM_TASKS", "2"),
            ("SLURM_LOCALID", "0"),
            ("SLURM_STEP_NODELIST", "gpu[03-05,9],cpu1"),
            ("SLURM_JOB_ID", "40007"),
        ];
        let launch = read(&srun).unwrap().unwrap();
        assert_eq!((launch.host.as_str(), launch.port, launch.hosts_store), ("gpu03", 20_007, true));
    }

    #[test]
    fn one_process_is_alone() {
        assert_eq!(read(&[]).unwrap(), None);
        let one = [("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")];
        assert_eq!(read(&one).unwrap(), None);
        // An allocation without srun is one process too.
        assert_eq!(read(&[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")]).unwrap(), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let cases: [(&[(&str, &str)], &str); 4] = [
            (&[("RANK", "0")], "WORLD_SIZE is not set"),
            (&[("RANK", "2"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")], "RANK 2 among WORLD_SIZE 2"),
            (&[("RANK", "x"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")], "RANK=`x`"),
            (&[("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")], "MASTER_ADDR is not set"),
        ];
        for (pairs, wanted) in cases {
            let e = read(pairs).unwrap_err();
            assert_eq!(stage::exit_code(&e), 2);
            assert!(e.to_string().contains(wanted), "{e}");
        }
    }

    #[test]
    fn host_lists() {
        for (list, first) in [("a", "a"), ("a,b[1-2]", "a"), ("n[01,03]", "n01"), ("n[7]", "n7")] {
            assert_eq!(first_host(list), first);
        }
    }
}
