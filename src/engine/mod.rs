//! The engine: superblocks of 16-byte ops, run by handlers that call one another in tail position.

pub(crate) mod handlers;
pub(crate) mod hook;
pub(crate) mod keys;
pub(crate) mod links;
pub(crate) mod op;
pub(crate) mod operand;
pub(crate) mod recover;
pub(crate) mod run;
pub(crate) mod shared;
pub(crate) mod tally;
pub(crate) mod train;
pub(crate) mod translate;

mod arena;
mod encode;
mod hash;
mod liveness;
mod path;
mod refuse;
#[cfg(trap_memory)]
mod stitch;
#[cfg(not(trap_memory))]
#[path = "stitch/none.rs"]
mod stitch;
