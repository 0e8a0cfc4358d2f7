//! The files to be loaded: the program, what interprets it, and where they are found.

use super::detect::{self, Format, HEAD};
use super::elf::Elf;
use super::{LoadError, Options, SCRIPTS_MAX};
use crate::kernel::exec::script::Script;
use crate::kernel::paths::{Follow, below_root, under_sysroot};
use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A program to be loaded, with what it is given.
#[derive(Debug)]
pub struct Program {
    /// Its file.
    pub file: File,
    /// The file's path on the host, absolute.
    pub path: PathBuf,
    /// The name it is executed by (`AT_EXECFN`).
    pub exec_name: OsString,
    /// Arguments, `argv[0]` included. No NULs inside.
    pub argv: Vec<OsString>,
    /// Environment, `NAME=VALUE` each.
    pub environment: Vec<OsString>,
}

impl Program {
    /// Opens a program by its path on the host.
    ///
    /// # Errors
    /// [`LoadError::NotFound`], [`LoadError::NotAFile`], [`LoadError::Unreadable`].
    pub fn open(path: &Path, argv: Vec<OsString>, environment: Vec<OsString>) -> Result<Program, LoadError> {
        let file = open_file(path)?;
        let path_on_host = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Ok(Program { file, path: path_on_host, exec_name: path.into(), argv, environment })
    }

    /// A program that is open already; its path is asked of the host.
    ///
    /// # Errors
    /// [`LoadError::NotAFile`], [`LoadError::Unreadable`].
    pub fn from_file(
        file: File,
        exec_name: OsString,
        argv: Vec<OsString>,
        environment: Vec<OsString>,
    ) -> Result<Program, LoadError> {
        let found = file.metadata().map_err(LoadError::Unreadable)?;
        if let Some(error) = not_a_file(found.file_type()) {
            return Err(error);
        }
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let path = std::fs::read_link(link).unwrap_or_else(|_| PathBuf::from(&exec_name));
        Ok(Program { file, path, exec_name, argv, environment })
    }

    /// What the file is, or is said to be.
    pub(super) fn format(&self, options: &Options) -> Result<Format, LoadError> {
        match options.format {
            Some(format) => Ok(format),
            None => detect::detect(&head(&self.file)?, || self.read_all(super::hex::MAX_TEXT)),
        }
    }

    /// The program that runs in the end: follows `#!` lines (execve(2), "Interpreter scripts").
    pub(super) fn behind_scripts(mut self, options: &Options) -> Result<Program, LoadError> {
        let mut name = self.exec_name.clone();
        for depth in 0..=SCRIPTS_MAX {
            let head = head(&self.file)?;
            let said = options.format == Some(Format::Script) && depth == 0;
            if !head.starts_with(b"#!") || !matches!(options.format, None | Some(Format::Script)) {
                return if said { Err(LoadError::BadScript) } else { Ok(self) };
            }
            let mut padded = [0; HEAD];
            padded[..head.len()].copy_from_slice(&head);
            let script = Script::parse(&padded).ok_or(LoadError::BadScript)?;
            let interpreter = OsString::from_vec(script.interpreter.as_bytes().to_vec());
            self = self.interpreted_by(&script, name, &interpreter, options)?;
            name = interpreter;
        }
        Err(LoadError::TooManyScripts)
    }

    /// The interpreter that runs this script, known by `script_name`.
    fn interpreted_by(
        self,
        script: &Script,
        script_name: OsString,
        interpreter: &OsStr,
        options: &Options,
    ) -> Result<Program, LoadError> {
        let path = resolve(interpreter, options);
        let file = open_file(&path).map_err(|error| interpreter_error(interpreter, options, error))?;
        let c_string = |text: OsString| CString::new(text.into_vec()).unwrap_or_default();
        let argv = script.arguments(c_string(script_name), self.argv.into_iter().map(c_string).collect());
        Ok(Program {
            file,
            path: std::fs::canonicalize(&path).unwrap_or(path),
            argv: argv.into_iter().map(|text| OsString::from_vec(text.into_bytes())).collect(),
            ..self
        })
    }

    /// The whole file.
    ///
    /// # Errors
    /// If it is longer than `max` bytes, empty, or cannot be read.
    pub(super) fn read_all(&self, max: u64) -> Result<Vec<u8>, LoadError> {
        let len = self.file.metadata().map_err(LoadError::Unreadable)?.len();
        if len > max {
            return Err(LoadError::TooLarge { bytes: len, room: max });
        }
        let mut bytes = Vec::with_capacity(len as usize);
        let mut file = &self.file;
        file.rewind().map_err(LoadError::Unreadable)?;
        // The file may grow meanwhile.
        file.take(max).read_to_end(&mut bytes).map_err(LoadError::Unreadable)?;
        if bytes.is_empty() {
            return Err(LoadError::Empty);
        }
        Ok(bytes)
    }
}

/// A dynamic linker.
pub(super) struct Interpreter {
    pub elf: Elf,
    pub file: File,
    pub path: PathBuf,
    name: OsString,
}

impl Interpreter {
    /// Opens the file that `PT_INTERP` names.
    pub(super) fn open(name: &OsStr, options: &Options) -> Result<Interpreter, LoadError> {
        let path = resolve(name, options);
        let opened = open_file(&path).and_then(|file| Ok((Elf::read(&file)?, file)));
        let (elf, file) = opened.map_err(|error| interpreter_error(name, options, error))?;
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        Ok(Interpreter { elf, file, path, name: name.to_owned() })
    }

    /// Says of an error that it is the interpreter's.
    pub(super) fn error(&self, error: LoadError) -> LoadError {
        LoadError::Interpreter { path: self.name.clone(), error: Box::new(error) }
    }
}

fn interpreter_error(name: &OsStr, options: &Options, error: LoadError) -> LoadError {
    match error {
        LoadError::NotFound => {
            LoadError::NoInterpreter { path: name.to_owned(), sysroot: options.sysroot.is_some() }
        }
        error => LoadError::Interpreter { path: name.to_owned(), error: Box::new(error) },
    }
}

/// The host's path for a path that the guest names.
fn resolve(name: &OsStr, options: &Options) -> PathBuf {
    let path = Path::new(name);
    match &options.sysroot {
        Some(root) if options.rooted && path.is_absolute() => below_root(root, name, Follow::Yes),
        Some(root) if path.is_absolute() => {
            under_sysroot(root, name, Follow::Yes).unwrap_or_else(|| path.to_owned())
        }
        _ => path.to_owned(),
    }
}

/// A host path as the guest knows it: without the sysroot in front.
pub(super) fn guest_path(path: &Path, options: &Options) -> PathBuf {
    let root = options.sysroot.as_ref().and_then(|root| std::fs::canonicalize(root).ok());
    match root.and_then(|root| path.strip_prefix(root).ok()) {
        Some(rest) => Path::new("/").join(rest),
        None => path.to_owned(),
    }
}

/// Opens a regular file for reading.
fn open_file(path: &Path) -> Result<File, LoadError> {
    // Not to wait for a writer if it is a pipe, nor to take a terminal.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => LoadError::NotFound,
        _ => match std::fs::metadata(path) {
            Ok(found) => not_a_file(found.file_type()).unwrap_or(LoadError::Unreadable(error)),
            Err(_) => LoadError::Unreadable(error),
        },
    })?;
    let found = file.metadata().map_err(LoadError::Unreadable)?;
    match not_a_file(found.file_type()) {
        Some(error) => Err(error),
        None => Ok(file),
    }
}

/// The error for what is not a regular file.
fn not_a_file(kind: std::fs::FileType) -> Option<LoadError> {
    let name = match kind {
        kind if kind.is_file() => return None,
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Some(LoadError::NotAFile(name))
}

/// The file's first bytes.
fn head(file: &File) -> Result<Vec<u8>, LoadError> {
    let mut head = vec![0; HEAD];
    let mut len = 0;
    while len < HEAD {
        match file.read_at(&mut head[len..], len as u64) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(LoadError::Unreadable(error)),
        }
    }
    head.truncate(len);
    Ok(head)
}

/// Finds a program as a shell of the guest would, except that a file of that name in the working directory comes first: a
/// name with a slash is a path, another one is looked for in the directories of `path`. Absolute paths are looked up
/// as the options' root has it.
pub fn search_path(name: &OsStr, path: Option<&OsStr>, options: &Options) -> PathBuf {
    let as_given = PathBuf::from(name);
    if name.as_bytes().contains(&b'/') || as_given.exists() {
        return resolve(name, options);
    }
    let directories = path.map(std::env::split_paths).into_iter().flatten();
    let mut files = directories.map(|directory| resolve(directory.join(name).as_os_str(), options));
    files.find(|file| file.is_file()).unwrap_or(as_given)
}
