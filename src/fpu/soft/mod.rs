//! The x87 arithmetic in software, exact on every host.
//!
//! Each operation is a pure function `op(operands…, &mut Env) -> result`. The [`Env`] carries the control word in
//! and the raised exceptions and C1 out; nothing else is read or written. Where the manual leaves a choice open
//! (NaN selection, tininess, the partial remainder), the functions do what AMD processors do; the oracle tests
//! compare every operation with the host's own x87.
//!
//! The masked response is always returned. With an exception unmasked, [`Env::stops`] and [`Env::stops_store`] tell
//! the caller that the result must be dropped; overflow and underflow into a register instead return the result with
//! its exponent wrapped (SDM Vol. 1, 4.9.1.4 and 4.9.1.5).

pub mod arith;
pub mod bcd;
pub mod compare;
pub mod constant;
pub mod convert;
mod env;
mod f80;
pub mod quick;
pub mod rem;
mod round;
pub mod scale;
pub mod trans;

pub use env::{Env, Rounding, flag};
pub use f80::{Class, F80};
