//! Names that no other process has, here or on another machine that works on the same folder: process ids say nothing there,
//! and two machines, or two containers, have the same ones. And the program that runs, by a name under which it is found again.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// This process, on whatever machine: eight digits.
pub fn token() -> &'static str {
    static TOKEN: OnceLock<String> = OnceLock::new();
    TOKEN.get_or_init(|| blake3::hash(&random()).to_hex()[..8].to_string())
}

/// This thread of it.
pub fn thread() -> String {
    format!("{}-{}", rustix::thread::gettid().as_raw_nonzero(), token())
}

/// The program that runs here, to be started again by this process or its children. Where another version has taken its name
/// meanwhile, it is still this one.
pub fn program() -> io::Result<PathBuf> {
    let named = std::env::current_exe()?;
    Ok(if named.exists() { named } else { "/proc/self/exe".into() })
}

/// The name of that program, by which another process or machine finds it, or the version that has its name by then.
pub fn program_by_name() -> io::Result<PathBuf> {
    let named = std::env::current_exe()?;
    // What Linux says of a file that has lost its name.
    let name = named.as_os_str().as_encoded_bytes().strip_suffix(b" (deleted)");
    Ok(name.map(OsStr::from_bytes).map_or_else(|| named.clone(), PathBuf::from))
}

/// What this machine is called; empty where nothing says it.
pub fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_string()
}

/// Bytes that nobody can guess.
pub fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    match File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => bytes,
        // Then at least what is not easily had twice.
        Err(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let here = host();
            let text = format!("{now:?} {} {here} {:p}", std::process::id(), &raw const bytes);
            *blake3::hash(text.as_bytes()).as_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_and_its_threads_have_names_of_their_own() {
        assert_eq!((token(), token().len()), (token(), 8));
        assert_ne!(random(), random());
        let other = std::thread::spawn(thread).join().unwrap();
        assert!(other != thread() && other.ends_with(token()));
    }
}
