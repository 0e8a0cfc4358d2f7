//! Seeing what a program does: traces, the debugger's side, counts.

pub mod effects;
pub mod gdb;
pub mod symbols;
pub mod trace;
