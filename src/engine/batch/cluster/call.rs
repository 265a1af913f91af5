//! One of a cluster's commands, called to its end or to the end of patience.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// What a command said.
pub struct Said {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Said {
    /// What it complained of, on one line, where it failed.
    pub fn failure(&self, name: &str) -> Option<String> {
        if self.status.success() {
            return None;
        }
        let lines: Vec<&str> = self.err.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let how = match self.status.code() {
            Some(code) => format!("ended with exit code {code}"),
            None => "was killed".into(),
        };
        let text = if lines.is_empty() { how } else { lines.join("; ") };
        Some(format!("{name} failed: {text}"))
    }
}

/// Calls a command in a folder, in a process group that signals of a terminal do not reach. What does not end within `patience` is
/// killed with all that it started.
pub fn call(words: &[String], folder: &Path, patience: Duration) -> Result<Said, String> {
    let [program, arguments @ ..] = words else { return Err("there is no command".into()) };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = command.spawn().map_err(|e| format!("{program}: {e}"))?;
    let group = Pid::from_child(&child);
    let (sender, answers) = mpsc::channel();
    let pipes = [child.stdout.take().map(reader), child.stderr.take().map(reader)];
    let reading = std::thread::Builder::new().spawn(move || {
        let [out, err] =
            pipes.map(|pipe| pipe.map(|pipe| pipe.join().unwrap_or_default()).unwrap_or_default());
        // Nobody listens where patience was over.
        let _ = sender.send((out, err));
    });
    reading.map_err(|e| format!("starting a thread: {e}"))?;
    let (out, err) = match answers.recv_timeout(patience) {
        Ok(said) => said,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = child.wait();
            return Err(format!("it did not answer within {} s", patience.as_secs()));
        }
    };
    let status = child.wait().map_err(|e| format!("{program}: {e}"))?;
    Ok(Said { status, out, err })
}

fn reader(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read until then is all that there is.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, patience: Duration) -> Result<Said, String> {
        call(&["sh", "-c", script].map(String::from), Path::new("/"), patience)
    }

    #[test]
    fn what_it_says_and_how_it_ends() {
        let minute = Duration::from_secs(60);
        let said = sh("echo 12; echo; echo no >&2; exit 3", minute).unwrap();
        assert_eq!((said.out.as_str(), said.failure("ask")), ("12\n\n", Some("ask failed: no".into())));
        assert_eq!(
            sh("exit 3", minute).unwrap().failure("ask"),
            Some("ask failed: ended with exit code 3".into())
        );
        // More than a pipe holds, on both.
        let much = sh("yes | head -c 300000; yes | head -c 300000 >&2", minute).unwrap();
        assert_eq!((much.out.len(), much.err.len()), (300_000, 300_000));
        let late = sh("sleep 1000 & sleep 1000", Duration::from_millis(200));
        assert_eq!(late.err().unwrap(), "it did not answer within 0 s");
    }
}
