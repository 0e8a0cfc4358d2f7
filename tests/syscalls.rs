//! System calls against the native kernel: each script in `tests/syscalls/` is carried out twice, by Table86 and by
//! the processor's own `int 0x80`, on memory at the same addresses. Results and every byte written have to agree.
//!
//! A line is a call; `name = call …` keeps the result, `name := buffer` makes a buffer, `name = fd @buffer` takes a
//! descriptor out of one. Arguments are:
//!
//! | form | what |
//! | --- | --- |
//! | `12` `0x1f` `0o644` `-1` | a number |
//! | `$name` | a kept result |
//! | `@name` `@name+4` | the address of a buffer |
//! | `"text"` | the address of the text and a NUL; `{dir}` is a directory of its own for each of the two |
//! | `in:1,$fd,@buf` | the address of these words |
//! | `out:16` | the address of so many bytes, compared afterwards |
//! | `any:16` | likewise, not compared |
//! | `mut:1,2` | the address of these words, compared afterwards |
//!
//! Descriptors that calls give are compared as such, not by number. A `~` in front of a call leaves its result out.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use table86::kernel::exec::Launch;
use table86::kernel::table::{self, Returns};
use table86::kernel::{Image, Options, Process};
use table86::memory::{MapRequest, Place, Prot};
use table86::{Machine, Memory};

/// Bytes of memory for a script.
const ARENA: u32 = 1 << 18;
/// What buffers hold before a call.
const FILL: u8 = 0xaa;

std::arch::global_asm!(
    ".local native_int80",
    "native_int80:",
    "push rbx",
    "push rbp",
    "mov rax, rdi",
    "mov ebx, [rax + 4]",
    "mov ecx, [rax + 8]",
    "mov edx, [rax + 12]",
    "mov esi, [rax + 16]",
    "mov edi, [rax + 20]",
    "mov ebp, [rax + 24]",
    "mov eax, [rax]",
    "int 0x80",
    "pop rbp",
    "pop rbx",
    "ret",
);

unsafe extern "C" {
    /// Carries out the i386 system call in `words`: number and six arguments.
    fn native_int80(words: *const [u32; 7]) -> u64;
}

/// Tells whether this kernel has system calls for 32-bit programs.
fn native_available() -> bool {
    // SAFETY: the child only makes system calls and leaves.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let words = [20, 0, 0, 0, 0, 0, 0];
            let own = native_int80(&words) as i32 == libc::getpid();
            libc::_exit(if own { 0 } else { 1 });
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }
}

/// Who carries out the calls.
trait Kernel {
    fn call(&mut self, nr: u32, args: [u32; 6]) -> u32;
    fn put(&mut self, addr: u32, bytes: &[u8]);
    fn get(&self, addr: u32, len: u32) -> Vec<u8>;
}

struct Native {
    at: u32,
}

impl Native {
    fn new(at: u32) -> Native {
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let wanted = at as usize as *mut libc::c_void;
        // SAFETY: a new mapping that replaces nothing.
        let got =
            unsafe { libc::mmap(wanted, ARENA as usize, prot, flags | libc::MAP_FIXED_NOREPLACE, -1, 0) };
        assert_eq!(got, wanted, "the low 4 GiB are in use there");
        Native { at }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: made by `new`; nobody keeps pointers into it.
        unsafe { libc::munmap(self.at as usize as *mut libc::c_void, ARENA as usize) };
    }
}

impl Kernel for Native {
    fn call(&mut self, nr: u32, args: [u32; 6]) -> u32 {
        let [a, b, c, d, e, f] = args;
        // SAFETY: scripts point only into the arena or to nowhere.
        unsafe { native_int80(&[nr, a, b, c, d, e, f]) as u32 }
    }

    fn put(&mut self, addr: u32, bytes: &[u8]) {
        assert!(addr >= self.at && addr as usize + bytes.len() <= (self.at + ARENA) as usize);
        // SAFETY: inside of the arena, as just checked.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), addr as usize as *mut u8, bytes.len()) };
    }

    fn get(&self, addr: u32, len: u32) -> Vec<u8> {
        assert!(addr >= self.at && addr + len <= self.at + ARENA);
        // SAFETY: inside of the arena, as just checked.
        unsafe { std::slice::from_raw_parts(addr as usize as *const u8, len as usize).to_vec() }
    }
}

struct Emulated {
    process: Process,
}

impl Emulated {
    fn new(at: u32) -> Emulated {
        let memory = Arc::new(Memory::new().unwrap());
        let prot = Prot::READ | Prot::WRITE;
        memory.map(&MapRequest::anonymous(Place::Fixed(at), ARENA, prot)).unwrap();
        let machine = Machine::new(memory).unwrap();
        Emulated { process: Process::new(machine, Image::default(), Options::default(), Launch::new()) }
    }
}

impl Kernel for Emulated {
    fn call(&mut self, nr: u32, args: [u32; 6]) -> u32 {
        match table::dispatch(&mut self.process, nr, args) {
            Ok(value) => value,
            Err(errno) => errno.to_eax(),
        }
    }

    fn put(&mut self, addr: u32, bytes: &[u8]) {
        self.process.machine.memory.write_bytes(addr, bytes).unwrap();
    }

    fn get(&self, addr: u32, len: u32) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        self.process.machine.memory.read_bytes(addr, &mut bytes).unwrap();
        bytes
    }
}

/// A script under way.
struct Run<'a> {
    kernel: &'a mut dyn Kernel,
    dir: String,
    next: u32,
    results: HashMap<String, u32>,
    buffers: HashMap<String, u32>,
    /// Buffers of the line to be compared: address and length.
    compared: Vec<(u32, u32)>,
    fds: Vec<u32>,
}

impl Run<'_> {
    fn room(&mut self, bytes: &[u8]) -> u32 {
        let at = self.next;
        self.next += (bytes.len() as u32).next_multiple_of(8) + 8;
        self.kernel.put(at, bytes);
        at
    }

    fn number(&self, text: &str) -> u32 {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let value = match digits.get(..2) {
            Some("0x") => u32::from_str_radix(&digits[2..], 16),
            Some("0o") => u32::from_str_radix(&digits[2..], 8),
            _ => digits.parse(),
        };
        let value = value.unwrap_or_else(|_| panic!("not a number: {text}"));
        if negative { value.wrapping_neg() } else { value }
    }

    fn word(&self, text: &str) -> u32 {
        if let Some(name) = text.strip_prefix('$') {
            return *self.results.get(name).unwrap_or_else(|| panic!("no result {name}"));
        }
        if let Some(name) = text.strip_prefix('@') {
            let (name, offset) = name.split_once('+').unwrap_or((name, "0"));
            return self.buffers[name] + self.number(offset);
        }
        self.number(text)
    }

    fn argument(&mut self, text: &str) -> u32 {
        if let Some(text) = text.strip_prefix('"') {
            let text = text.trim_end_matches('"').replace("{dir}", &self.dir);
            let bytes = [text.replace("\\n", "\n").as_bytes(), &[0]].concat();
            return self.room(&bytes);
        }
        let Some((kind, rest)) = text.split_once(':') else { return self.word(text) };
        match kind {
            "out" | "any" => {
                let len = self.number(rest);
                let at = self.room(&vec![FILL; len as usize]);
                if kind == "out" {
                    self.compared.push((at, len));
                }
                at
            }
            "in" | "mut" => {
                let words: Vec<u8> = rest.split(',').flat_map(|word| self.word(word).to_le_bytes()).collect();
                let at = self.room(&words);
                if kind == "mut" {
                    self.compared.push((at, words.len() as u32));
                }
                at
            }
            _ => panic!("unknown argument {text}"),
        }
    }

    /// Carries out a line and tells what came of it.
    fn line(&mut self, line: &str) -> String {
        self.compared.clear();
        if let Some((name, buffer)) = line.split_once(" := ") {
            let at = self.argument(buffer);
            self.buffers.insert(name.to_owned(), at);
            return String::new();
        }
        if let Some((name, buffer)) = line.split_once(" = fd ") {
            let fd = self.kernel.get(self.word(buffer), 4);
            let fd = u32::from_le_bytes([fd[0], fd[1], fd[2], fd[3]]);
            self.results.insert(name.to_owned(), fd);
            self.fds.push(fd);
            return String::new();
        }
        let (keep, call) = line.split_once(" = ").map_or((None, line), |(name, call)| (Some(name), call));
        let (silent, call) = call.strip_prefix("~ ").map_or((false, call), |call| (true, call));
        let mut words = split(call).into_iter();
        let name = words.next().unwrap_or_default();
        let row = table::SYSCALLS.iter().find(|row| row.name == name);
        let row = row.unwrap_or_else(|| panic!("no call {name}"));
        let mut args = [0; 6];
        for (arg, text) in args.iter_mut().zip(words) {
            *arg = self.argument(&text);
        }
        let result = self.kernel.call(row.nr, args);
        if let Some(keep) = keep {
            self.results.insert(keep.to_owned(), result);
        }
        let failed = result > 0xffff_f000;
        let is_fd = row.returns == Returns::Fd && !failed;
        if is_fd {
            self.fds.push(result);
        }
        let mut said = match (silent, is_fd) {
            (true, _) => String::new(),
            (_, true) => "a descriptor".to_owned(),
            _ if failed => format!("{:?}", table86::kernel::errno::Errno(-(result as i32))),
            _ => format!("{result:#x}"),
        };
        for &(at, len) in &self.compared {
            said += &format!(" {:02x?}", self.kernel.get(at, len));
        }
        said
    }
}

/// Splits at blanks that are not inside of a text.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        if c == '"' {
            quoted = !quoted;
        }
        if c == ' ' && !quoted {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What each line of a script gave.
fn transcript(kernel: &mut dyn Kernel, at: u32, dir: &str, script: &str) -> Vec<String> {
    std::fs::create_dir_all(dir).unwrap();
    let mut run = Run {
        kernel,
        dir: dir.to_owned(),
        next: at,
        results: HashMap::new(),
        buffers: HashMap::new(),
        compared: Vec::new(),
        fds: Vec::new(),
    };
    let said = script
        .lines()
        .map(|line| match line.trim() {
            line if line.is_empty() || line.starts_with('#') => String::new(),
            line => run.line(line),
        })
        .collect();
    for fd in run.fds.clone() {
        run.kernel.call(6, [fd, 0, 0, 0, 0, 0]);
    }
    std::fs::remove_dir_all(dir).unwrap();
    said
}

fn differences(name: &str, script: &str) -> Vec<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if !native_available() {
        eprintln!("skipped: this kernel has no system calls for 32-bit programs");
        return Vec::new();
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let at = 0x2000_0000 + number * 2 * ARENA;
    let root = std::env::temp_dir().join(format!("table86-{}-{number}", std::process::id()));
    let dir = |who| format!("{}-{who}", root.display());
    let native = transcript(&mut Native::new(at), at, &dir("n"), script);
    let emulated = transcript(&mut Emulated::new(at), at, &dir("e"), script);
    script
        .lines()
        .zip(native.iter().zip(&emulated))
        .zip(1..)
        .filter(|((_, (native, emulated)), _)| native != emulated)
        .map(|((line, (native, emulated)), number)| {
            format!("{name}:{number}: {line}\n  native: {native}\n  Table86: {emulated}")
        })
        .collect()
}

/// Compares a script's calls. One at a time, since descriptors and limits belong to the whole process; and again if something
/// differs, since what is awaited may come a moment later for one of the two.
fn check(name: &str, script: &str) {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut differing = Vec::new();
    for _ in 0..3 {
        differing = differences(name, script);
        if differing.is_empty() {
            return;
        }
    }
    panic!("{}", differing.join("\n"));
}

macro_rules! scripts {
    ($($name:ident)*) => { $(
        #[test]
        fn $name() {
            let file = concat!("syscalls/", stringify!($name), ".txt");
            check(file, include_str!(concat!("syscalls/", stringify!($name), ".txt")));
        }
    )* };
}
scripts!(reading_and_writing paths_and_directories descriptors status times_and_limits waiting sockets system_v_ipc signals tasks memory_map);
