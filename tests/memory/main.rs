//! The guest's memory from outside: against the host's kernel doing the same, and by named behaviours.

mod access;
mod code;
mod mapping;
#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
mod native;
mod support;
