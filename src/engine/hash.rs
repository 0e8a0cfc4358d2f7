//! A hash map for the numbers that the translator looks things up by.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map from a few small numbers. A guest chooses the addresses of its code, and may make look-ups in it slow: its own only.
pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;

/// Multiplies and folds: enough for addresses, and many times faster than a hash that withstands an attack.
#[derive(Debug, Default)]
pub(super) struct Mixer(u64);

impl Mixer {
    fn add(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.add(u64::from(*byte)));
    }

    fn write_u8(&mut self, value: u8) {
        self.add(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }

    fn write_u32(&mut self, value: u32) {
        self.add(u64::from(value));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
