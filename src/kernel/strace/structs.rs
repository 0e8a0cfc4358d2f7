//! Structures of the i386 ABI, shown field by field.

use super::words;
use crate::kernel::abi::{self, PollFd};
use crate::memory::{Memory, Plain};

/// A text that structures are written to.
pub struct Fields<'a>(&'a mut String);

/// What has a form of its own in a structure.
pub trait Show {
    /// Appends it.
    fn show(&self, out: &mut Fields<'_>);
}

impl Fields<'_> {
    /// Appends a structure: `{tv_sec=1, tv_nsec=0}`. `show` appends the field of an index.
    pub fn structure(&mut self, name: &str, fields: &[&str], show: impl Fn(usize, &mut Fields<'_>)) {
        let prefix = prefix(name);
        *self.0 += "{";
        for (index, field) in fields.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            *self.0 += &format!("{comma}{prefix}{field}=");
            show(index, self);
        }
        *self.0 += "}";
    }
}

/// What the kernel's headers put before the names of a structure's fields.
fn prefix(structure: &str) -> &'static str {
    match structure {
        "Timespec" | "Timespec64" | "Timeval" => "tv_",
        "Timezone" => "tz_",
        "Itimerspec" | "Itimerspec64" | "Itimerval" => "it_",
        "Statfs" | "Statfs64" => "f_",
        "Rlimit" | "Rlimit64" => "rlim_",
        "Rusage" => "ru_",
        "Tms" => "tms_",
        "Msghdr" | "Mmsghdr" => "msg_",
        "MqAttr" => "mq_",
        "Sembuf" => "sem_",
        "Sigevent" => "sigev_",
        _ => "",
    }
}

macro_rules! numbers {
    ($($type:ty)*) => { $(
        impl Show for $type {
            fn show(&self, out: &mut Fields<'_>) {
                *out.0 += &self.to_string();
            }
        }
    )* };
}
numbers!(u8 i8 i16 u16 i32 u32 i64 u64);

macro_rules! arrays {
    ($($type:ty)*) => { $(
        impl<const N: usize> Show for [$type; N] {
            fn show(&self, out: &mut Fields<'_>) {
                list(out, self.iter().map(|element| element as &dyn Show));
            }
        }
    )* };
}
arrays!(u16 i32 u32 u64);

/// Bytes are text: a name that ends with a NUL.
impl<const N: usize> Show for [u8; N] {
    fn show(&self, out: &mut Fields<'_>) {
        let end = self.iter().position(|&byte| byte == 0).unwrap_or(N);
        *out.0 += &words::quoted(&self[..end], false);
    }
}

fn list<'a>(out: &mut Fields<'_>, elements: impl Iterator<Item = &'a dyn Show>) {
    *out.0 += "[";
    for (index, element) in elements.enumerate() {
        if index > 0 {
            *out.0 += ", ";
        }
        element.show(out);
    }
    *out.0 += "]";
}

/// A value in the form it has in a structure.
pub(super) fn text(value: &dyn Show) -> String {
    let mut text = String::new();
    value.show(&mut Fields(&mut text));
    text
}

/// Most elements of an array that are shown.
const MOST: u32 = 32;

/// Reads and shows one structure.
fn read<T: Plain + Show>(memory: &Memory, addr: u32) -> Option<String> {
    memory.read::<T>(addr).ok().map(|value| text(&value))
}

/// Size of a guest structure or integer, and how it is read and shown.
type Reader = (usize, fn(&Memory, u32) -> Option<String>);

macro_rules! readers {
    ($target:ident: $($own:ident)*; integers: $($integer:ident)*; $($form:ident: $($name:ident)*;)*) => {
        match $target {
            $(stringify!($own) => (size_of::<abi::$own>(), read::<abi::$own>),)*
            $($(stringify!($name) => (size_of::<abi::$name>(), |memory, addr| {
                memory.read::<abi::$name>(addr).ok().map(|value| $form!(value))
            }),)*)*
            $(stringify!($integer) => (size_of::<$integer>(), read::<$integer>),)*
            _ => return None,
        }
    };
}

/// The fields of a stat that matter.
macro_rules! stat {
    ($value:ident) => {{
        let (mode, size, rdev) = (u32::from($value.mode), u64::from($value.size), u64::from($value.rdev));
        let kind = mode & libc::S_IFMT;
        let rest = if kind == libc::S_IFCHR || kind == libc::S_IFBLK {
            format!("st_rdev={}", device(rdev))
        } else {
            format!("st_size={size}")
        };
        format!("{{st_mode={}, {rest}, ...}}", words::file_mode(mode))
    }};
}

macro_rules! statx {
    ($value:ident) => {{
        // Offsets of stx_mask, stx_mode and stx_size in words.
        let words = $value.bytes;
        let size = u64::from(words[10]) | u64::from(words[11]) << 32;
        format!(
            "{{stx_mask={}, stx_mode={}, stx_size={size}, ...}}",
            words::set(words::STATX, words[0], "0"),
            words::file_mode(words[7] & 0xffff)
        )
    }};
}

macro_rules! opaque {
    ($value:ident) => {{
        let _ = $value;
        "{...}".to_owned()
    }};
}

macro_rules! poll {
    ($value:ident) => {{
        let PollFd { fd, events, .. } = $value;
        format!("{{fd={fd}, events={}}}", words::set(words::POLL, u32::from(events as u16), "0"))
    }};
}

macro_rules! epoll {
    ($value:ident) => {{
        let (events, data) = ($value.events, $value.data);
        format!("{{events={}, data={data:#x}}}", words::set(words::EPOLL, events, "0"))
    }};
}

macro_rules! limit {
    ($value:ident) => {{
        let (cur, max) = (u64::from($value.cur), u64::from($value.max));
        let unlimited = |value: u64| value == u64::MAX || value == u64::from(u32::MAX);
        let shown = |value: u64| match value {
            _ if unlimited(value) => "RLIM_INFINITY".to_owned(),
            _ if value > 1024 && value % 1024 == 0 => format!("{}*1024", value / 1024),
            _ => value.to_string(),
        };
        format!("{{rlim_cur={}, rlim_max={}}}", shown(cur), shown(max))
    }};
}

macro_rules! utsname {
    ($value:ident) => {{
        let (sysname, nodename) = ($value.sysname, $value.nodename);
        format!("{{sysname={}, nodename={}, ...}}", text(&sysname), text(&nodename))
    }};
}

fn reader(target: &str) -> Option<Reader> {
    Some(readers! {
        target: Utimbuf Tms Timeval Timezone Timespec Timespec64 Itimerspec Itimerspec64 Statfs Statfs64 Sysinfo Rusage
            MqAttr Sembuf CapHeader CapData Msghdr Mmsghdr OpenHow IoEvent Sigevent SigsetArg OldSelect;
        integers: u16 i32 u32 u64;
        stat: OldStat Stat Stat64;
        statx: Statx;
        opaque: Timex Timex64 OldDirent Iocb;
        poll: PollFd;
        epoll: EpollEvent;
        limit: Rlimit Rlimit64;
        utsname: Utsname OldUtsname OldOldUtsname;
    })
}

/// Shows the structure or integer `target` at an address, in brackets if it is an integer; `None` where it cannot be read.
pub(super) fn pointed(memory: &Memory, target: &str, addr: u32) -> Option<String> {
    let (_, show) = reader(target)?;
    let text = show(memory, addr)?;
    Some(if target.starts_with(char::is_uppercase) { text } else { format!("[{text}]") })
}

/// Shows an array of structures or integers.
pub(super) fn array(memory: &Memory, target: &str, addr: u32, count: u32) -> Option<String> {
    let (size, show) = reader(target)?;
    let mut texts = Vec::new();
    for index in 0..count.min(MOST) {
        texts.push(show(memory, addr.wrapping_add(index.wrapping_mul(size as u32)))?);
    }
    if count > MOST {
        texts.push("...".to_owned());
    }
    Some(format!("[{}]", texts.join(", ")))
}

/// A device number in the encoding of `stat64`.
pub(super) fn device(number: u64) -> String {
    let major = number >> 8 & 0xfff;
    let minor = number & 0xff | number >> 12 & 0xfff00;
    format!("makedev({major:#x}, {minor:#x})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::abi::{Itimerval, Timespec, Timeval};

    #[test]
    fn fields_have_the_names_of_the_headers() {
        assert_eq!(text(&Timespec { sec: 1, nsec: -2 }), "{tv_sec=1, tv_nsec=-2}");
        let time = Timeval { sec: 3, usec: 4 };
        let timer = Itimerval { interval: time, value: time };
        let shown = "{it_interval={tv_sec=3, tv_usec=4}, it_value={tv_sec=3, tv_usec=4}}";
        assert_eq!(text(&timer), shown);
    }

    #[test]
    fn every_structure_of_the_table_can_be_shown() {
        use crate::kernel::table::{ArgKind, SYSCALLS};
        for arg in SYSCALLS.iter().flat_map(|row| row.args) {
            if let ArgKind::Ptr { target, .. } = arg.kind {
                assert!(reader(target).is_some(), "{target}");
            }
        }
    }
}
