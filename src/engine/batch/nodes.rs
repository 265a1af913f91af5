//! The workers of a job on several nodes, where a batch system starts one on each: they find each other by files in the
//! attempt's folder, which all nodes see.
//!
//! The one that has the lead waits for the others and writes down who is which. Each holds a lock as long as it lives, so
//! that the others know when it is gone, whatever became of its node.

use crate::engine::error::{Error, Result};
use crate::engine::ranks;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use store::lock::{self, Lock};
use store::{IoContext, process, record};

/// How often files are looked at that others write.
const TICK: Duration = Duration::from_millis(100);
/// How long a worker may see that others meet without it until it gives up: those of an earlier start may be ending still.
const SURPLUS: Duration = Duration::from_secs(30);
/// Bytes of a worker's name.
const NAME: usize = 8;

/// What a worker is to do.
pub enum Part {
    /// With the lead, which is to be held until the end is written down: whoever has it next begins anew otherwise.
    First(Here, Lock),
    Other(Node),
    /// The job is over, given up, or told to stop.
    None,
}

/// A worker that knows who the others are.
pub struct Node {
    here: Here,
    pub number: u32,
    meeting: Meeting,
}

/// What the first writes down.
#[derive(Debug, Serialize, Deserialize)]
struct Meeting {
    /// The workers and their hosts, in the order of their nodes.
    workers: Vec<(String, String)>,
    /// An address of the first.
    address: IpAddr,
    port: u16,
}

/// This worker in the folder.
pub struct Here {
    folder: PathBuf,
    id: String,
    host: String,
    _lock: Lock,
}

/// Has all workers of an attempt's job save and stop, also those that no signal reaches and those that come later or wait to
/// see what becomes of the job: its system signals some of them, or one.
pub fn stop(attempt: &Path) {
    // At worst those whom their batch system tells are the only ones.
    let _ = fs::write(stop_path(attempt), "");
}

fn stop_path(attempt: &Path) -> PathBuf {
    attempt.join("stop")
}

impl Here {
    fn new(attempt: &Path) -> Result<Self> {
        let folder = attempt.join("nodes");
        let host = process::host();
        let id: String = process::random()[..NAME].iter().map(|byte| format!("{byte:02x}")).collect();
        let path = worker(&folder, &id);
        // Whoever looks whether it is held holds it for that moment.
        let mut lock = None;
        while lock.is_none() {
            lock = lock::attempt(&path, false)?;
        }
        let Some(mut lock) = lock else { return Err(Error::NoWork(attempt.into())) };
        lock.0.write_all(format!("{host}\n").as_bytes()).at("writing", &path)?;
        Ok(Self { folder, id, host, _lock: lock })
    }

    /// Whether whoever submitted the job wants nobody of it to go on.
    fn told(&self) -> bool {
        self.folder.parent().is_some_and(|attempt| stop_path(attempt).exists())
    }

    fn meeting(&self) -> Option<Meeting> {
        record::read(&self.folder.join("meeting.json"))
    }

    /// The others that are there, in the order of their hosts.
    fn others(&self) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder).at("listing", &self.folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(id) = name.strip_suffix(".worker").filter(|id| *id != self.id) else { continue };
            let host = fs::read_to_string(entry.path()).unwrap_or_default();
            // One that has not written its host yet is there a moment later.
            if let Some(host) = host.strip_suffix('\n').filter(|_| lock::is_held(&entry.path())) {
                all.push((id.to_string(), host.to_string()));
            }
        }
        all.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
        Ok(all)
    }

    /// Waits until so many workers are there. `None` when it was told to stop meanwhile.
    pub fn gather(
        self,
        nodes: u32,
        patience: Duration,
        mut told: impl FnMut() -> bool,
    ) -> Result<Option<Node>> {
        let begun = Instant::now();
        loop {
            let mut workers = self.others()?;
            workers.insert(0, (self.id.clone(), self.host.clone()));
            if workers.len() >= nodes as usize {
                workers.truncate(nodes as usize);
                let port = ranks::free_port().at("looking for a port of", Path::new(&self.host))?;
                let meeting = Meeting { workers, address: address(), port };
                record::write(&self.folder.join("meeting.json"), &meeting, true)?;
                return Ok(Some(Node { here: self, number: 0, meeting }));
            }
            if told() || self.told() {
                return Ok(None);
            }
            if begun.elapsed() > patience {
                let hosts: Vec<String> = workers.into_iter().map(|(_, host)| host).collect();
                let (came, seconds) = (hosts.join(", "), patience.as_secs());
                return Err(Error::FewNodes { nodes, came, seconds });
            }
            std::thread::sleep(TICK);
        }
    }
}

fn worker(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.worker"))
}

/// Has a worker take its place among those of an attempt's job: the first that comes has the lead, the others wait for it
/// to name them. `over` says whether the job needs nobody any more.
pub fn arrive(attempt: &Path, over: impl Fn() -> bool, mut told: impl FnMut() -> bool) -> Result<Part> {
    let here = Here::new(attempt)?;
    let mut beside = None::<Instant>;
    loop {
        if told() || here.told() || over() {
            return Ok(Part::None);
        }
        if let Some(lead) = lock::attempt(&here.folder.join("lead"), false)? {
            // Between the last look and now the one that had the lead may have ended.
            return Ok(if here.told() || over() { Part::None } else { Part::First(here, lead) });
        }
        if let Some(meeting) = here.meeting() {
            let place = meeting.workers.iter().position(|(id, _)| *id == here.id);
            if let Some(number) = place {
                return Ok(Part::Other(Node { here, number: number as u32, meeting }));
            }
            let lives = lock::is_held(&worker(&here.folder, &meeting.workers[0].0));
            if lives && beside.get_or_insert_with(Instant::now).elapsed() > SURPLUS {
                return Err(Error::Surplus { nodes: meeting.workers.len(), host: here.host.clone() });
            }
        }
        std::thread::sleep(TICK);
    }
}

impl Node {
    /// The names of the nodes.
    pub fn hosts(&self) -> String {
        self.meeting.workers.iter().map(|(_, host)| host.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Where the ranks meet: the first node, by its name where this one can find it by that.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        let Meeting { workers, address, port } = &self.meeting;
        let host = &workers[0].1;
        let known = (host.as_str(), *port).to_socket_addrs().is_ok_and(|mut all| all.next().is_some());
        let host = if known { host.clone() } else { address.to_string() };
        [("MASTER_ADDR", host), ("MASTER_PORT", port.to_string())]
    }

    fn stop(&self) -> PathBuf {
        self.here.folder.join(format!("{}.stop", self.meeting.workers[0].0))
    }

    /// Tells the others that they are to save and stop.
    pub fn tell(&self) {
        // At worst their batch system tells them.
        let _ = fs::write(self.stop(), "");
    }

    /// Whether one of them told, or whoever submitted the job.
    pub fn told(&self) -> bool {
        self.stop().exists() || self.here.told()
    }

    fn done(&self, id: &str) -> PathBuf {
        self.here.folder.join(format!("{id}.done"))
    }

    /// Says that nothing of this node runs any more.
    pub fn end(&self) {
        let _ = fs::write(self.done(&self.here.id), "");
    }

    /// Those of the others that this one looks after: the first all of them, they the first.
    fn looked_after(&self) -> &[(String, String)] {
        if self.number == 0 { &self.meeting.workers[1..] } else { &self.meeting.workers[..1] }
    }

    /// Whether all of them are done.
    pub fn all_done(&self) -> bool {
        self.looked_after().iter().all(|(id, _)| self.done(id).exists())
    }

    /// The host of one that is gone and was not done.
    pub fn gone(&self) -> Option<&str> {
        let gone = |id: &str| !lock::is_held(&worker(&self.here.folder, id)) && !self.done(id).exists();
        self.looked_after().iter().find(|(id, _)| gone(id)).map(|(_, host)| host.as_str())
    }
}

/// The address of this machine by which it reaches others. Nothing is sent.
fn address() -> IpAddr {
    let other = (Ipv4Addr::new(192, 0, 2, 1), 9);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let reached = socket.and_then(|socket| socket.connect(other).and_then(|()| socket.local_addr()));
    reached.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}
