//! Mappings as others see them: `/proc/self/maps`, dumps, the debugger.

use super::Prot;
use super::map::{Area, Object};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One mapping. Displayed, it is its line of `/proc/self/maps` (proc_pid_maps(5)) without the line's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u32,
    /// First address behind it.
    pub end: u32,
    /// What the guest asked for.
    pub prot: Prot,
    /// `MAP_SHARED`.
    pub shared: bool,
    /// `MAP_GROWSDOWN`.
    pub grows_down: bool,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Device of the file, else 0.
    pub dev: u64,
    /// Inode number of the file, else 0.
    pub ino: u64,
    /// Name of memory without a file.
    pub name: Option<&'static str>,
    /// The name that the guest gave it (`PR_SET_VMA_ANON_NAME`).
    pub own_name: Option<Arc<str>>,
    file: Option<Arc<super::map::FileId>>,
}

impl Region {
    pub(super) fn new(start: u32, area: &Area) -> Region {
        let (file, offset, name) = match &area.object {
            Object::Anonymous(name) => (None, 0, *name),
            Object::File { file, offset } => (Some(Arc::clone(file)), *offset, None),
        };
        Region {
            start,
            end: area.end,
            prot: area.prot,
            shared: area.shared,
            grows_down: area.grows_down,
            offset,
            dev: file.as_ref().map_or(0, |file| file.dev),
            ino: file.as_ref().map_or(0, |file| file.ino),
            name,
            own_name: area.marks.name.clone(),
            file,
        }
    }

    /// The file's path, as given when it was mapped.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref()?.path.as_deref()
    }

    /// Tells whether it shows a file or a shared object rather than private zeros.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// The last column of `/proc/self/maps`.
    fn label(&self) -> Option<PathBuf> {
        match &self.own_name {
            Some(name) if self.has_file() => Some(format!("[anon_shmem:{name}]").into()),
            Some(name) if self.name.is_none() => Some(format!("[anon:{name}]").into()),
            _ => self.path().map(Path::to_path_buf).or_else(|| self.name.map(PathBuf::from)),
        }
    }
}

/// Column of the path in a line of a 64-bit kernel.
const PATH_COLUMN: usize = 73;

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |flag: Prot, letter| if self.prot.contains(flag) { letter } else { '-' };
        let line = format!(
            "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
            self.start,
            self.end,
            flag(Prot::READ, 'r'),
            flag(Prot::WRITE, 'w'),
            flag(Prot::EXEC, 'x'),
            if self.shared { 's' } else { 'p' },
            self.offset,
            libc::major(self.dev),
            libc::minor(self.dev),
            self.ino,
        );
        match self.label() {
            Some(label) => {
                // The kernel escapes the character that would end the line.
                let label = label.to_string_lossy().replace('\n', "\\012");
                write!(f, "{line:<PATH_COLUMN$}{label}")
            }
            None => f.write_str(&line),
        }
    }
}
