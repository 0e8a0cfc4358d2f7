//! The twin for hosts where handlers cannot be copied: blocks stay chains.

use super::op::Op;
use crate::cpu::Cpu;

/// There is none.
pub(super) enum Stitcher {}

impl Stitcher {
    /// `None`.
    pub(super) fn new() -> Option<Stitcher> {
        None
    }

    /// Never called.
    pub(super) fn is_full(&self) -> bool {
        match *self {}
    }

    /// Never called.
    pub(super) fn clear(&mut self) {
        match *self {}
    }

    /// Never called.
    pub(super) fn make_good(&self, _: &mut Cpu) {
        match *self {}
    }

    /// Never called.
    pub(super) fn run_before(&self, _: *const Op) -> u8 {
        match *self {}
    }

    /// Never called.
    ///
    /// # Safety
    /// None to keep.
    pub(super) unsafe fn stitch(&mut self, _: &[*mut Op], _: bool, _: Option<u8>) {
        match *self {}
    }
}
