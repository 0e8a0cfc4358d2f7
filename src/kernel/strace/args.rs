//! Arguments and results of a system call, by the types that its row in `syscalls.toml` has.

use super::{structs, words};
use crate::kernel::abi::{Iovec, PollFd};
use crate::kernel::errno::Errno;
use crate::kernel::signal::{SIG_DFL, SIG_IGN};
use crate::kernel::table::{ArgKind, Count, Returns, SyscallInfo};
use crate::kernel::{args::PATH_MAX, ioctl, signal};
use crate::memory::Memory;

/// Most bytes of a buffer or string that are shown; paths are shown whole.
const STRING: u32 = 32;
/// Most strings and buffers of an array that are shown.
const LIST: u32 = 32;

/// A call with its registers.
pub(super) struct Shown<'a> {
    pub memory: &'a Memory,
    pub row: &'a SyscallInfo,
    pub registers: [u32; 6],
    /// Once the call is over.
    pub result: Option<Result<u32, Errno>>,
}

impl Shown<'_> {
    /// Index of the first argument that can be shown only when the call is over.
    pub fn first_written(&self) -> usize {
        let args = self.row.args;
        args.iter().position(|arg| arg.kind.is_written()).unwrap_or(args.len())
    }

    /// The arguments of these indices with commas between, and one before them if they are not the first.
    pub fn list(&self, indices: std::ops::Range<usize>) -> String {
        let mut text = String::new();
        for index in indices {
            let Some(argument) = self.argument(index) else { continue };
            if index > 0 {
                text += ", ";
            }
            text += &argument;
        }
        text
    }

    /// The value of an argument's (first) register.
    fn register(&self, index: usize) -> u32 {
        let before: usize = self.row.args[..index].iter().map(|arg| arg.kind.registers()).sum();
        self.registers.get(before).copied().unwrap_or(0)
    }

    /// The second register of a 64-bit argument.
    fn second(&self, index: usize) -> u32 {
        let before: usize = self.row.args[..index].iter().map(|arg| arg.kind.registers()).sum();
        self.registers.get(before + 1).copied().unwrap_or(0)
    }

    /// The value of the first argument of a kind.
    fn of_kind(&self, kind: ArgKind) -> Option<u32> {
        self.row.args.iter().position(|arg| arg.kind == kind).map(|index| self.register(index))
    }

    /// One argument; `None` for one that means nothing here and is left out.
    fn argument(&self, index: usize) -> Option<String> {
        let arg = &self.row.args[index];
        let value = self.register(index);
        let signed = value as i32;
        // What a failed call would have written is not there.
        if arg.kind.is_written() && matches!(self.result, Some(Err(_))) && value != 0 {
            return Some(address(value));
        }
        Some(match arg.kind {
            ArgKind::Int | ArgKind::Pid | ArgKind::Fd => signed.to_string(),
            ArgKind::Uid => signed.to_string(),
            ArgKind::Uid16 => (value as u16 as i16).to_string(),
            ArgKind::DirFd if signed == libc::AT_FDCWD => "AT_FDCWD".to_owned(),
            ArgKind::DirFd => signed.to_string(),
            // As strace does, in bytes.
            ArgKind::Uint if arg.name == "offset_pages" && value != 0 => {
                format!("{:#x}", u64::from(value) << 12)
            }
            ArgKind::Uint | ArgKind::Size => value.to_string(),
            ArgKind::Hex => format!("{value:#x}"),
            ArgKind::Addr | ArgKind::Handler if value == 0 && arg.kind == ArgKind::Addr => "NULL".to_owned(),
            ArgKind::Addr => address(value),
            ArgKind::Handler => handler(value),
            ArgKind::Lohi64 => (u64::from(self.second(index)) << 32 | u64::from(value)).to_string(),
            ArgKind::Hilo64 => (u64::from(value) << 32 | u64::from(self.second(index))).to_string(),
            ArgKind::Path => self.string(value, PATH_MAX as u32),
            ArgKind::Str => self.string(value, STRING),
            ArgKind::Signal if value == 0 => "0".to_owned(),
            ArgKind::Signal => words::signal(signed),
            ArgKind::ClockId => words::one(words::CLOCK, value),
            ArgKind::Whence => words::one(words::WHENCE, value),
            ArgKind::LockOp => words::set(words::LOCK, value, "0"),
            ArgKind::Domain => words::one(words::DOMAIN, value),
            ArgKind::SockLevel => words::one(words::LEVEL, value),
            ArgKind::Who => words::one(words::WHO, value),
            // IPC_64 makes no difference here.
            ArgKind::IpcCmd => words::one(words::IPC, value & !0x100),
            ArgKind::EpollOp => words::one(words::EPOLL_OP, value),
            ArgKind::Advice => words::one(words::ADVICE, value),
            ArgKind::Mode => return self.mode(value),
            ArgKind::Dev => structs::device(value.into()),
            ArgKind::OpenFlags if self.row.name.starts_with("open") || self.row.name == "mq_open" => {
                words::open_flags(value)
            }
            ArgKind::OpenFlags => match words::open_flags(value).trim_start_matches("O_RDONLY") {
                "" => "0".to_owned(),
                flags => flags.trim_start_matches('|').to_owned(),
            },
            ArgKind::AtFlags => words::set(words::AT, value, "0"),
            ArgKind::AccessMode => words::set(words::ACCESS, value, "F_OK"),
            ArgKind::MmapProt => words::set(words::PROT, value, "PROT_NONE"),
            ArgKind::MmapFlags => words::set(words::MAP, value, "MAP_FILE"),
            ArgKind::MremapFlags => words::set(words::MREMAP, value, "0"),
            ArgKind::CloneFlags => clone_flags(value),
            ArgKind::WaitOptions => words::set(words::WAIT, value, "0"),
            ArgKind::FcntlCmd if value <= 14 && words::FCNTL_I386.iter().any(|name| name.0 == value) => {
                words::one(words::FCNTL_I386, value)
            }
            ArgKind::FcntlCmd => words::one(words::FCNTL, value),
            ArgKind::IoctlCmd => ioctl::name(value).map_or_else(|| format!("{value:#x}"), str::to_owned),
            ArgKind::Resource => words::one(words::RESOURCE, value),
            ArgKind::StatxMask => words::set(words::STATX, value, "0"),
            ArgKind::RandomFlags => words::set(words::RANDOM, value, "0"),
            ArgKind::FutexOp => futex_operation(value),
            ArgKind::SigHow => words::one(words::SIG_HOW, value),
            ArgKind::PrctlOp => words::one(words::PRCTL, value),
            ArgKind::SockType => {
                let flags = words::set(words::SOCKET_FLAGS, value & !0xf, "");
                match (value & 0xf, flags.as_str()) {
                    (0, "") => "0".to_owned(),
                    (0, _) => flags,
                    (kind, "") => words::one(words::SOCKET, kind),
                    (kind, _) => format!("{}|{flags}", words::one(words::SOCKET, kind)),
                }
            }
            ArgKind::MsgFlags => words::set(words::MESSAGE, value, "0"),
            ArgKind::WaitStatus => self.read::<u32>(value).map_or_else(
                || address(value),
                |status| if self.result == Some(Ok(0)) { address(value) } else { wait_status(status) },
            ),
            ArgKind::SigSet | ArgKind::OldSigSet => {
                self.read(value).map_or_else(|| address(value), words::signals)
            }
            ArgKind::SigAction | ArgKind::OldSigAction => {
                self.read(value).map_or_else(|| address(value), sigaction)
            }
            ArgKind::Argv => self.strings(value),
            ArgKind::Envp => self.number_of_strings(value),
            ArgKind::Ptr { target, count, .. } => self.pointed(index, value, target, count),
            ArgKind::In(length) if arg.name == "addr" => self.socket_address(value, length),
            ArgKind::In(length) => self.buffer(value, self.register(length.into())),
            ArgKind::Out(length) => {
                let room = self.register(length.into());
                match (self.result, self.row.returns) {
                    (Some(Ok(written)), Returns::Size | Returns::Value) => {
                        self.buffer(value, written.min(room))
                    }
                    (Some(Ok(_)), _) => self.buffer(value, room),
                    _ => address(value),
                }
            }
            ArgKind::IovIn(count) => self.buffers(value, self.register(count.into()), u32::MAX),
            ArgKind::IovOut(count) => match self.result {
                Some(Ok(written)) => self.buffers(value, self.register(count.into()), written),
                _ => address(value),
            },
        })
    }

    /// Permissions; nothing where no file is made.
    fn mode(&self, value: u32) -> Option<String> {
        let makes = (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;
        match self.of_kind(ArgKind::OpenFlags) {
            Some(flags) if flags & makes == 0 => None,
            _ if value & libc::S_IFMT != 0 => Some(words::file_mode(value)),
            _ => Some(format!("{value:#05o}").replace("0o", "0")),
        }
    }

    fn read<T: crate::memory::Plain>(&self, addr: u32) -> Option<T> {
        if addr == 0 { None } else { self.memory.read(addr).ok() }
    }

    /// The bytes, if all of them can be read.
    fn bytes(&self, addr: u32, len: u32) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len as usize];
        self.memory.read_bytes(addr, &mut bytes).ok().map(|()| bytes)
    }

    /// A string that ends with a NUL, or is cut after `most` bytes.
    fn string(&self, addr: u32, most: u32) -> String {
        if addr == 0 {
            return "NULL".to_owned();
        }
        let mut bytes = Vec::new();
        for index in 0..=most {
            match self.memory.read::<u8>(addr.wrapping_add(index)) {
                Ok(0) => return words::quoted(&bytes, false),
                Ok(byte) => bytes.push(byte),
                Err(_) => return address(addr),
            }
        }
        bytes.truncate(most as usize);
        words::quoted(&bytes, true)
    }

    fn buffer(&self, addr: u32, len: u32) -> String {
        if addr == 0 {
            return "NULL".to_owned();
        }
        match self.bytes(addr, len.min(STRING)) {
            Some(bytes) => words::quoted(&bytes, len > STRING),
            None => address(addr),
        }
    }

    /// The buffers of an iovec array, of which `filled` bytes in all have a meaning.
    fn buffers(&self, addr: u32, count: u32, mut filled: u32) -> String {
        let mut texts = Vec::new();
        for index in 0..count.min(LIST) {
            let Some(Iovec { base, len }) = self.read(addr.wrapping_add(index * 8)) else {
                return address(addr);
            };
            let shown = len.min(filled);
            filled -= if filled == u32::MAX { 0 } else { shown };
            texts.push(format!("{{iov_base={}, iov_len={len}}}", self.buffer(base, shown)));
        }
        if count > LIST {
            texts.push("...".to_owned());
        }
        format!("[{}]", texts.join(", "))
    }

    fn strings(&self, addr: u32) -> String {
        let mut texts = Vec::new();
        for index in 0..=LIST {
            match self.memory.read::<u32>(addr.wrapping_add(index * 4)) {
                Ok(0) => break,
                Ok(_) if index == LIST => texts.push("...".to_owned()),
                Ok(text) => texts.push(self.string(text, STRING)),
                Err(_) => return address(addr),
            }
        }
        format!("[{}]", texts.join(", "))
    }

    fn number_of_strings(&self, addr: u32) -> String {
        let pointers = (0..1 << 16).map(|index: u32| self.memory.read::<u32>(addr.wrapping_add(index * 4)));
        let count = pointers.take_while(|pointer| pointer.is_ok_and(|pointer| pointer != 0)).count();
        let plural = if count == 1 { "" } else { "s" };
        format!("{} /* {count} var{plural} */", address(addr))
    }

    fn pointed(&self, index: usize, addr: u32, target: &str, count: Count) -> String {
        if addr == 0 {
            return "NULL".to_owned();
        }
        let name = self.row.args[index].name;
        if target == "u64" && matches!(name, "sigmask" | "mask") {
            return self.read(addr).map_or_else(|| address(addr), words::signals);
        }
        if name.ends_with("fds") && target == "u32" {
            return self.descriptors(addr);
        }
        let shown = match count {
            Count::Fixed(1) => structs::pointed(self.memory, target, addr),
            Count::Fixed(count) => structs::array(self.memory, target, addr, count.into()),
            Count::Arg(arg) => structs::array(self.memory, target, addr, self.register(arg.into())),
            Count::Result => match self.result {
                Some(Ok(count)) => structs::array(self.memory, target, addr, count),
                _ => None,
            },
        };
        shown.unwrap_or_else(|| address(addr))
    }

    /// A set of descriptors (select(2)) below the first argument.
    fn descriptors(&self, addr: u32) -> String {
        let limit = self.registers[0].min(1024);
        let mut found = Vec::new();
        for fd in 0..limit {
            match self.memory.read::<u32>(addr.wrapping_add(fd / 32 * 4)) {
                Ok(word) if word >> (fd % 32) & 1 != 0 => found.push(fd.to_string()),
                Ok(_) => {}
                Err(_) => return address(addr),
            }
        }
        format!("[{}]", found.join(" "))
    }

    fn socket_address(&self, addr: u32, length: u8) -> String {
        let len = self.register(length.into()).min(128);
        match self.bytes(addr, len) {
            _ if addr == 0 => "NULL".to_owned(),
            Some(bytes) => socket_address(&bytes),
            None => address(addr),
        }
    }

    /// The result, with what it tells beside the number.
    pub fn result(&self, restart: Option<&str>) -> String {
        let value = match (self.result, restart) {
            (None, _) => return "?".to_owned(),
            (Some(Err(_)), Some(restart)) => return format!("? {restart}"),
            (Some(Err(errno)), None) => {
                let name = errno.name().map_or_else(|| errno.0.to_string(), str::to_owned);
                let text = std::io::Error::from_raw_os_error(errno.0).to_string();
                let text = text.split(" (os error").next().unwrap_or_default();
                return format!("-1 {name} ({text})");
            }
            (Some(Ok(value)), _) => value,
        };
        let number = match self.row.returns {
            Returns::Zero | Returns::Fd | Returns::Pid | Returns::Size => (value as i32).to_string(),
            Returns::Value if self.row.name == "umask" => format!("0{value:o}"),
            Returns::Value => match self.of_kind(ArgKind::FcntlCmd) {
                Some(command) if command == libc::F_GETFD as u32 => {
                    format!("{value:#x}{}", if value & 1 != 0 { " (flags FD_CLOEXEC)" } else { "" })
                }
                Some(command) if command == libc::F_GETFL as u32 => {
                    format!("{value:#x} (flags {})", words::open_flags(value))
                }
                _ => (value as i32).to_string(),
            },
            Returns::Addr | Returns::Hex => format!("{value:#x}"),
            Returns::Never => "?".to_owned(),
        };
        match self.details(value) {
            Some(details) => format!("{number} ({details})"),
            None => number,
        }
    }

    /// What came out of a call that changes its arguments: which descriptors are ready.
    fn details(&self, value: u32) -> Option<String> {
        let name = self.row.name;
        if value == 0 && (name.contains("poll") || name.contains("select")) && !name.contains("epoll") {
            return Some("Timeout".to_owned());
        }
        match name {
            "poll" | "ppoll" | "ppoll_time64" => {
                let count = self.registers[1].min(LIST);
                let ready: Vec<String> = (0..count)
                    .filter_map(|index| self.read::<PollFd>(self.registers[0].wrapping_add(index * 8)))
                    .filter(|entry| entry.revents != 0)
                    .map(|entry| {
                        let (fd, revents) = (entry.fd, entry.revents);
                        let revents = words::set(words::POLL, u32::from(revents as u16), "0");
                        format!("{{fd={fd}, revents={revents}}}")
                    })
                    .collect();
                Some(format!("[{}]", ready.join(", ")))
            }
            "_newselect" | "pselect6" | "pselect6_time64" => {
                let sets = [("in", 1), ("out", 2), ("except", 3)];
                let ready: Vec<String> = sets
                    .iter()
                    .filter(|(_, register)| self.registers[*register] != 0)
                    .map(|(name, register)| (name, self.descriptors(self.registers[*register])))
                    .filter(|(_, found)| found != "[]")
                    .map(|(name, found)| format!("{name} {found}"))
                    .collect();
                Some(ready.join(", "))
            }
            _ => None,
        }
    }
}

/// An address that says nothing more.
pub(super) fn address(value: u32) -> String {
    if value == 0 { "NULL".to_owned() } else { format!("{value:#x}") }
}

fn handler(value: u32) -> String {
    match value {
        SIG_DFL => "SIG_DFL".to_owned(),
        SIG_IGN => "SIG_IGN".to_owned(),
        _ => format!("{value:#x}"),
    }
}

/// `struct sigaction` of `rt_sigaction`: handler, flags, restorer, mask.
fn sigaction(action: [u32; 5]) -> String {
    let [function, flags, restorer, low, high] = action;
    let mask = words::signals(u64::from(high) << 32 | u64::from(low));
    let restorer = if flags & signal::sa::RESTORER != 0 {
        format!(", sa_restorer={restorer:#x}")
    } else {
        String::new()
    };
    let flags = words::set(words::SIGACTION, flags, "0");
    format!("{{sa_handler={}, sa_mask={mask}, sa_flags={flags}{restorer}}}", handler(function))
}

fn clone_flags(value: u32) -> String {
    let signal = value & 0xff;
    let flags = words::set(words::CLONE, value & !0xff, "");
    match (flags.as_str(), signal) {
        (_, 0) => flags,
        ("", _) => words::signal(signal as i32),
        _ => format!("{flags}|{}", words::signal(signal as i32)),
    }
}

fn futex_operation(value: u32) -> String {
    const PRIVATE: u32 = libc::FUTEX_PRIVATE_FLAG as u32;
    const CLOCK: u32 = libc::FUTEX_CLOCK_REALTIME as u32;
    let mut text = words::one(words::FUTEX, value & !(PRIVATE | CLOCK));
    if value & PRIVATE != 0 {
        text += "_PRIVATE";
    }
    if value & CLOCK != 0 {
        text += "|FUTEX_CLOCK_REALTIME";
    }
    text
}

/// The status that wait(2) gives, in the words of its macros.
fn wait_status(status: u32) -> String {
    let (signal, code) = (status & 0x7f, status >> 8 & 0xff);
    let core = if status & 0x80 != 0 { " && WCOREDUMP(s)" } else { "" };
    match signal {
        _ if status == 0xffff => "[{WIFCONTINUED(s)}]".to_owned(),
        0 => format!("[{{WIFEXITED(s) && WEXITSTATUS(s) == {code}}}]"),
        0x7f => format!("[{{WIFSTOPPED(s) && WSTOPSIG(s) == {}}}]", words::signal(code as i32)),
        _ => format!("[{{WIFSIGNALED(s) && WTERMSIG(s) == {}{core}}}]", words::signal(signal as i32)),
    }
}

/// `struct sockaddr` by its family.
fn socket_address(bytes: &[u8]) -> String {
    let [low, high, rest @ ..] = bytes else { return words::quoted(bytes, false) };
    let family = u16::from_le_bytes([*low, *high]);
    let name = words::one(words::DOMAIN, family.into());
    match (i32::from(family), rest) {
        (libc::AF_UNIX, [0, rest @ ..]) if !rest.is_empty() => {
            format!("{{sa_family={name}, sun_path=@{}}}", words::quoted(rest, false))
        }
        (libc::AF_UNIX, path) => {
            let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
            format!("{{sa_family={name}, sun_path={}}}", words::quoted(&path[..end], false))
        }
        (libc::AF_INET, [p1, p2, a, b, c, d, ..]) => format!(
            "{{sa_family={name}, sin_port=htons({}), sin_addr=inet_addr(\"{a}.{b}.{c}.{d}\")}}",
            u16::from_be_bytes([*p1, *p2])
        ),
        (libc::AF_INET6, [p1, p2, _, _, _, _, host @ ..]) if host.len() >= 16 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(&host[..16]);
            format!(
                "{{sa_family={name}, sin6_port=htons({}), inet_pton(AF_INET6, \"{}\", &sin6_addr)}}",
                u16::from_be_bytes([*p1, *p2]),
                std::net::Ipv6Addr::from(octets)
            )
        }
        _ => format!("{{sa_family={name}, sa_data={}}}", words::quoted(rest, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_shown_in_the_words_of_the_macros() {
        assert_eq!(wait_status(0x300), "[{WIFEXITED(s) && WEXITSTATUS(s) == 3}]");
        assert_eq!(wait_status(9), "[{WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL}]");
        assert_eq!(wait_status(0x137f), "[{WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP}]");
    }

    #[test]
    fn socket_addresses_are_shown_by_family() {
        let inet = [2, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let shown = r#"{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}"#;
        assert_eq!(socket_address(&inet), shown);
        assert_eq!(socket_address(b"\x01\x00/run/x\0\0"), r#"{sa_family=AF_UNIX, sun_path="/run/x"}"#);
        assert_eq!(socket_address(b"\x01"), r#""\1""#);
    }

    #[test]
    fn a_futex_operation_shows_its_flags() {
        assert_eq!(futex_operation(0x80), "FUTEX_WAIT_PRIVATE");
        assert_eq!(futex_operation(0x189), "FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME");
    }
}
