//! Any system call with any arguments is answered: none of them ends or stops Table86 itself.
//!
//! A guest program goes through a list of calls with random and edge arguments; a worker process runs it, unprivileged, in
//! namespaces of its own (user, mounts, processes, network, IPC, host name), with an empty folder as its root and without the
//! calls in [`EXCLUDED`]. The worker may end as a guest does, and is killed when a call waits for what never comes; the list
//! then goes on behind that call. Whatever else ends it is a failure, which names the call.
//!
//! `cargo test` makes a bounded number of calls. `TABLE86_FUZZ_CALLS=1000000 cargo test --release --test syscall_fuzz` makes
//! more; `TABLE86_FUZZ_SEED` picks others, and `TABLE86_FUZZ_FIRST` the first one, to look at a failure again.
#![cfg(target_os = "linux")]

mod calls;
mod worker;

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use worker::Progress;

/// Calls that `cargo test` makes.
const CALLS: u64 = 20_000;
/// Calls that one worker makes at most.
const BATCH: u64 = 4_000;
/// How long a call may wait before a signal interrupts it, and before its worker is killed.
const PATIENCE: [Duration; 2] = [Duration::from_millis(60), Duration::from_millis(1500)];

/// Signals that a process of ours would die by.
const MISTAKES: [i32; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [what, dir, seed, first, count] = &arguments[..]
        && what == worker::ARGUMENT
    {
        let number = |text: &String| text.parse().unwrap_or(0);
        return worker::main(Path::new(dir), number(seed), number(first), number(count));
    }
    // As with any other test: a filter that leaves it out, or a wish to see the names only.
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let name = "any_call_with_any_arguments_is_answered";
    if arguments.iter().any(|argument| argument == "--list") {
        println!("{name}: test");
        return ExitCode::SUCCESS;
    }
    if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
        return ExitCode::SUCCESS;
    }
    let from_environment = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let seed = from_environment("TABLE86_FUZZ_SEED", 1);
    let first = from_environment("TABLE86_FUZZ_FIRST", 0);
    let end = first + from_environment("TABLE86_FUZZ_CALLS", CALLS);
    match fuzz(seed, first, end) {
        Ok(summary) => {
            println!("test {name} ... ok ({summary})");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("test {name} ... FAILED\n{failure}");
            ExitCode::FAILURE
        }
    }
}

/// A folder that goes away at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Scratch> {
        let path = std::env::temp_dir().join(format!("table86-fuzz-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        std::fs::create_dir(path.join("root"))?;
        // The worker is nobody.
        for dir in [&path, &path.join("root")] {
            std::fs::set_permissions(dir, PermissionsExt::from_mode(0o777))?;
        }
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left for the system to clear away.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Makes the calls from `first` to `end`; gives a summary, or says what went wrong.
fn fuzz(seed: u64, first: u64, end: u64) -> Result<String, String> {
    let mut next = first;
    let (mut workers, mut killed, mut ended) = (0, 0, 0);
    while next < end {
        let scratch = Scratch::new().map_err(|error| format!("no scratch folder: {error}"))?;
        let count = BATCH.min(end - next);
        let (status, stopped) =
            work(&scratch.0, seed, next, count).map_err(|error| format!("no worker: {error}"))?;
        workers += 1;
        let progress = Progress::read(&scratch.0);
        let done = progress.calls.min(count);
        match status.code() {
            Some(worker::DONE) => next += count,
            Some(worker::GUEST_ENDED) => ended += 1,
            Some(worker::NO_NAMESPACES) => return Ok("left out: no user namespaces here".to_owned()),
            None if stopped => killed += 1,
            // What a call asked for, such as a timer's signal; not what our own mistakes end in.
            None if status.signal().is_some_and(|signal| !MISTAKES.contains(&signal)) => ended += 1,
            _ => {
                let said = std::fs::read_to_string(scratch.0.join("log")).unwrap_or_default();
                return Err(format!(
                    "the worker ended with {status} in call {} of seed {seed}: {}\nit said:\n{said}",
                    next + done.saturating_sub(1),
                    calls::described(progress.call)
                ));
            }
        }
        if status.code() != Some(worker::DONE) {
            if done == 0 {
                return Err(format!("a worker ended with {status} before its first call {next}"));
            }
            next += done;
        }
    }
    Ok(format!("{} calls; {workers} workers, {killed} killed while waiting, {ended} ended", end - first))
}

/// Runs a worker to its end; tells whether it had to be killed.
fn work(dir: &Path, seed: u64, first: u64, count: u64) -> std::io::Result<(ExitStatus, bool)> {
    Progress::create(dir)?;
    let mut worker = Command::new(std::env::current_exe()?)
        .arg(worker::ARGUMENT)
        .arg(dir)
        .args([seed, first, count].map(|number| number.to_string()))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(dir.join("log"))?)
        .spawn()?;
    watch(&mut worker, dir)
}

fn watch(worker: &mut Child, dir: &Path) -> std::io::Result<(ExitStatus, bool)> {
    let mut last = (0, Instant::now());
    let mut woken = false;
    loop {
        if let Some(status) = worker.try_wait()? {
            return Ok((status, false));
        }
        std::thread::sleep(Duration::from_millis(10));
        let progress = Progress::read(dir);
        if progress.calls != last.0 {
            last = (progress.calls, Instant::now());
            woken = false;
            continue;
        }
        let waited = last.1.elapsed();
        // Before its first call, a worker may take its time.
        if progress.calls == 0 && waited < Duration::from_secs(60) {
            continue;
        }
        if waited > PATIENCE[1] {
            // With it ends all that it has started.
            worker::signal(progress.pid, libc::SIGKILL);
            worker.kill()?;
            return Ok((worker.wait()?, true));
        }
        if waited > PATIENCE[0] && !woken {
            woken = true;
            worker::signal(progress.pid, libc::SIGALRM);
        }
    }
}
