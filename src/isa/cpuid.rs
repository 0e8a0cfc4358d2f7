//! What CPUID answers.

/// A CPU model: which features it has.
#[derive(Clone, Debug, Default)]
pub struct CpuModel {}

impl CpuModel {
    /// Whether all of these features are there.
    pub fn has_all(&self, _: &[&str]) -> bool {
        true
    }
}
