//! Locks, where the file system is another one: NFS wants files open both ways, some have no locks at all.

use crate::study::{Study, TOY, stderr, until};
use std::fs;
use std::os::unix::process::CommandExt;

/// Makes every `flock` of the process and its children fail.
fn without_locks(errno: i32) -> std::io::Result<()> {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_EQUAL, 0, 1, libc::SYS_flock as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: both calls only read what they are given, which lives as long as they take.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn a_file_system_without_locks_is_told_of_on_one_line() {
    for errno in [libc::ENOLCK, libc::ENOSYS, libc::EOPNOTSUPP] {
        let study = Study::new(TOY);
        let mut command = study.command(&["run"]);
        // SAFETY: the closure makes two system calls and touches no memory of ours.
        unsafe { command.pre_exec(move || without_locks(errno)) };
        let output = command.output().unwrap();
        let text = stderr(&output);
        assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
        assert!(text.contains(".pipeline/locks/store") && text.contains("mount it with locks"), "{text}");
        assert!(!study.exists("ran"), "nothing runs without its lock");
    }
}

#[test]
fn locks_are_open_for_reading_and_writing() {
    let study = Study::new(
        "name: one\nstages:\n  a:\n    command: sh -c 'touch up; while [ ! -e go ]; do sleep 0.01; done; echo > $1' -- ${outputs.x}\n    outputs: [x]\n",
    );
    let mut runner = study.start(&["run"]);
    until("the stage's start", || study.exists("up"));
    let process = format!("/proc/{}", runner.id());
    let mut locks = 0;
    for entry in fs::read_dir(format!("{process}/fd")).unwrap() {
        let entry = entry.unwrap();
        let target = fs::read_link(entry.path()).unwrap();
        if !target.to_string_lossy().contains(".pipeline/locks/") {
            continue;
        }
        locks += 1;
        let info = fs::read_to_string(format!("{process}/fdinfo/{}", entry.file_name().display())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
        assert_eq!(flags & libc::O_ACCMODE, libc::O_RDWR, "{}", target.display());
    }
    study.write("go", "");
    assert!(runner.wait().unwrap().success());
    assert_eq!(locks, 2, "the store's and the action's");
}
