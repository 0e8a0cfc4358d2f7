//! Why a program could not be loaded.

use super::elf::ElfError;
use super::hex::HexError;
use crate::memory::MapError;
use std::ffi::OsString;
use std::io;

/// Why a program could not be loaded. The message does not name the program's file; the caller does.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no such file.
    #[error("not found")]
    NotFound,
    /// The host refuses to open or read it.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// A directory, a device, a pipe.
    #[error("{0}, not a program")]
    NotAFile(&'static str),
    /// A file without contents.
    #[error("empty file")]
    Empty,
    /// Text without `#!`.
    #[error(
        "text, neither a `#!` script nor a hex listing; say --as hex to see what keeps it from being one"
    )]
    Text,
    /// A file of another kind.
    #[error("{0}, not a program for IA-32 Linux; if it is a flat image all the same, say --as flat")]
    Foreign(&'static str),
    /// Said to be a script, and does not start with `#!`.
    #[error("the first line is not `#! INTERPRETER [ARGUMENT]`, or is too long")]
    BadScript,
    /// Scripts whose interpreters are scripts, and so on.
    #[error("more than {max} scripts interpret one another", max = super::SCRIPTS_MAX)]
    TooManyScripts,
    /// The interpreter of a script or the dynamic linker is not there.
    #[error("interpreter {} not found{}", .path.display(), hint(*.sysroot))]
    NoInterpreter {
        /// Its path, as the program says it.
        path: OsString,
        /// A sysroot was given.
        sysroot: bool,
    },
    /// The interpreter of a script or the dynamic linker cannot be loaded.
    #[error("interpreter {}: {error}", .path.display())]
    Interpreter {
        /// Its path, as the program says it.
        path: OsString,
        /// Why.
        error: Box<LoadError>,
    },
    /// Not an ELF file that can run.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// Not a hex listing.
    #[error(transparent)]
    Hex(#[from] HexError),
    /// The file has more bytes than memory can hold.
    #[error("{bytes} bytes do not fit into the {room} that there are (see --memory)")]
    TooLarge {
        /// Bytes in the file.
        bytes: u64,
        /// Bytes there would have been room for.
        room: u64,
    },
    /// An image that reaches over the end of the address space, or into the stack.
    #[error(
        "{bytes} bytes at {org:#x} leave the address space or reach into the stack; choose another --org"
    )]
    BadOrg {
        /// Bytes of the image.
        bytes: u64,
        /// Where it was to go.
        org: u32,
    },
    /// Arguments and environment are too long for a new program (`E2BIG`).
    #[error("arguments and environment take {bytes} bytes; {max} at most are allowed")]
    ArgumentsTooLong {
        /// Bytes they take.
        bytes: u64,
        /// Bytes they may take.
        max: u64,
    },
    /// Memory could not be mapped.
    #[error("no memory for {what} ({bytes} bytes): {error}{}", memory_hint(*.error))]
    Map {
        /// What for.
        what: &'static str,
        /// How much.
        bytes: u64,
        /// Why.
        error: MapError,
    },
}

fn hint(sysroot: bool) -> &'static str {
    if sysroot { ", neither under the sysroot nor on the host" } else { "; give -L SYSROOT" }
}

fn memory_hint(error: MapError) -> &'static str {
    if error == MapError::NoMemory { " (see --memory)" } else { "" }
}

impl LoadError {
    /// Tells whether a file is missing, rather than unfit: the exit status is then 127 instead of 126, as in shells.
    pub fn is_not_found(&self) -> bool {
        match self {
            LoadError::NotFound | LoadError::NoInterpreter { .. } => true,
            LoadError::Interpreter { error, .. } => error.is_not_found(),
            _ => false,
        }
    }
}
