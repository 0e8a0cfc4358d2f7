//! Which system calls are shown: strace's `-e trace=…`.

use crate::kernel::table::{ArgKind, SYSCALLS, SyscallInfo};

/// A set of system calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// As it was written.
    text: String,
    /// By row of the table.
    shown: Vec<bool>,
}

impl Default for Filter {
    /// All calls.
    fn default() -> Filter {
        Filter { text: "all".to_owned(), shown: vec![true; SYSCALLS.len()] }
    }
}

impl Filter {
    /// Reads `trace=LIST`, or LIST alone: names and classes with commas between, `!` before all that is not to be shown. A
    /// `?` before a name that may be unknown is accepted.
    ///
    /// # Errors
    /// A text that names what is not known.
    pub fn parse(text: &str) -> Result<Filter, String> {
        let list = match text.split_once('=') {
            Some(("trace" | "t", list)) => list,
            Some((other, _)) => return Err(format!("`{other}` is not supported; only trace= is")),
            None => text,
        };
        let (negated, names) = list.strip_prefix('!').map_or((false, list), |rest| (true, rest));
        let mut shown = vec![negated; SYSCALLS.len()];
        for name in names.split(',') {
            let (optional, name) = name.strip_prefix('?').map_or((false, name), |rest| (true, rest));
            let mut found = matches!(name, "none");
            for (row, shown) in SYSCALLS.iter().zip(&mut shown) {
                if is(row, name) {
                    found = true;
                    *shown = !negated;
                }
            }
            // A class may be empty; a name that nothing has is a mistake.
            if !found && !optional {
                return Err(format!("no system call and no class is called `{name}`"));
            }
        }
        Ok(Filter { text: text.to_owned(), shown })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Tells whether the call is in the set; a number that Linux does not have is, if all are.
    pub fn shows(&self, nr: u32) -> bool {
        match SYSCALLS.binary_search_by_key(&nr, |row| row.nr) {
            Ok(index) => self.shown[index],
            Err(_) => self.shown.iter().all(|&shown| shown),
        }
    }
}

/// Tells whether a call has this name or is in this class.
fn is(row: &SyscallInfo, name: &str) -> bool {
    let has = |wanted: fn(ArgKind) -> bool| row.args.iter().any(|arg| wanted(arg.kind));
    let within = |module: &str| row.module == module || row.module.starts_with(&format!("{module}::"));
    match name.strip_prefix('%').unwrap_or(name) {
        "all" => true,
        "file" => has(|kind| kind == ArgKind::Path),
        "desc" => has(|kind| matches!(kind, ArgKind::Fd | ArgKind::DirFd)),
        "process" => within("task") || within("exec") || row.name == "kill",
        // The calls that replaced `socketcall` have their numbers in a row; some of them are the host's.
        "network" | "net" => {
            within("socket") || (359..=373).contains(&row.nr) || has(|kind| kind == ArgKind::MsgFlags)
        }
        "signal" => within("signal") || has(|kind| kind == ArgKind::Signal),
        "memory" => within("mm") || within("numa"),
        "ipc" => within("ipc") || (393..=402).contains(&row.nr),
        "clock" => has(|kind| kind == ArgKind::ClockId) && within("time"),
        _ => row.name == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<&'static str> {
        let filter = Filter::parse(text).unwrap();
        SYSCALLS.iter().filter(|row| filter.shows(row.nr)).map(|row| row.name).collect()
    }

    #[test]
    fn calls_are_picked_by_name_and_class() {
        assert_eq!(names("trace=read,write"), ["read", "write"]);
        assert_eq!(names("none").len(), 0);
        assert_eq!(names("trace=!read").len(), SYSCALLS.len() - 1);
        assert!(names("%file").contains(&"openat") && !names("file").contains(&"read"));
        assert!(names("%memory").contains(&"mmap2"));
        assert!(names("%process").contains(&"execve"));
        assert!(names("%network").contains(&"socket"));
        assert!(names("%signal").contains(&"rt_sigaction"));
        assert_eq!(names("?nothing,read"), ["read"]);
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(Filter::parse("trace=raed").is_err());
        assert!(Filter::parse("signal=none").is_err());
    }
}
