//! The daemons of a batch system, brought up on this machine for a test.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// They end with this.
pub struct Daemons {
    /// Their configuration, logs and process ids.
    pub folder: tempfile::TempDir,
    scripts: PathBuf,
}

impl Daemons {
    /// Starts those of `scripts`, a folder with `up` and `down`, on so many ports of their own. `None` where this is not root or
    /// one of the programs is missing.
    pub fn up(scripts: &str, programs: &[PathBuf], ports: usize, needs: &str) -> Option<Self> {
        let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
        if !root || !programs.iter().all(|program| program.exists()) {
            // Written past the test's own captured output: nobody should believe that it ran.
            let text = format!("\nSKIPPED: {needs}\n");
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let sockets: Vec<TcpListener> =
            (0..ports).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<String> = sockets.iter().map(|s| s.local_addr().unwrap().port().to_string()).collect();
        drop(sockets);
        let log = folder.path().join("up.log");
        let file = std::fs::File::create(&log).unwrap();
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runner").join(scripts);
        // Daemons keep what they inherit; a pipe would never end.
        let mut up = Command::new(scripts.join("up"));
        up.arg(folder.path()).args(&ports).stdout(file.try_clone().unwrap()).stderr(file);
        let daemons = Self { folder, scripts };
        assert!(up.status().unwrap().success(), "{}", std::fs::read_to_string(log).unwrap());
        Some(daemons)
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        let _ = Command::new(self.scripts.join("down")).arg(self.folder.path()).status();
    }
}
