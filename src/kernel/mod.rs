//! The Linux personality: system calls, signals, processes. Knows no opcodes.

pub mod blocking;
pub mod exec;
pub mod futex;
pub mod ids;
pub mod mm;
pub mod prctl;
pub mod process;
pub mod sched;
pub mod segments;
pub mod signal;
pub mod task;
pub mod timers;

pub use process::{ExitReason, Image, Observer, Options, Process};
