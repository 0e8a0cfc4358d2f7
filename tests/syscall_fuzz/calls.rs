//! Which calls are made, with which arguments.

use table86::kernel::table::{self, ArgKind, SYSCALLS};

/// Calls that are left out: they end or copy the guest program, or reach beyond the namespaces.
const EXCLUDED: &[&str] = &[
    // Ends and copies.
    "exit",
    "exit_group",
    "fork",
    "vfork",
    "clone",
    "clone3",
    // A worker whose parent traces it stops for good.
    "ptrace",
    // The machine as a whole, for those who may.
    "reboot",
    "init_module",
    "delete_module",
    "finit_module",
    "create_module",
    "kexec_load",
    "swapon",
    "swapoff",
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "mount_setattr",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "open_tree",
    "stime",
    "settimeofday",
    "clock_settime",
    "clock_settime64",
    "adjtimex",
    "clock_adjtime",
    "clock_adjtime64",
    "acct",
    "syslog",
    "quotactl",
    "quotactl_fd",
    "vhangup",
    "bpf",
    "perf_event_open",
    "iopl",
    "ioperm",
    // Keys belong to the user, not to a namespace.
    "add_key",
    "request_key",
    "keyctl",
    // Long for the machine, and nothing to be seen.
    "sync",
    "syncfs",
];

/// First address of memory that calls may read and write, and its length in bytes.
pub const ARENA: (u32, u32) = (0x20_0000, 0x1_0000);
/// A page that may only be read.
pub const READ_ONLY: u32 = 0x30_0000;

/// Steele and others, "Fast splittable pseudorandom number generators": SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: u32) -> u32 {
        (self.next() % u64::from(limit)) as u32
    }

    fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u32) as usize]
    }
}

/// The numbers that are called, and some that Linux does not have.
fn numbers() -> Vec<u32> {
    let rows = SYSCALLS.iter().filter(|row| !EXCLUDED.contains(&row.name)).map(|row| row.nr);
    rows.chain([222, 223, 251, 285, 500, 0x7fff_ffff, 0x8000_0000, u32::MAX]).collect()
}

/// Calls `first` and so on of a seed: number and six arguments each.
pub fn list(seed: u64, first: u64, count: u64) -> Vec<[u32; 7]> {
    let numbers = numbers();
    (first..first + count)
        .map(|index| {
            let mut random =
                Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ index.wrapping_mul(0x9e37_79b9));
            let nr = random.pick(&numbers);
            let mut call = [nr, 0, 0, 0, 0, 0, 0];
            let kinds = table::info(nr).map_or(&[][..], |row| row.args);
            let mut kinds = kinds.iter().flat_map(|arg| (0..arg.kind.registers()).map(|_| arg.kind));
            for word in &mut call[1..] {
                *word = argument(&mut random, kinds.next());
            }
            call
        })
        .collect()
}

fn argument(random: &mut Random, kind: Option<ArgKind>) -> u32 {
    const EDGES: &[u32] = &[
        0,
        1,
        2,
        7,
        8,
        128,
        4095,
        4096,
        65535,
        65536,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_0000,
        0xffff_f000,
        u32::MAX - 1,
        u32::MAX,
    ];
    // One in four has nothing to do with what is expected.
    if random.below(4) == 0 {
        return match random.below(3) {
            0 => random.next() as u32,
            1 => random.pick(EDGES),
            _ => address(random),
        };
    }
    match kind {
        Some(ArgKind::Fd) => random.below(24),
        Some(ArgKind::DirFd) if random.below(2) == 0 => libc::AT_FDCWD as u32,
        Some(ArgKind::DirFd) => random.below(24),
        Some(ArgKind::Int | ArgKind::Uint | ArgKind::Size | ArgKind::IpcCmd | ArgKind::Signal) => {
            if random.below(4) == 0 { random.pick(EDGES) } else { random.below(70) }
        }
        // 0 and 1 are the guest itself.
        Some(ArgKind::Pid) => random.pick(&[0, 1, 2, u32::MAX]),
        Some(
            ArgKind::Hex
            | ArgKind::OpenFlags
            | ArgKind::AtFlags
            | ArgKind::MmapFlags
            | ArgKind::MmapProt
            | ArgKind::WaitOptions
            | ArgKind::MsgFlags
            | ArgKind::MremapFlags
            | ArgKind::SockType
            | ArgKind::Mode,
        ) => (0..random.below(4)).fold(0, |flags, _| flags | 1 << random.below(24)),
        Some(ArgKind::IoctlCmd) => random.pick(&[0x5400, 0x8900, 0x8b00, 0x1200, 0x6600]) + random.below(128),
        Some(
            ArgKind::Addr
            | ArgKind::Path
            | ArgKind::Str
            | ArgKind::Ptr { .. }
            | ArgKind::In(_)
            | ArgKind::Out(_)
            | ArgKind::IovIn(_)
            | ArgKind::IovOut(_)
            | ArgKind::WaitStatus
            | ArgKind::SigSet
            | ArgKind::OldSigSet
            | ArgKind::SigAction
            | ArgKind::OldSigAction
            | ArgKind::Argv
            | ArgKind::Envp,
        ) => address(random),
        _ => random.below(40),
    }
}

/// Good, bad and half good addresses.
fn address(random: &mut Random) -> u32 {
    let (start, len) = ARENA;
    match random.below(10) {
        0 => 0,
        // The last bytes before nothing.
        1 => start + len - 1 - random.below(64),
        2 => READ_ONLY + random.below(4096),
        3 => random.pick(&[1, start - 1, start + len, 0xbfff_f000, 0xc000_0000, 0xffff_e000, 0xffff_ffff]),
        _ => start + random.below(len - 4096) / 4 * 4,
    }
}

/// What the arena holds: small numbers, addresses in it, text and noise.
pub fn arena(seed: u64) -> Vec<u8> {
    let (start, len) = ARENA;
    let mut random = Random(!seed);
    let words = (0..len / 4).map(|_| match random.below(6) {
        0 => 0,
        1 => random.below(32),
        2 => start + random.below(len),
        3 => u32::from_le_bytes(*b"f/..") >> (8 * random.below(3)),
        4 => u32::MAX - random.below(4),
        _ => random.next() as u32,
    });
    words.flat_map(u32::to_le_bytes).collect()
}

/// A call as people read it.
pub fn described(call: [u32; 7]) -> String {
    let [nr, args @ ..] = call;
    let name = table::info(nr).map_or("?", |row| row.name);
    let args: Vec<String> = args.iter().map(|arg| format!("{arg:#x}")).collect();
    format!("{name} ({nr}) with {}", args.join(", "))
}
