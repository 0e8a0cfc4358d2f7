//! `/proc/cpuinfo` of the processor that is emulated.

use crate::isa::{CpuModel, FEATURES, Feature};
use std::fmt::Write as _;

/// Linux's names for features that it does not call by the manual's name in small letters.
const NAMES: [(&str, &str); 8] = [
    ("CLFSH", "clflush"),
    ("SSE3", "pni"),
    ("SSE4.1", "sse4_1"),
    ("SSE4.2", "sse4_2"),
    ("SHA", "sha_ni"),
    ("PREFETCHW", "3dnowprefetch"),
    ("SS", "ss"),
    ("SYSCALL", "syscall"),
];

/// A feature that Linux does not list.
const UNLISTED: &str = "OSXSAVE";

/// The name of a feature in the list of flags.
fn flag(feature: &Feature) -> String {
    match NAMES.iter().find(|(name, _)| *name == feature.name) {
        Some((_, name)) => (*name).to_owned(),
        None => feature.name.to_lowercase(),
    }
}

/// The text for so many processors, all alike.
pub fn text(cpu: &CpuModel, processors: usize) -> String {
    let model = cpu.model();
    let shown = FEATURES.iter().filter(|feature| cpu.shows(feature) && feature.name != UNLISTED);
    let flags: Vec<String> = shown.map(flag).collect();
    let [_, ebx, ecx, edx] = cpu.answer(0, 0);
    let vendor: Vec<u8> = [ebx, edx, ecx].into_iter().flat_map(u32::to_le_bytes).collect();
    let mut text = String::new();
    for number in 0..processors {
        let _ = write!(
            text,
            "processor\t: {number}\n\
             vendor_id\t: {}\n\
             cpu family\t: {}\n\
             model\t\t: {}\n\
             model name\t: {}\n\
             stepping\t: {}\n\
             physical id\t: 0\n\
             siblings\t: {processors}\n\
             core id\t\t: {number}\n\
             cpu cores\t: {processors}\n\
             apicid\t\t: {number}\n\
             initial apicid\t: {number}\n\
             fpu\t\t: yes\n\
             fpu_exception\t: yes\n\
             cpuid level\t: {}\n\
             wp\t\t: yes\n\
             flags\t\t: {}\n\
             bugs\t\t:\n\
             clflush size\t: {}\n\
             cache_alignment\t: {}\n\
             address sizes\t: 36 bits physical, 32 bits virtual\n\
             power management:\n\n",
            String::from_utf8_lossy(&vendor),
            model.family,
            model.model,
            if model.brand.is_empty() { model.name } else { model.brand },
            model.stepping,
            cpu.max_leaf(),
            flags.join(" "),
            (cpu.answer(1, 0)[1] >> 8 & 0xff) * 8,
            64,
        );
    }
    text
}

/// How many processors a host's `/proc/cpuinfo` lists; at least one.
pub fn processors(host_text: &str) -> usize {
    host_text.lines().filter(|line| line.starts_with("processor")).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_processor_has_its_paragraph() {
        let text = text(&CpuModel::default(), 3);
        assert_eq!(processors(&text), 3);
        assert_eq!(text.matches("\n\n").count(), 3);
        assert!(text.lines().filter(|line| line.starts_with("flags")).all(|line| line.contains(" fpu")));
        assert!(!text.contains("sse4."));
    }
}
