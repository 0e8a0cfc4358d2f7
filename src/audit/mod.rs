//! What there is and what is missing: of the tables against every instruction there is, and of a program against the tables.

pub mod coverage;
pub mod opcode_map;
pub mod program;
pub mod reference;
mod row;

pub use row::State;

#[cfg(test)]
mod tests;
