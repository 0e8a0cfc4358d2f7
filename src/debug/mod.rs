//! Seeing what a program does: traces, the debugger's side, the processor beside ours.

pub mod check;
pub mod count;
pub mod cov;
pub mod effects;
pub mod gdb;
pub mod symbols;
pub mod trace;
