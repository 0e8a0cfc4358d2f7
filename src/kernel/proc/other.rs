//! What the host knows of another process of this emulator, as its guest's.

use super::super::ptrace::remote::Remote;
use crate::memory::{Prot, page};
use std::fmt::Write;

/// `AT_SYSINFO_EHDR`: where the vDSO is.
const AT_SYSINFO_EHDR: u32 = 33;

/// A line of the host's `maps`.
struct HostLine<'a> {
    start: u64,
    end: u64,
    shared: bool,
    offset: u64,
    device_and_inode: &'a str,
    name: &'a str,
}

impl<'a> HostLine<'a> {
    fn parse(line: &'a str) -> Option<HostLine<'a>> {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let (prot, rest) = rest.split_once(' ')?;
        let (offset, rest) = rest.split_once(' ')?;
        let device_end = rest.find(' ')?;
        let inode_end = rest[device_end + 1..].find(' ').map_or(rest.len(), |at| device_end + 1 + at);
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        Some(HostLine {
            start: hex(start)?,
            end: hex(end)?,
            shared: prot.ends_with('s'),
            offset: hex(offset)?,
            device_and_inode: &rest[..inode_end],
            name: rest[inode_end..].trim_start(),
        })
    }
}

/// `/proc/PID/maps` of a guest in another process (proc_pid_maps(5)): the host's, moved, with the guest's protections.
pub(super) fn maps(tid: u32) -> Option<Vec<u8>> {
    let remote = Remote::find(tid).ok()?;
    let (base, image) = (remote.base().ok()?, remote.image().ok()?);
    let host = std::fs::read_to_string(format!("/proc/{tid}/maps")).ok()?;
    let vdso = image.auxv.as_chunks::<8>().0.iter().find_map(|entry| {
        let [a, b, c, d, e, f, g, h] = *entry;
        (u32::from_le_bytes([a, b, c, d]) == AT_SYSINFO_EHDR).then_some(u32::from_le_bytes([e, f, g, h]))
    });
    let mut text = String::new();
    for line in host.lines().filter_map(HostLine::parse) {
        let (Some(start), Some(end)) = (line.start.checked_sub(base), line.end.checked_sub(base)) else {
            continue;
        };
        let size = u64::from(page::SIZE);
        if start > u64::from(u32::MAX) || end > 1 << 32 {
            continue;
        }
        let (first, count) = ((start / size) as u32, ((end - start) / size) as u32);
        let pages = remote.page_bytes(first, count).ok()?;
        let meaning = page::READ | page::WRITE | page::EXEC | page::MAPPED;
        let mut at = 0;
        for run in pages.chunk_by(|a, b| a & meaning == b & meaning) {
            let from = start + at * size;
            at += run.len() as u64;
            if run[0] & page::MAPPED == 0 {
                continue;
            }
            let range = (from as u32, start + at * size);
            let holds = |addr: u32| u64::from(addr) >= from && u64::from(addr) < range.1;
            let name = match line.name {
                "" if holds(image.stack) => "[stack]",
                "" if vdso.is_some_and(holds) => "[vdso]",
                "" if image.brk != 0 && holds(image.brk) => "[heap]",
                name => name,
            };
            let offset = if line.name.is_empty() { 0 } else { line.offset + (from - start) };
            describe(&mut text, range, run[0], &line, offset, name);
        }
    }
    Some(text.into_bytes())
}

fn describe(text: &mut String, range: (u32, u64), byte: u8, line: &HostLine<'_>, offset: u64, name: &str) {
    let prot = Prot::from_bits(byte.into());
    let letter = |flag: Prot, letter| if prot.contains(flag) { letter } else { '-' };
    let (read, write) = (letter(Prot::READ, 'r'), letter(Prot::WRITE, 'w'));
    let (exec, kind) = (letter(Prot::EXEC, 'x'), if line.shared { 's' } else { 'p' });
    let facts = format!(
        "{:08x}-{:08x} {read}{write}{exec}{kind} {offset:08x} {} ",
        range.0, range.1, line.device_and_inode
    );
    let _ = match name {
        "" => writeln!(text, "{facts}"),
        name => writeln!(text, "{facts:<73}{name}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_host_are_read() {
        let line = HostLine::parse("7f00-8f00 r-xp 00002000 fe:01 17    /lib/a name.so").unwrap();
        assert_eq!((line.start, line.end, line.shared, line.offset), (0x7f00, 0x8f00, false, 0x2000));
        assert_eq!((line.device_and_inode, line.name), ("fe:01 17", "/lib/a name.so"));
        let line = HostLine::parse("7f00-8f00 rw-s 00000000 00:00 0 ").unwrap();
        assert_eq!((line.shared, line.device_and_inode, line.name), (true, "00:00 0", ""));
    }
}
