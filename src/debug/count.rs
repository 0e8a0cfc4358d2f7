//! Counted runs: how often each row of the tables and each system call is executed, exactly, over all threads, children and
//! programs that are executed.
//!
//! A [`Counter`] is the observer of a process whose machines count ([`Machine::counting`](crate::Machine::counting)); it writes records to a file that all
//! processes of the run share, and [`Totals`] reads them.

use super::symbols::Symbols;
use crate::isa::FORMS;
use crate::isa::decode;
use crate::isa::decode::MAX_LEN;
use crate::kernel::errno::Errno;
use crate::kernel::process::{ExitReason, Observer, Process};
use crate::kernel::{signal, strace, table};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What a counter wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Rows and system calls.
    Rows,
    /// Where in files the instructions were, too.
    Places,
}

/// Counts what a process does.
pub struct Counter {
    output: strace::Output,
    detail: Detail,
    symbols: Symbols,
    calls: BTreeMap<u32, u64>,
}

impl Counter {
    /// Writes records to `output`. Files of mappings are looked for below `sysroot` first.
    pub fn new(output: strace::Output, detail: Detail, sysroot: Option<PathBuf>) -> Arc<Mutex<Counter>> {
        let symbols = Symbols::new(sysroot);
        Arc::new(Mutex::new(Counter { output, detail, symbols, calls: BTreeMap::new() }))
    }

    /// Writes what the thread has counted since the last time.
    fn flush(&mut self, process: &Process) {
        let mut rows = BTreeMap::<u16, i64>::new();
        let mut places = HashMap::<u32, i64>::new();
        process.machine.drain_counts(|addr, row, count| {
            *rows.entry(row).or_default() += count;
            if self.detail == Detail::Places {
                *places.entry(addr).or_default() += count;
            }
        });
        let mut text = String::new();
        for (row, count) in rows.into_iter().filter(|(_, count)| *count != 0) {
            let _ = writeln!(text, "row {row} {count}");
        }
        for (nr, count) in std::mem::take(&mut self.calls) {
            let _ = writeln!(text, "call {nr} {count}");
        }
        self.places(process, places, &mut text);
        // One call, so that another process's records come before or behind.
        self.output.write(text.as_bytes());
    }

    /// Says where in files instructions were, by the mappings as they are.
    fn places(&mut self, process: &Process, places: HashMap<u32, i64>, text: &mut String) {
        if places.is_empty() {
            return;
        }
        let memory = &process.machine.memory;
        let mut places: Vec<(u32, i64)> = places.into_iter().filter(|(_, count)| *count != 0).collect();
        places.sort_unstable();
        let mut rest = &places[..];
        for region in memory.regions() {
            let from = rest.partition_point(|(addr, _)| *addr < region.start);
            let to = rest.partition_point(|(addr, _)| *addr < region.end);
            let inside = rest.get(from..to).unwrap_or_default();
            rest = &rest[to..];
            let Some(module) = self.symbols.module(&region).filter(|_| !inside.is_empty()) else { continue };
            let Some(path) = &module.host else { continue };
            let _ = writeln!(text, "file {}", path.display().to_string().replace('\n', "\\n"));
            for (addr, count) in inside {
                let offset = u64::from(addr - region.start) + region.offset;
                let mut bytes = [0; MAX_LEN];
                let len = memory.fetch(*addr, &mut bytes);
                // What a mapping shows now may not be what it showed then.
                let len = decode(&bytes[..len], *addr).map_or(1, |insn| insn.len);
                let _ = writeln!(text, "at {offset} {len} {count}");
            }
        }
    }
}

impl Observer for Counter {
    fn enter(&mut self, process: &Process, nr: u32, _: [u32; 6]) {
        *self.calls.entry(nr).or_default() += 1;
        let Some(row) = table::info(nr) else { return };
        // What is counted before a fork is the parent's; behind an execve or the end, there is nobody to tell; and when
        // mappings change, places are others.
        let splits = matches!(row.name, "fork" | "vfork" | "clone" | "clone3");
        let remaps = self.detail == Detail::Places && (row.module == "mm" || row.module == "ipc");
        if splits || remaps || strace::may_not_return(nr) {
            self.flush(process);
        }
    }

    fn leave(&mut self, _: &Process, _: u32, _: [u32; 6], _: Result<u32, Errno>) {}

    fn signal(&mut self, _: &Process, _: &signal::Info) {}

    fn exit(&mut self, process: &Process, _: ExitReason) {
        self.flush(process);
    }
}

/// Instructions of a file by their offsets: bytes of each, and how often it was executed.
pub type Places = BTreeMap<u64, (u8, u64)>;

/// What a run has executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// By row: index into [`FORMS`].
    pub rows: BTreeMap<usize, u64>,
    /// By number of the call.
    pub calls: BTreeMap<u32, u64>,
    /// By file.
    pub files: BTreeMap<PathBuf, Places>,
}

impl Totals {
    /// Adds up the records in a file.
    ///
    /// # Errors
    /// The host's, and `InvalidData` for what is no record.
    pub fn read(path: &Path) -> io::Result<Totals> {
        let mut totals = Totals::default();
        let mut places = HashMap::<(usize, u64), (u8, i64)>::new();
        let mut rows = BTreeMap::<usize, i64>::new();
        let mut files: Vec<PathBuf> = Vec::new();
        let mut known = HashMap::<PathBuf, usize>::new();
        let mut file = 0;
        for line in io::BufReader::new(std::fs::File::open(path)?).lines() {
            let line = line?;
            let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("`{line}` is no record"));
            let (kind, rest) = line.split_once(' ').ok_or_else(bad)?;
            if kind == "file" {
                let path = PathBuf::from(rest);
                file = *known.entry(path.clone()).or_insert_with(|| {
                    files.push(path);
                    files.len() - 1
                });
                continue;
            }
            let numbers: Vec<i64> =
                rest.split(' ').map(str::parse).collect::<Result<_, _>>().map_err(|_| bad())?;
            match (kind, &numbers[..]) {
                ("row", &[row, count]) if (0..FORMS.len() as i64).contains(&row) => {
                    *rows.entry(row as usize).or_default() += count;
                }
                ("call", &[nr, count]) => *totals.calls.entry(nr as u32).or_default() += count as u64,
                ("at", &[offset, len, count]) => {
                    let entry = places.entry((file, offset as u64)).or_insert((len as u8, 0));
                    entry.1 += count;
                }
                _ => return Err(bad()),
            }
        }
        totals.rows =
            rows.into_iter().filter(|(_, count)| *count > 0).map(|(at, n)| (at, n as u64)).collect();
        for ((file, offset), (len, count)) in places.into_iter().filter(|(_, (_, count))| *count > 0) {
            totals.files.entry(files[file].clone()).or_default().insert(offset, (len, count as u64));
        }
        Ok(totals)
    }

    /// Instructions executed.
    pub fn instructions(&self) -> u64 {
        self.rows.values().sum()
    }
}
