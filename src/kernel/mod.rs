//! The Linux personality: system calls, signals, processes. Knows no opcodes.

pub mod abi;
pub mod args;
pub mod blocking;
pub mod dir;
pub mod epoll;
pub mod errno;
pub mod event;
pub mod exec;
pub mod fcntl;
pub mod files;
pub mod fs;
pub mod futex;
pub mod host;
pub mod identity;
pub mod io;
pub mod ioctl;
pub mod limits;
pub mod mm;
pub mod paths;
pub mod poll;
pub mod prctl;
pub mod proc;
pub mod process;
pub mod sched;
pub mod segments;
pub mod signal;
pub mod socket;
pub mod stat;
pub mod system;
pub mod table;
pub mod task;
pub mod time;
pub mod timers;
pub mod xattr;

pub use process::{ExitReason, Image, Observer, Options, Process};
