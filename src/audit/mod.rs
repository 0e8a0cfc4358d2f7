//! What there is and what is missing: of the tables against every instruction there is, and of a program against the tables.

pub mod program;
pub mod reference;
