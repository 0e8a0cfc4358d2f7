//! Table86 runs 32-bit x86 (IA-32) Linux programs in user space.
//!
//! The instruction set is declared in tables (`opcodes/`), from which `build.rs` makes the decoder, the handlers and
//! the data behind [`isa`]. [`Machine`] executes instructions; `kernel` is Linux around it; `loader` starts programs.
//! See `ARCHITECTURE.md`.
#![deny(unsafe_code)]
#![deny(clippy::undocumented_unsafe_blocks)]
#![warn(missing_docs)]

pub mod audit;
#[allow(unsafe_code)]
pub mod cpu;
pub mod debug;
pub mod disasm;
#[allow(unsafe_code)]
mod engine;
pub mod fpu;
pub mod isa;
pub mod kernel;
pub mod loader;
#[allow(unsafe_code)]
pub mod memory;

pub use cpu::{Cpu, Fault, FaultKind};
pub use engine::hook::{Breakpoints, Hook};
pub use engine::recover::on_sent_signal;
pub use engine::run::{Machine, Stop};
pub use engine::train::Survey;
pub use memory::Memory;
