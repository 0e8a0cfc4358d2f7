//! From the guest's paths to the host's: the roots of `-L` and `--root`, and the guest's view of its own `/proc` entries.
//!
//! Working directory, root and symbolic links are the host's, so most paths go to the host as they are.

use super::Process;
use super::args::{Fd, Path};
use super::errno::Errno;
use super::{host, proc};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, PathBuf};

/// Most symbolic links in one look-up (`MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;

/// Whether a call follows a symbolic link at the end of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// As `stat` does.
    Yes,
    /// As `lstat`, `unlink` and `rename` do.
    No,
}

impl Follow {
    /// From the `flags` of the `…at` calls with `AT_SYMLINK_NOFOLLOW`.
    pub fn unless_nofollow(flags: u32) -> Follow {
        if flags & libc::AT_SYMLINK_NOFOLLOW as u32 != 0 { Follow::No } else { Follow::Yes }
    }
}

/// The host's path for a path of the guest that starts at `at`.
///
/// # Errors
/// `EFAULT`, `ENAMETOOLONG`. That the path leads nowhere is for the host to say.
pub fn resolve(p: &Process, at: Fd, path: Path, follow: Follow) -> Result<CString, Errno> {
    let bytes = path.read(&p.machine.memory)?;
    Ok(resolve_bytes(p, at, &bytes, follow))
}

/// As [`resolve`], for a path that is already read and contains no NUL.
pub fn resolve_bytes(p: &Process, at: Fd, path: &[u8], follow: Follow) -> CString {
    if follow == Follow::Yes
        && let Some(program) = proc::program(p, at, path)
    {
        return c_string(program.as_os_str().as_bytes());
    }
    let Some(root) = &p.options.sysroot else { return c_string(path) };
    if p.options.rooted {
        return c_string(&inside(root, at, path, follow).unwrap_or_else(|| path.to_vec()));
    }
    if path.first() == Some(&b'/')
        && !is_hosts(std::path::Path::new(OsStr::from_bytes(path)))
        && let Some(inside) = under_sysroot(root, OsStr::from_bytes(path), follow)
    {
        return c_string(inside.as_os_str().as_bytes());
    }
    c_string(path)
}

/// The host's path with `--root`; `None` for one that is the host's as it is: an empty one, one that starts outside, and
/// [`SHARED`] ones.
fn inside(root: &std::path::Path, at: Fd, path: &[u8], follow: Follow) -> Option<Vec<u8>> {
    if path.is_empty() {
        return None;
    }
    let host = PathBuf::from(OsString::from_vec(absolute(at, path)?));
    let guest = match path.first() {
        Some(b'/') => host,
        _ => std::path::Path::new("/").join(host.strip_prefix(root).ok()?),
    };
    if is_shared(&guest) {
        return None;
    }
    let mut found = below_root(root, guest.as_os_str(), follow).into_os_string().into_vec();
    // Only a directory can be called so.
    if path.ends_with(b"/") {
        found.push(b'/');
    }
    Some(found)
}

/// Directories that are the host's even with `--root`, and even if there are some of that name with `-L`.
const SHARED: [&str; 3] = ["proc", "dev", "sys"];
/// Directories for what running programs leave there: with `-L`, what the host has there comes first.
const RUNTIME: [&str; 2] = ["tmp", "run"];

fn is_shared(path: &std::path::Path) -> bool {
    is_within(path, &SHARED)
}

/// Tells whether a path leads into one of some directories in `/`.
fn is_within(path: &std::path::Path, directories: &[&str]) -> bool {
    let mut components = path.components().filter(|component| *component != Component::RootDir);
    let first = components.next();
    first.is_some_and(|first| directories.iter().any(|name| first == Component::Normal(name.as_ref())))
        && components.all(|component| component != Component::ParentDir)
}

/// Tells whether `-L` does not count for an absolute path.
fn is_hosts(path: &std::path::Path) -> bool {
    is_shared(path) || is_within(path, &RUNTIME) && path.symlink_metadata().is_ok()
}

/// The path as the guest knows it: without the `-L` root in front.
pub fn to_guest(p: &Process, path: PathBuf) -> PathBuf {
    match &p.options.sysroot {
        Some(root) => match path.strip_prefix(root) {
            Ok(rest) => PathBuf::from("/").join(rest),
            Err(_) => path,
        },
        None => path,
    }
}

/// A host path from bytes that contain no NUL.
pub fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}

/// Looks `path` up with `root` as `/`, following links inside of it, and gives the host's path if there is such a
/// file.
pub fn under_sysroot(root: &std::path::Path, path: &OsStr, follow: Follow) -> Option<PathBuf> {
    walk(root, path, follow, true)
}

/// As [`under_sysroot`]; where nothing is found, the path below `root` where it would be.
pub fn below_root(root: &std::path::Path, path: &OsStr, follow: Follow) -> PathBuf {
    walk(root, path, follow, false).unwrap_or_else(|| root.to_owned())
}

fn walk(root: &std::path::Path, path: &OsStr, follow: Follow, existing: bool) -> Option<PathBuf> {
    // Components still to be walked, last one first.
    let mut todo: Vec<OsString> = Vec::new();
    push_components(&mut todo, path);
    let mut links = 0;
    let mut at = root.to_owned();
    while let Some(name) = todo.pop() {
        if name == ".." {
            if at != root {
                at.pop();
            }
            continue;
        }
        at.push(&name);
        let kind = match std::fs::symlink_metadata(&at) {
            Ok(found) => found.file_type(),
            Err(_) if existing => return None,
            Err(_) => continue,
        };
        if kind.is_symlink() && (follow == Follow::Yes || !todo.is_empty()) {
            links += 1;
            if links > MAX_SYMLINKS {
                // The host will say that it is one too many.
                return (!existing).then_some(at);
            }
            let target = std::fs::read_link(&at).ok()?;
            if target.is_absolute() && !existing && is_shared(&target) {
                return Some(todo.iter().rev().fold(target, |path, name| path.join(name)));
            }
            if target.is_absolute() {
                at = root.to_owned();
            } else {
                at.pop();
            }
            push_components(&mut todo, target.as_os_str());
        }
    }
    Some(at)
}

fn push_components(todo: &mut Vec<OsString>, path: &OsStr) {
    for component in std::path::Path::new(path).components().rev() {
        match component {
            Component::Normal(name) => todo.push(name.to_owned()),
            Component::ParentDir => todo.push("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

/// The absolute host path of a relative one, as far as it can be told without a look at the files: for entries of
/// `/proc` that are reached from a directory.
pub fn absolute(at: Fd, path: &[u8]) -> Option<Vec<u8>> {
    if path.first() == Some(&b'/') {
        return Some(path.to_vec());
    }
    let mut base = match at {
        Fd::CWD => std::env::current_dir().ok()?,
        Fd(fd) => host::path_of_fd(fd)?,
    }
    .into_os_string()
    .into_vec();
    base.push(b'/');
    base.extend_from_slice(path);
    Some(base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_runs_is_the_hosts_whatever_a_sysroot_has() {
        let is_hosts = |path: &str| is_hosts(std::path::Path::new(path));
        assert!(is_hosts("/proc") && is_hosts("/proc/none") && is_hosts("//dev/./null") && is_hosts("/tmp"));
        assert!(!is_hosts("/tmp/table86-no-such-file") && !is_hosts("/usr/tmp") && !is_hosts("/dev/../etc"));
    }

    #[test]
    fn links_inside_the_root_stay_inside() {
        let root = std::env::temp_dir().join(format!("table86-paths-{}", std::process::id()));
        let lib = root.join("usr/lib");
        std::fs::create_dir_all(&lib).unwrap();
        std::fs::write(lib.join("libx.so.1"), "x").unwrap();
        symlink("/usr/lib", root.join("lib")).unwrap();
        symlink("libx.so.1", lib.join("libx.so")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let find = |path: &str, follow| under_sysroot(&root, OsStr::new(path), follow);
        assert_eq!(find("/lib/libx.so", Follow::Yes), Some(lib.join("libx.so.1")));
        assert_eq!(find("/lib/libx.so", Follow::No), Some(lib.join("libx.so")));
        assert_eq!(find("/../../usr/./lib//libx.so.1", Follow::Yes), Some(lib.join("libx.so.1")));
        assert_eq!(find("/lib/missing", Follow::Yes), None);
        assert_eq!(find("/loop", Follow::Yes), None);
        assert_eq!(find("/", Follow::Yes), Some(root.clone()));
        let below = |path: &str| below_root(&root, OsStr::new(path), Follow::Yes);
        assert_eq!(below("/lib/libx.so"), lib.join("libx.so.1"));
        assert_eq!(below("/lib/new"), lib.join("new"));
        assert_eq!(below("/../../etc/passwd"), root.join("etc/passwd"));
        symlink("/proc/self/mounts", root.join("mounts")).unwrap();
        assert_eq!(below("/mounts"), PathBuf::from("/proc/self/mounts"));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
