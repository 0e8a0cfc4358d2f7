//! Bodies of instructions, a module a table of `opcodes/`.

pub mod bcd;
pub mod bit;
pub mod flag;
pub mod integer;
pub mod shift;

#[cfg(all(test, target_arch = "x86_64"))]
mod silicon;
