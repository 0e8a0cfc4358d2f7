//! What CPUID answers: models of processors, less what the tables do not have yet.

use crate::cpu::image::{XCR0, XSAVE_BYTES};

include!(concat!(env!("OUT_DIR"), "/features.rs"));

/// A bit of CPUID.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// The SDM's name, which rows use too.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Leaf; subleaf 0.
    pub leaf: u32,
    /// 0 to 3: EAX EBX ECX EDX.
    pub register: usize,
    /// Bit in the register.
    pub bit: u32,
    /// Every row that needs it is implemented, or none could.
    pub implemented: bool,
}

/// A processor that can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// For `--cpu`.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Displayed family.
    pub family: u32,
    /// Displayed model.
    pub model: u32,
    /// Stepping.
    pub stepping: u32,
    /// Highest basic leaf, but for [`CpuModel::max_leaf`].
    pub max_leaf: u32,
    /// Highest extended leaf, 0 for none.
    pub max_extended: u32,
    /// Brand string, at most 47 bytes.
    pub brand: &'static str,
    /// Names of its features.
    pub features: &'static [&'static str],
    /// EAX EBX ECX EDX of leaf 2.
    pub descriptors: [u32; 4],
}

const VENDOR: [u8; 12] = *b"GenuineIntel";
const HYPERVISOR: [u8; 12] = *b"Table86\0\0\0\0\0";
const HYPERVISOR_LEAF: u32 = 0x4000_0000;
const EXTENDED_LEAF: u32 = 0x8000_0000;
/// What XSAVE saves.
const XSAVE_LEAF: u32 = 13;
/// Bytes in a cache line.
const LINE_BYTES: u32 = 64;

/// The processor that a guest sees.
#[derive(Clone, Copy, Debug)]
pub struct CpuModel {
    model: &'static Model,
}

impl Default for CpuModel {
    /// The model with everything, `max`.
    fn default() -> Self {
        CpuModel { model: &MODELS[MODELS.len() - 1] }
    }
}

impl CpuModel {
    /// The model of this name, if there is one.
    pub fn named(name: &str) -> Option<CpuModel> {
        MODELS.iter().find(|model| model.name == name).map(|model| CpuModel { model })
    }

    /// The facts behind it.
    pub fn model(&self) -> &'static Model {
        self.model
    }

    /// Tells whether the model has all of these features, also those that CPUID does not show because a row is
    /// missing.
    pub fn has_all(&self, features: &[&str]) -> bool {
        features.iter().all(|feature| self.model.features.contains(feature))
    }

    /// Those of the features that the model does not have.
    pub fn lacks(&self, features: &[&'static str]) -> Vec<&'static str> {
        features.iter().copied().filter(|feature| !self.has_all(&[feature])).collect()
    }

    /// Tells whether CPUID shows a feature: the model has it, and every row that needs it is implemented.
    pub fn shows(&self, feature: &Feature) -> bool {
        feature.implemented && self.has_all(&[feature.name])
    }

    /// The same of a feature by its name.
    pub fn shows_named(&self, name: &str) -> bool {
        FEATURES.iter().any(|feature| feature.name == name && self.shows(feature))
    }

    /// The highest basic leaf.
    pub fn max_leaf(&self) -> u32 {
        let most = self.model.max_leaf;
        if self.shows_named("XSAVE") { most.max(XSAVE_LEAF) } else { most }
    }

    /// EAX EBX ECX EDX for leaf EAX, subleaf ECX. SDM Vol. 2A, "CPUID".
    pub fn answer(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let leaf = match leaf {
            HYPERVISOR_LEAF if self.has_all(&["HYPERVISOR"]) => leaf,
            EXTENDED_LEAF.. if leaf <= self.model.max_extended => leaf,
            // Beyond both ranges the highest basic leaf answers.
            _ => leaf.min(self.max_leaf()),
        };
        let mut answer = self.fixed(leaf, subleaf);
        if subleaf == 0 || leaf == 1 || leaf >= EXTENDED_LEAF {
            for feature in FEATURES.iter().filter(|feature| feature.leaf == leaf && self.shows(feature)) {
                answer[feature.register] |= 1 << feature.bit;
            }
        }
        answer
    }

    /// What is not a feature bit.
    fn fixed(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        match leaf {
            0 => {
                let [ebx, edx, ecx] = words(VENDOR);
                [self.max_leaf(), ebx, ecx, edx]
            }
            1 => {
                let line = if self.has_all(&["CLFSH"]) { LINE_BYTES / 8 } else { 0 };
                [self.signature(), line << 8, 0, 0]
            }
            2 => self.model.descriptors,
            4 => cache(subleaf),
            // Components, bytes of an area with those that are enabled, and with all. Nothing behind subleaf 0: no components of
            // AVX or later, and none of XSAVE's younger kin.
            XSAVE_LEAF if subleaf == 0 && self.shows_named("XSAVE") => {
                [XCR0, XSAVE_BYTES as u32, XSAVE_BYTES as u32, 0]
            }
            HYPERVISOR_LEAF => {
                let [ebx, ecx, edx] = words(HYPERVISOR);
                [HYPERVISOR_LEAF, ebx, ecx, edx]
            }
            EXTENDED_LEAF => [self.model.max_extended, 0, 0, 0],
            0x8000_0002..=0x8000_0004 => {
                let mut text = [0; 48];
                let length = self.model.brand.len().min(47);
                text[..length].copy_from_slice(&self.model.brand.as_bytes()[..length]);
                let part = (leaf - 0x8000_0002) as usize * 16;
                let word =
                    |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| text[part + at * 4 + byte]));
                [word(0), word(1), word(2), word(3)]
            }
            // L2: 256 KiB, 8 ways.
            0x8000_0006 => [0, 0, 256 << 16 | 6 << 12 | LINE_BYTES, 0],
            // 36 bits of physical, 32 of linear address.
            0x8000_0008 => [32 << 8 | 36, 0, 0, 0],
            _ => [0; 4],
        }
    }

    /// EAX of leaf 1: families beyond 15 and models beyond 15 use the extended fields.
    fn signature(&self) -> u32 {
        let Model { family, model, stepping, .. } = *self.model;
        let extended_family = family.saturating_sub(15);
        extended_family << 20 | model >> 4 << 16 | family.min(15) << 8 | (model & 15) << 4 | stepping
    }
}

/// Twelve characters as three registers.
fn words(text: [u8; 12]) -> [u32; 3] {
    [0, 4, 8].map(|at| u32::from_le_bytes([0, 1, 2, 3].map(|byte| text[at + byte])))
}

/// Leaf 4: 32 KiB of L1 data, 32 KiB of L1 instructions, 256 KiB of L2, 8 MiB of L3, each 64 bytes a line.
fn cache(subleaf: u32) -> [u32; 4] {
    const DATA: u32 = 1;
    const CODE: u32 = 2;
    const UNIFIED: u32 = 3;
    let (kind, level, ways, sets) = match subleaf {
        0 => (DATA, 1, 8, 64),
        1 => (CODE, 1, 8, 64),
        2 => (UNIFIED, 2, 8, 512),
        3 => (UNIFIED, 3, 16, 8192),
        _ => return [0; 4],
    };
    const SELF_INITIALIZING: u32 = 1 << 8;
    [kind | level << 5 | SELF_INITIALIZING, (ways - 1) << 22 | (LINE_BYTES - 1), sets - 1, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_model_is_max() {
        assert_eq!(CpuModel::default().model().name, "max");
    }

    #[test]
    fn vendor_string_spells_genuine_intel() {
        let [_, ebx, ecx, edx] = CpuModel::default().answer(0, 0);
        let text: Vec<u8> = [ebx, edx, ecx].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(text, VENDOR);
    }

    #[test]
    fn signatures_read_back_as_family_model_stepping() {
        for model in &MODELS {
            let eax = CpuModel::named(model.name).expect("it is in the list").answer(1, 0)[0];
            let base_family = eax >> 8 & 15;
            let family = if base_family == 15 { 15 + (eax >> 20 & 255) } else { base_family };
            let number = (eax >> 4 & 15) | (eax >> 16 & 15) << 4;
            assert_eq!(
                (family, number, eax & 15),
                (model.family, model.model, model.stepping),
                "{}",
                model.name
            );
        }
    }

    #[test]
    fn missing_rows_hide_a_feature_that_the_model_has() {
        let cpu = CpuModel::default();
        for feature in FEATURES.iter().filter(|feature| cpu.has_all(&[feature.name])) {
            let shown = cpu.answer(feature.leaf, 0)[feature.register] >> feature.bit & 1 != 0;
            assert_eq!(shown, feature.implemented, "{}", feature.name);
        }
    }

    #[test]
    fn leaf_beyond_the_highest_answers_as_the_highest() {
        for model in &MODELS {
            let cpu = CpuModel { model };
            assert_eq!(cpu.answer(0x100, 0), cpu.answer(cpu.max_leaf(), 0), "{}", model.name);
            assert_eq!(cpu.answer(0xc000_0000, 0), cpu.answer(cpu.max_leaf(), 0), "{}", model.name);
        }
    }

    #[test]
    fn leaf_of_xsave_is_there_where_xsave_is() {
        for model in &MODELS {
            let cpu = CpuModel { model };
            let has = model.features.contains(&"XSAVE");
            assert_eq!(cpu.answer(0, 0)[0] >= XSAVE_LEAF, has, "{}", model.name);
            if has {
                assert_eq!(cpu.answer(XSAVE_LEAF, 0), [3, 576, 576, 0], "{}", model.name);
                assert_eq!([1, 2, 64].map(|subleaf| cpu.answer(XSAVE_LEAF, subleaf)), [[0; 4]; 3]);
                assert_eq!(cpu.answer(1, 0)[2] >> 26 & 3, 3, "{}", model.name);
            }
        }
    }

    #[test]
    fn brand_string_ends_with_zero() {
        for model in MODELS.iter().filter(|model| model.max_extended >= 0x8000_0004) {
            let cpu = CpuModel { model };
            let text: Vec<u8> = (0x8000_0002..=0x8000_0004)
                .flat_map(|leaf| cpu.answer(leaf, 0))
                .flat_map(u32::to_le_bytes)
                .collect();
            assert_eq!(text.last(), Some(&0));
            assert!(text.starts_with(model.brand.as_bytes()));
        }
    }

    #[test]
    fn features_have_bits_of_their_own() {
        for (at, feature) in FEATURES.iter().enumerate() {
            let place = |feature: &Feature| (feature.leaf, feature.register, feature.bit);
            assert!(FEATURES[..at].iter().all(|other| place(other) != place(feature)), "{}", feature.name);
        }
    }
}
