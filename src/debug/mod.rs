//! Tools that look at a program while it runs.

pub mod check;
