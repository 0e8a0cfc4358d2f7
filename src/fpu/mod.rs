//! x87.

/// State.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fpu {}
