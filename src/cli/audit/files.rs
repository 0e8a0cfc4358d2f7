//! Finds programs in directories and examines them, several at a time.

use crate::cli::{Failure, dis};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use table86::audit::program::{Findings, examine};
use table86::loader::{LoadError, code};

/// What became of the files.
#[derive(Default)]
pub(super) struct Examined {
    /// Programs and libraries with what was found in them, in the order of the walk.
    pub programs: Vec<(PathBuf, Findings)>,
    /// All of it; examples are marked with the index in `programs`.
    pub total: Findings,
    /// Files that are no IA-32 ELF files.
    pub others: u64,
    /// Symbolic links, which are not followed below a directory.
    pub links: u64,
    /// IA-32 ELF files, or directories, that could not be read, and why.
    pub unreadable: Vec<(PathBuf, String)>,
    /// Bytes of files that were examined.
    pub file_bytes: u64,
}

/// A file to examine.
struct Task {
    path: PathBuf,
    bytes: u64,
    /// It was named on the command line: that it cannot be read is an error.
    is_named: bool,
}

/// Examines the files named, and all IA-32 ELF files below the directories named.
pub(super) fn examine_all(paths: &[PathBuf]) -> Result<Examined, Failure> {
    let mut examined = Examined::default();
    let mut tasks = Vec::new();
    for path in paths {
        if path.is_dir() {
            walk(path, &mut tasks, &mut examined);
        } else {
            let bytes = path.metadata().map_or(0, |metadata| metadata.len());
            tasks.push(Task { path: path.clone(), bytes, is_named: true });
        }
    }
    let results = run(&tasks);
    for (task, result) in tasks.into_iter().zip(results) {
        match result {
            Ok(findings) => {
                examined.total.merge(&findings, examined.programs.len() as u32);
                examined.file_bytes += task.bytes;
                examined.programs.push((task.path, findings));
            }
            Err(error) if task.is_named => return Err(dis::unreadable(&task.path, &error)),
            Err(error) => examined.unreadable.push((task.path, error.to_string())),
        }
    }
    Ok(examined)
}

/// Collects what is below a directory, in the order of names.
fn walk(directory: &Path, tasks: &mut Vec<Task>, examined: &mut Examined) {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return examined.unreadable.push((directory.to_owned(), error.to_string())),
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_symlink() {
            examined.links += 1;
        } else if metadata.is_dir() {
            walk(&path, tasks, examined);
        } else if metadata.is_file() && is_ia32(&path) {
            tasks.push(Task { path, bytes: metadata.len(), is_named: false });
        } else {
            examined.others += 1;
        }
    }
}

/// Tells whether a file's head is that of an IA-32 ELF program or library.
fn is_ia32(path: &Path) -> bool {
    let mut head = [0; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    let half = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    // 32 bits, little-endian; ET_EXEC or ET_DYN; EM_386 or EM_486.
    read.is_ok()
        && head.starts_with(b"\x7fELF\x01\x01")
        && matches!(half(16), 2 | 3)
        && matches!(half(18), 3 | 6)
}

/// Examines files on as many threads as there are processors, and shows how far it is if somebody looks.
fn run(tasks: &[Task]) -> Vec<Result<Findings, LoadError>> {
    let bar = if tasks.len() > 1 {
        // It is drawn on stderr, and only if that is a terminal.
        ProgressBar::new(tasks.iter().map(|task| task.bytes).sum())
    } else {
        ProgressBar::hidden()
    };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {wide_msg}") {
        bar.set_style(style);
    }
    // Large ones first, so that no thread is left with one at the end.
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(tasks[index].bytes));
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let threads = thread::available_parallelism().map_or(1, usize::from).min(tasks.len().max(1));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let task = &tasks[index];
                    bar.set_message(task.path.display().to_string());
                    let result = code::image(&task.path, None, 0).map(|image| examine(&image));
                    bar.inc(task.bytes);
                    if let Ok(mut results) = results.lock() {
                        results.push((index, result));
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|result| result.0);
    results.into_iter().map(|(_, result)| result).collect()
}
