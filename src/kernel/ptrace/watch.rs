//! The debug registers of a traced thread: breakpoints at addresses, and memory whose change is noticed
//! (SDM Vol. 3B, "Debug Registers").
//!
//! While any is armed, the thread runs single instructions. A watched write is noticed by the value that it leaves, so one
//! that stores what was there already goes unnoticed, and reads are not watched.

use crate::memory::Memory;

/// Breakpoints that there are.
const COUNT: usize = 4;
/// DR6 with nothing in it.
const DR6_IDLE: u32 = 0xffff_0ff0;
/// DR6.BS: a single step.
const DR6_STEP: u32 = 1 << 14;
const TYPE_EXECUTE: u32 = 0;
const TYPE_IO: u32 = 2;
/// Bits of DR7 that mean nothing or cannot be had: GD, reserved ones.
const DR7_RESERVED: u32 = 0xf800;

/// DR0 to DR7 and what the watched memory holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Watches {
    address: [u32; COUNT],
    status: u32,
    control: u32,
    before: [u64; COUNT],
    /// Where a breakpoint has just been reported, so that the instruction gets its turn.
    reported: Option<u32>,
}

/// Why a value cannot be had in DR7.
pub(super) fn is_valid_control(control: u32, address: &[u32; 8]) -> bool {
    (0..COUNT).all(|index| {
        let enabled = control >> (2 * index) & 3 != 0;
        let (kind, len) = fields(control, index);
        let aligned = address[index].is_multiple_of(len as u32);
        !enabled || aligned && kind != TYPE_IO && (kind != TYPE_EXECUTE || len == 1)
    })
}

/// The kind and the length in bytes of a breakpoint.
fn fields(control: u32, index: usize) -> (u32, usize) {
    let bits = control >> (16 + 4 * index);
    (bits & 3, [1, 2, 8, 4][(bits >> 2 & 3) as usize])
}

impl Watches {
    /// Tells whether any breakpoint is armed.
    pub(super) fn any(&self) -> bool {
        self.control & 0xff != 0
    }

    fn armed(&self) -> impl Iterator<Item = (usize, u32, usize)> {
        let control = self.control;
        (0..COUNT).filter(move |index| control >> (2 * index) & 3 != 0).map(move |index| {
            let (kind, len) = fields(control, index);
            (index, kind, len)
        })
    }

    /// DR0 to DR7; 4 and 5 are not there.
    pub(super) fn registers(&self) -> [u32; 8] {
        let [a, b, c, d] = self.address;
        [a, b, c, d, 0, 0, self.status, self.control]
    }

    /// Replaces all registers.
    pub(super) fn set(&mut self, registers: [u32; 8], memory: &Memory) {
        let [a, b, c, d, _, _, status, control] = registers;
        self.address = [a, b, c, d];
        self.status = status;
        self.control = control & !DR7_RESERVED;
        self.look(memory);
    }

    fn value(&self, index: usize, len: usize, memory: &Memory) -> u64 {
        let mut bytes = [0; 8];
        // What cannot be read does not change.
        let _ = memory.read_bytes(self.address[index], &mut bytes[..len]);
        u64::from_le_bytes(bytes)
    }

    /// Remembers what the watched memory holds; gives the breakpoints whose memory has changed.
    fn look(&mut self, memory: &Memory) -> u32 {
        let mut hit = 0;
        let armed: Vec<_> = self.armed().filter(|&(_, kind, _)| kind != TYPE_EXECUTE).collect();
        for (index, _, len) in armed {
            let value = self.value(index, len, memory);
            hit |= u32::from(value != self.before[index]) << index;
            self.before[index] = value;
        }
        hit
    }

    fn report(&mut self, hit: u32) -> bool {
        if hit != 0 {
            self.status = DR6_IDLE | hit;
        }
        hit != 0
    }

    /// Before the instruction at `eip`: tells whether there is a breakpoint at it.
    pub(super) fn before(&mut self, eip: u32, memory: &Memory) -> bool {
        if !self.any() {
            return false;
        }
        // What system calls and other threads wrote meanwhile is not this instruction's doing.
        self.look(memory);
        if self.reported.take() == Some(eip) {
            return false;
        }
        let at = |&(index, kind, _): &(usize, u32, usize)| kind == TYPE_EXECUTE && self.address[index] == eip;
        let hit = self.armed().filter(at).fold(0, |hit, (index, ..)| hit | 1 << index);
        if hit != 0 {
            self.reported = Some(eip);
        }
        self.report(hit)
    }

    /// After an instruction: tells whether it has changed watched memory.
    pub(super) fn after(&mut self, memory: &Memory) -> bool {
        if !self.any() {
            return false;
        }
        let hit = self.look(memory);
        self.report(hit)
    }

    /// A single step is reported.
    pub(super) fn stepped(&mut self) {
        self.status = DR6_IDLE | self.status & 0xf | DR6_STEP;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_that_no_breakpoint_can_have_are_refused() {
        let aligned = [0x1000; 8];
        for (control, valid) in [
            (0, true),
            // DR0: execute, one byte; then two bytes; then input and output.
            (0x0000_0001, true),
            (0x0004_0001, false),
            (0x0002_0001, false),
            // DR1: write, four bytes.
            (0x00d0_0004, true),
        ] {
            assert_eq!(is_valid_control(control, &aligned), valid, "{control:#x}");
        }
        assert!(!is_valid_control(0x000d_0001, &[0x1002; 8]));
    }
}
