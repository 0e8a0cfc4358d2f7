//! Names of flags and constants, as strace(1) shows them.

use libc as c;

/// A constant and its name.
pub(super) type Name = (u32, &'static str);

macro_rules! names {
    ($($(#[$meta:meta])* $list:ident: $($name:ident)*;)*) => { $(
        $(#[$meta])*
        pub(super) const $list: &[Name] = &[$((c::$name as u32, stringify!($name)),)*];
    )* };
}

names! {
    AT: AT_SYMLINK_NOFOLLOW AT_REMOVEDIR AT_SYMLINK_FOLLOW AT_NO_AUTOMOUNT AT_EMPTY_PATH AT_STATX_FORCE_SYNC
        AT_STATX_DONT_SYNC;
    ACCESS: R_OK W_OK X_OK;
    PROT: PROT_READ PROT_WRITE PROT_EXEC PROT_GROWSDOWN PROT_GROWSUP;
    MAP: MAP_SHARED_VALIDATE MAP_SHARED MAP_PRIVATE MAP_FIXED MAP_ANONYMOUS MAP_GROWSDOWN MAP_DENYWRITE MAP_EXECUTABLE
        MAP_LOCKED MAP_NORESERVE MAP_POPULATE MAP_NONBLOCK MAP_STACK MAP_HUGETLB MAP_SYNC MAP_FIXED_NOREPLACE;
    MREMAP: MREMAP_MAYMOVE MREMAP_FIXED MREMAP_DONTUNMAP;
    CLONE: CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_PIDFD CLONE_PTRACE CLONE_VFORK CLONE_PARENT CLONE_THREAD
        CLONE_NEWNS CLONE_SYSVSEM CLONE_SETTLS CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID CLONE_DETACHED CLONE_UNTRACED
        CLONE_CHILD_SETTID CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET CLONE_IO;
    WAIT: WNOHANG WUNTRACED WEXITED WCONTINUED WNOWAIT __WALL __WCLONE;
    RANDOM: GRND_NONBLOCK GRND_RANDOM;
    STATX: STATX_ALL STATX_BASIC_STATS STATX_TYPE STATX_MODE STATX_NLINK STATX_UID STATX_GID STATX_ATIME STATX_MTIME
        STATX_CTIME STATX_INO STATX_SIZE STATX_BLOCKS STATX_BTIME STATX_MNT_ID;
    SOCKET_FLAGS: SOCK_CLOEXEC SOCK_NONBLOCK;
    MESSAGE: MSG_OOB MSG_PEEK MSG_DONTROUTE MSG_CTRUNC MSG_TRUNC MSG_DONTWAIT MSG_EOR MSG_WAITALL MSG_CONFIRM
        MSG_NOSIGNAL MSG_MORE MSG_WAITFORONE MSG_CMSG_CLOEXEC MSG_FASTOPEN MSG_ERRQUEUE;
    POLL: POLLIN POLLPRI POLLOUT POLLERR POLLHUP POLLNVAL POLLRDNORM POLLRDBAND POLLWRNORM POLLWRBAND POLLRDHUP;
    EPOLL: EPOLLIN EPOLLPRI EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDHUP EPOLLEXCLUSIVE EPOLLWAKEUP EPOLLONESHOT EPOLLET;
    LOCK: LOCK_SH LOCK_EX LOCK_UN LOCK_NB;

    ACCESS_MODE: O_RDONLY O_WRONLY O_RDWR;
    CLOCK: CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID CLOCK_MONOTONIC_RAW
        CLOCK_REALTIME_COARSE CLOCK_MONOTONIC_COARSE CLOCK_BOOTTIME CLOCK_REALTIME_ALARM CLOCK_BOOTTIME_ALARM CLOCK_TAI;
    WHENCE: SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE;
    DOMAIN: AF_UNSPEC AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_VSOCK AF_ALG;
    LEVEL: SOL_IP SOL_SOCKET SOL_TCP SOL_UDP SOL_IPV6 SOL_RAW SOL_PACKET SOL_NETLINK;
    WHO: RUSAGE_SELF RUSAGE_CHILDREN RUSAGE_THREAD;
    IPC: IPC_RMID IPC_SET IPC_STAT IPC_INFO;
    EPOLL_OP: EPOLL_CTL_ADD EPOLL_CTL_DEL EPOLL_CTL_MOD;
    ADVICE: MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTNEED MADV_FREE MADV_REMOVE MADV_DONTFORK
        MADV_DOFORK MADV_MERGEABLE MADV_UNMERGEABLE MADV_HUGEPAGE MADV_NOHUGEPAGE MADV_DONTDUMP MADV_DODUMP
        MADV_WIPEONFORK MADV_KEEPONFORK MADV_COLD MADV_PAGEOUT MADV_POPULATE_READ MADV_POPULATE_WRITE;
    FCNTL: F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_SETOWN F_GETOWN F_DUPFD_CLOEXEC F_SETLEASE F_GETLEASE F_NOTIFY
        F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW;
    RESOURCE: RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC RLIMIT_NOFILE
        RLIMIT_MEMLOCK RLIMIT_AS RLIMIT_LOCKS RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME;
    FUTEX: FUTEX_WAIT FUTEX_WAKE FUTEX_FD FUTEX_REQUEUE FUTEX_CMP_REQUEUE FUTEX_WAKE_OP FUTEX_LOCK_PI FUTEX_UNLOCK_PI
        FUTEX_TRYLOCK_PI FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET FUTEX_WAIT_REQUEUE_PI FUTEX_CMP_REQUEUE_PI FUTEX_LOCK_PI2;
    SIG_HOW: SIG_BLOCK SIG_UNBLOCK SIG_SETMASK;
    PRCTL: PR_SET_PDEATHSIG PR_GET_PDEATHSIG PR_GET_DUMPABLE PR_SET_DUMPABLE PR_GET_KEEPCAPS PR_SET_KEEPCAPS PR_SET_NAME
        PR_GET_NAME PR_GET_SECCOMP PR_SET_SECCOMP PR_CAPBSET_READ PR_CAPBSET_DROP PR_SET_TIMERSLACK PR_GET_TIMERSLACK
        PR_SET_CHILD_SUBREAPER PR_GET_CHILD_SUBREAPER PR_SET_NO_NEW_PRIVS PR_GET_NO_NEW_PRIVS PR_SET_MM PR_SET_VMA
        PR_GET_TSC PR_SET_TSC;
    SOCKET: SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_RDM SOCK_SEQPACKET;
    FILE_TYPE: S_IFSOCK S_IFLNK S_IFREG S_IFBLK S_IFDIR S_IFCHR S_IFIFO;
    SIGNAL: SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM
        SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF
        SIGWINCH SIGIO SIGPWR SIGSYS;
}

/// Flags of `open` beside the access mode, as i386 numbers them; the host's C library has 0 for `O_LARGEFILE`. Those that
/// contain others come first.
const OPEN: &[Name] = &[
    (0o20_200_000, "O_TMPFILE"),
    (0o4_010_000, "O_SYNC"),
    (0o100, "O_CREAT"),
    (0o200, "O_EXCL"),
    (0o400, "O_NOCTTY"),
    (0o1000, "O_TRUNC"),
    (0o2000, "O_APPEND"),
    (0o4000, "O_NONBLOCK"),
    (0o10_000, "O_DSYNC"),
    (0o20_000, "O_ASYNC"),
    (0o40_000, "O_DIRECT"),
    (0o100_000, "O_LARGEFILE"),
    (0o400_000, "O_NOFOLLOW"),
    (0o1_000_000, "O_NOATIME"),
    (0o2_000_000, "O_CLOEXEC"),
    (0o10_000_000, "O_PATH"),
    (0o200_000, "O_DIRECTORY"),
];

/// Commands of `fcntl` that i386 has beside the host's.
pub(super) const FCNTL_I386: &[Name] = &[
    (5, "F_GETLK"),
    (6, "F_SETLK"),
    (7, "F_SETLKW"),
    (12, "F_GETLK64"),
    (13, "F_SETLK64"),
    (14, "F_SETLKW64"),
];

/// Flags of `struct sigaction`.
pub(super) const SIGACTION: &[Name] = &[
    (0x0400_0000, "SA_RESTORER"),
    (0x0800_0000, "SA_ONSTACK"),
    (0x1000_0000, "SA_RESTART"),
    (0x4000_0000, "SA_NODEFER"),
    (0x8000_0000, "SA_RESETHAND"),
    (4, "SA_SIGINFO"),
    (1, "SA_NOCLDSTOP"),
    (2, "SA_NOCLDWAIT"),
];

/// The name of a value, or the value in hexadecimal.
pub(super) fn one(names: &[Name], value: u32) -> String {
    match names.iter().find(|name| name.0 == value) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("{value:#x}"),
    }
}

/// The names of set bits, with what has no name in hexadecimal; `none` if no bit is set.
pub(super) fn set(names: &[Name], mut value: u32, none: &str) -> String {
    let mut parts = Vec::new();
    for &(bits, name) in names {
        if bits != 0 && value & bits == bits {
            parts.push(name.to_owned());
            value &= !bits;
        }
    }
    if value != 0 {
        parts.push(format!("{value:#x}"));
    }
    if parts.is_empty() { none.to_owned() } else { parts.join("|") }
}

/// A signal's name.
pub(super) fn signal(number: i32) -> String {
    match number {
        32 => "SIGRTMIN".to_owned(),
        33..=64 => format!("SIGRT_{}", number - 32),
        _ => match SIGNAL.iter().find(|name| name.0 == number as u32) {
            Some((_, name)) => (*name).to_owned(),
            None => number.to_string(),
        },
    }
}

/// A signal's `si_code`.
pub(super) fn signal_code(signal: i32, code: i32) -> String {
    let common: &[(i32, &str)] = &[
        (0, "SI_USER"),
        (0x80, "SI_KERNEL"),
        (-1, "SI_QUEUE"),
        (-2, "SI_TIMER"),
        (-3, "SI_MESGQ"),
        (-4, "SI_ASYNCIO"),
        (-5, "SI_SIGIO"),
        (-6, "SI_TKILL"),
    ];
    let own: &[&str] = match signal {
        c::SIGILL => &["ILL_ILLOPC", "ILL_ILLOPN", "ILL_ILLADR", "ILL_ILLTRP", "ILL_PRVOPC", "ILL_PRVREG"],
        c::SIGFPE => &[
            "FPE_INTDIV",
            "FPE_INTOVF",
            "FPE_FLTDIV",
            "FPE_FLTOVF",
            "FPE_FLTUND",
            "FPE_FLTRES",
            "FPE_FLTINV",
            "FPE_FLTSUB",
        ],
        c::SIGSEGV => &["SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR"],
        c::SIGBUS => &["BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR"],
        c::SIGTRAP => &["TRAP_BRKPT", "TRAP_TRACE", "TRAP_BRANCH", "TRAP_HWBKPT"],
        c::SIGCHLD => {
            &["CLD_EXITED", "CLD_KILLED", "CLD_DUMPED", "CLD_TRAPPED", "CLD_STOPPED", "CLD_CONTINUED"]
        }
        c::SIGIO => &["POLL_IN", "POLL_OUT", "POLL_MSG", "POLL_ERR", "POLL_PRI", "POLL_HUP"],
        _ => &[],
    };
    let named = common.iter().find(|entry| entry.0 == code).map(|entry| entry.1);
    let index = usize::try_from(code).ok().and_then(|code| code.checked_sub(1));
    match named.or_else(|| own.get(index?).copied()) {
        Some(name) => name.to_owned(),
        None => code.to_string(),
    }
}

/// A set of signals: `[INT CHLD]`, or `~[…]` if most are in it.
pub(super) fn signals(set: u64) -> String {
    const MOST: u32 = 32;
    let (mark, set) = if set.count_ones() > MOST { ("~", !set) } else { ("", set) };
    let names: Vec<String> = (1..=64)
        .filter(|number| set >> (number - 1) & 1 != 0)
        .map(|number| signal(number).trim_start_matches("SIG").to_owned())
        .collect();
    format!("{mark}[{}]", names.join(" "))
}

/// Flags of `open`, with the access mode first.
pub(super) fn open_flags(flags: u32) -> String {
    let access = c::O_ACCMODE as u32;
    let rest = set(OPEN, flags & !access, "");
    let bar = if rest.is_empty() { "" } else { "|" };
    format!("{}{bar}{rest}", one(ACCESS_MODE, flags & access))
}

/// A file's type and permissions.
pub(super) fn file_mode(mode: u32) -> String {
    let kind = one(FILE_TYPE, mode & c::S_IFMT);
    let special =
        set(&[(c::S_ISUID, "S_ISUID"), (c::S_ISGID, "S_ISGID"), (c::S_ISVTX, "S_ISVTX")], mode & 0o7000, "");
    let bar = if special.is_empty() { "" } else { "|" };
    format!("{kind}{bar}{special}|0{:o}", mode & 0o777)
}

/// Bytes as a C string; `cut` says that there are more.
pub(super) fn quoted(bytes: &[u8], cut: bool) -> String {
    let mut text = String::from("\"");
    for (index, &byte) in bytes.iter().enumerate() {
        match byte {
            b'"' => text += "\\\"",
            b'\\' => text += "\\\\",
            b'\n' => text += "\\n",
            b'\t' => text += "\\t",
            b'\r' => text += "\\r",
            0x0b => text += "\\v",
            0x0c => text += "\\f",
            0x20..=0x7e => text.push(byte.into()),
            // Short, unless a digit follows that would be taken for a part of it.
            _ if bytes.get(index + 1).is_some_and(u8::is_ascii_digit) => text += &format!("\\{byte:03o}"),
            _ => text += &format!("\\{byte:o}"),
        }
    }
    text.push('"');
    if cut {
        text += "...";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named_and_the_rest_is_shown() {
        assert_eq!(set(PROT, 3, "PROT_NONE"), "PROT_READ|PROT_WRITE");
        assert_eq!(set(PROT, 0, "PROT_NONE"), "PROT_NONE");
        assert_eq!(set(PROT, 0x101, "PROT_NONE"), "PROT_READ|0x100");
        assert_eq!(open_flags(0o2_100_000), "O_RDONLY|O_LARGEFILE|O_CLOEXEC");
    }

    #[test]
    fn signals_are_shown_without_their_prefix() {
        assert_eq!(signals(0), "[]");
        assert_eq!(signals(1 << 1 | 1 << 16), "[INT CHLD]");
        assert_eq!(signals(!0), "~[]");
        assert_eq!(signal(34), "SIGRT_2");
    }

    #[test]
    fn strings_are_quoted_as_in_c() {
        assert_eq!(quoted(b"a\"\n\x01", false), r#""a\"\n\1""#);
        assert_eq!(quoted(b"\x011", true), r#""\0011"..."#);
    }
}
