//! Scripts for gdb in `tests/gdb/*.gdb`, on a static and on a dynamic program. Needs gdb and a C compiler with the 32-bit library.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What the program dies of.
const SIGSEGV: i32 = 11;
/// What gdb kills it by.
const SIGKILL: i32 = 9;

/// A directory of its own, which goes with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("table86-gdb-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gdb")
}

/// Builds the program; `None` where that cannot be done.
fn build(directory: &Path, extra: &[&str]) -> Option<PathBuf> {
    let program = directory.join("debugged");
    let built = Command::new("gcc")
        .args(["-m32", "-g", "-O0", "-pthread", "-o"])
        .arg(&program)
        .arg(scripts().join("debugged.c"))
        .args(extra)
        .stderr(Stdio::null())
        .status();
    built.is_ok_and(|status| status.success()).then_some(program)
}

fn has_gdb() -> bool {
    Command::new("gdb").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// What gdb says in any case if it is not told where the files are.
const SLOW: &str = "warning: File transfers from remote targets can be slow.";

/// Runs the program under gdb with a script; gives what gdb and what Table86 said. gdb gets the program's file only if it
/// `has_file`.
fn debug(directory: &Path, program: &Path, script: &Path, has_file: bool) -> (String, Output) {
    let socket = directory.join("socket");
    let guest = Command::new(env!("CARGO_BIN_EXE_table86"))
        .args(["gdb", "-g"])
        .arg(&socket)
        .arg(program)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("table86 starts");
    let begin = Instant::now();
    while !socket.exists() {
        assert!(begin.elapsed() < Duration::from_secs(60), "table86 does not wait for gdb");
        std::thread::sleep(Duration::from_millis(10));
    }
    let gdb = Command::new("gdb")
        .current_dir(directory)
        .args(["-q", "-nx", "-batch", "-ex"])
        .arg(format!("target remote {}", socket.display()))
        .arg("-x")
        .arg(script)
        .args(has_file.then_some(program))
        .stdin(Stdio::null())
        .output()
        .expect("gdb runs");
    let said = String::from_utf8_lossy(&gdb.stdout).into_owned() + &String::from_utf8_lossy(&gdb.stderr);
    (said, guest.wait_with_output().expect("table86 ends"))
}

/// What a script expects that is not there.
fn missing(script: &Path, said: &str) -> Option<String> {
    let text = std::fs::read_to_string(script).expect("the script");
    let mut rest = said;
    for expected in text.lines().filter_map(|line| line.strip_prefix("#= ")) {
        match rest.find(expected) {
            Some(at) => rest = &rest[at + expected.len()..],
            None => return Some(expected.to_owned()),
        }
    }
    None
}

fn check(name: &str, script: &str, has_file: bool, expected: impl Fn(&Output) -> bool) {
    if !has_gdb() {
        println!("NOT CHECKED: gdb is not installed");
        return;
    }
    for (kind, extra) in [("static", &["-static"][..]), ("dynamic", &[])] {
        let directory = Directory::new(&format!("{name}-{kind}"));
        let Some(program) = build(&directory.0, extra) else {
            println!("NOT CHECKED: no C compiler with a 32-bit library");
            return;
        };
        let script = scripts().join(script);
        let (said, guest) = debug(&directory.0, &program, &script, has_file);
        let missing = missing(&script, &said);
        assert!(missing.is_none(), "{kind}: `{}` is not in:\n{said}", missing.unwrap_or_default());
        let warning = said.lines().find(|line| line.starts_with("warning:") && !line.starts_with(SLOW));
        assert_eq!(warning, None, "{kind}:\n{said}");
        assert!(expected(&guest), "{kind}: {guest:?}\n{said}");
    }
}

#[test]
fn gdb_debugs_a_program_from_its_first_instruction_to_its_fault() {
    check("session", "session.gdb", true, |guest| {
        guest.stdout == b"done\n" && guest.status.signal() == Some(SIGSEGV)
    });
}

#[test]
fn gdb_needs_no_files_of_its_own() {
    check("files", "files.gdb", false, |guest| guest.status.signal() == Some(SIGKILL));
}

#[test]
fn a_program_that_gdb_leaves_runs_on() {
    check("leave", "leave.gdb", true, |guest| {
        guest.stdout == b"done\n" && guest.status.signal() == Some(SIGSEGV)
    });
}
