//! Rust source and text made from the rows.

pub mod decode;
pub mod facts;
pub mod families;
pub mod forms;
pub mod handlers;
pub mod hot;
pub mod map;
