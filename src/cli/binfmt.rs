//! `table86 binfmt`: has the host's kernel run i386 programs by Table86.

use super::Failure;
use clap::Args;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Name of the format in binfmt_misc.
const NAME: &str = "table86-i386";
/// Where the kernel takes registrations.
const REGISTER: &str = "/proc/sys/fs/binfmt_misc/register";
/// The first bytes of an ELF file: 32 bits, little endian, version 1; then, behind the OS ABI and its padding, ET_EXEC and
/// EM_386 (elf(5)).
const MAGIC: [u8; 20] = *b"\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x03\x00";
/// Bits of [`MAGIC`] that count: any OS ABI, and ET_DYN (3) as well.
const MASK: [u8; 20] = *b"\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\xfe\xff\xff\xff";
/// Keep argv[0]; open the interpreter at once, so that it works in a chroot or container.
const FLAGS: &str = "PF";

/// Prints the line that makes the kernel run i386 programs by Table86 (binfmt_misc), or registers it.
///
/// The interpreter has to be called by a name with i386 in it, and in a chroot or container has to be a static executable.
#[derive(Args)]
#[command(
    about = "Has the kernel run i386 programs by Table86",
    after_help = "Examples:\n  table86 binfmt > /etc/binfmt.d/table86-i386.conf   for systemd, at each start\n  \
                  table86 binfmt --install                           at once, as root\n  \
                  table86 binfmt --remove                            undone"
)]
pub(super) struct Binfmt {
    /// Register it now
    #[arg(long, conflicts_with = "remove")]
    install: bool,
    /// Take the registration back
    #[arg(long)]
    remove: bool,
    /// The program that the kernel starts [default: this one, by a name next to it that ends in -i386]
    #[arg(long, value_name = "PATH")]
    interpreter: Option<PathBuf>,
}

impl Binfmt {
    pub(super) fn execute(self) -> Result<(), Failure> {
        if self.remove {
            return write(&Path::new(REGISTER).with_file_name(NAME), b"-1");
        }
        let interpreter = match self.interpreter {
            Some(path) => std::path::absolute(&path)
                .map_err(|error| Failure::own(format!("{}: {error}", path.display())))?,
            None => beside()?,
        };
        let line = line(&interpreter)?;
        if self.install {
            if !interpreter.exists() {
                return Err(Failure::own(format!(
                    "{} does not exist; make it, for instance as a link to {}",
                    interpreter.display(),
                    own_path()?.display()
                )));
            }
            return write(Path::new(REGISTER), &line);
        }
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        Ok(out.write_all(b"\n")?)
    }
}

fn own_path() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::own(format!("cannot find this program: {error}")))
}

/// This program by a name that asks for qemu-i386's command line.
fn beside() -> Result<PathBuf, Failure> {
    let path = own_path()?;
    let name = path.file_name().unwrap_or_default();
    if super::is_like_qemu(name) {
        return Ok(path);
    }
    let mut name: OsString = name.to_owned();
    name.push("-i386");
    Ok(path.with_file_name(name))
}

/// The line that the kernel wants (Documentation/admin-guide/binfmt-misc.rst).
fn line(interpreter: &Path) -> Result<Vec<u8>, Failure> {
    // The kernel's limit for the interpreter's name.
    const LONGEST: usize = 127;
    let path = interpreter.as_os_str().as_bytes();
    if path.contains(&b':') || path.contains(&b'\n') || path.len() > LONGEST {
        let text = format!("{}: binfmt_misc cannot take this path", interpreter.display());
        return Err(Failure::own(text));
    }
    let text = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let mut line = format!(":{NAME}:M::{}:{}:", text(&MAGIC), text(&MASK)).into_bytes();
    line.extend_from_slice(path);
    line.extend_from_slice(format!(":{FLAGS}").as_bytes());
    Ok(line)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => {
                "; is binfmt_misc mounted? mount -t binfmt_misc none /proc/sys/fs/binfmt_misc"
            }
            io::ErrorKind::PermissionDenied => "; this is for root",
            io::ErrorKind::AlreadyExists => "; it is registered already",
            _ => "",
        };
        Failure::own(format!("{}: {error}{help}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_what_the_kernel_wants() {
        let line = line(Path::new("/usr/bin/table86-i386")).unwrap();
        let text = String::from_utf8(line).unwrap();
        let fields: Vec<&str> = text.split(':').collect();
        assert_eq!(fields[1..4], [NAME, "M", ""]);
        assert!(fields[4].starts_with("\\x7f\\x45\\x4c\\x46\\x01"));
        assert_eq!(fields[4].len(), fields[5].len());
        assert_eq!(fields[6..], ["/usr/bin/table86-i386", "PF"]);
    }

    #[test]
    fn paths_that_the_kernel_cannot_take_are_refused() {
        assert!(line(Path::new("/a:b")).is_err());
        assert!(line(Path::new(&format!("/{}", "x".repeat(127)))).is_err());
    }
}
