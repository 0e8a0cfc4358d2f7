//! Bodies of instructions, a module a table of `opcodes/`.

pub mod bcd;
pub mod bit;
pub mod bmi;
pub mod control;
pub mod crypto;
pub mod ext;
pub mod flag;
pub mod fxsave;
pub mod integer;
pub mod mmx;
pub mod segment;
pub mod shift;
pub mod sse4;
pub mod sse_convert;
pub mod sse_float;
pub mod sse_integer;
pub mod sse_move;
pub mod stack;
pub mod string;
pub mod system;
pub mod x87_arith;
pub mod x87_compare;
pub mod x87_control;
pub mod x87_transfer;

#[cfg(all(test, target_arch = "x86_64"))]
mod silicon;
