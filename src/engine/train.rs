//! Finds out which specialised handlers programs would use, for `opcodes/hot.txt`.

use super::keys;
use super::translate::Translations;
use crate::cpu::Cpu;
use crate::memory::{MapRequest, Memory, Place, Prot};
use std::collections::{HashMap, HashSet};

/// How much more an instruction in a loop weighs.
const LOOP_WEIGHT: u64 = 8;

/// Counts of the handlers that code would use: by the notation of `hot.txt`.
#[derive(Debug, Default)]
pub struct Survey {
    /// Single instructions.
    pub singles: HashMap<String, u64>,
    /// Two in a row, joined by ` + `.
    pub pairs: HashMap<String, u64>,
    /// The same, of the x87.
    pub x87: HashMap<String, u64>,
}

impl Survey {
    /// Adds the code in `text`, which is linked to run at `base`: everything that can be reached from its start, from jumps, and
    /// by going on behind each block.
    ///
    /// # Errors
    /// When the guest's memory cannot be made or `text` does not fit into it.
    pub fn add(&mut self, text: &[u8], base: u32) -> std::io::Result<()> {
        let memory = Memory::new()?;
        let start = base & !0xfff;
        let end = (u64::from(base) + text.len() as u64 + 0xfff) & !0xfff;
        let len = u32::try_from(end - u64::from(start)).map_err(std::io::Error::other)?;
        let request = MapRequest::anonymous(Place::Fixed(start), len, Prot::READ | Prot::WRITE | Prot::EXEC);
        memory.map(&request).map_err(std::io::Error::other)?;
        memory.write_bytes(base, text).map_err(std::io::Error::other)?;
        let cpu = Cpu::new();
        let inside = base..base + text.len() as u32;
        let mut seen = HashSet::new();
        let mut work = vec![base];
        while let Some(eip) = work.pop() {
            if !inside.contains(&eip) || !seen.insert(eip) {
                continue;
            }
            let mut found = Vec::new();
            let targets =
                Translations::survey(&cpu, &memory, eip, |eip, key, second| found.push((eip, key, second)));
            // A block that leads back into itself is a loop.
            let back = targets.iter().filter(|target| found.iter().any(|(eip, _, _)| eip == *target)).min();
            for (eip, key, second) in found {
                let weight = if back.is_some_and(|back| eip >= *back) { LOOP_WEIGHT } else { 1 };
                let text = keys::describe(key);
                match second {
                    None => *self.singles.entry(text).or_default() += weight,
                    Some(second) => {
                        let both = [key, second].map(keys::is_in_software);
                        let pairs = if both == [true; 2] { &mut self.x87 } else { &mut self.pairs };
                        *pairs.entry(format!("{text} + {}", keys::describe(second))).or_default() += weight;
                    }
                }
            }
            work.extend(targets);
        }
        Ok(())
    }
}
