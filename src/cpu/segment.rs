//! Segment registers and the descriptors that user mode can load or ask about (SDM Vol. 3A, 3.4 and 3.5).

use super::Fault;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Segment registers in the manual's numbering, and "none" (base 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Seg {
    Es = 0,
    Cs = 1,
    Ss = 2,
    Ds = 3,
    Fs = 4,
    Gs = 5,
    None = 6,
}

/// Linux's selector of 32-bit user code.
pub const USER_CODE: u16 = 0x23;
/// Linux's selector of user data.
pub const USER_DATA: u16 = 0x2b;

/// Vectors that INT n may use in user mode under Linux: breakpoint, overflow, system call.
pub const OPEN_GATES: [u8; 3] = [3, 4, 0x80];
/// In an error code: the index is one of the IDT (SDM Vol. 3A, 6.13).
pub const IDT_DESCRIPTOR: u16 = 2;

/// GDT entries that Linux has; more are never visible.
pub const GDT_ENTRIES: usize = 16;

/// A local descriptor table, which belongs to the memory rather than to a processor.
#[derive(Clone, Debug, Default)]
pub struct Ldt(Arc<RwLock<Vec<u64>>>);

impl Ldt {
    /// A descriptor, if the table is so long.
    pub fn get(&self, index: usize) -> Option<u64> {
        self.read().get(index).copied()
    }

    /// Replaces a descriptor; the table grows as needed.
    pub fn set(&self, index: usize, descriptor: u64) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if table.len() <= index {
            table.resize(index + 1, 0);
        }
        table[index] = descriptor;
    }

    /// Tells whether there is no table.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// All descriptors, which stay as they are for as long.
    pub fn read(&self) -> RwLockReadGuard<'_, Vec<u64>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The descriptor tables: raw 8-byte descriptors as the manual lays them out.
#[derive(Clone, Debug)]
pub struct Descriptors {
    /// The GDT; Linux's fixed entries and the three TLS entries (12 to 14).
    pub gdt: [u64; GDT_ENTRIES],
    /// The LDT, as long as `modify_ldt` made it. Clones share it, as threads do.
    pub ldt: Ldt,
}

impl Default for Descriptors {
    fn default() -> Self {
        let mut gdt = [0; GDT_ENTRIES];
        // Linux's GDT on a 64-bit kernel (arch/x86 ABI): kernel code 32, kernel code, kernel data, user code 32, user
        // data, user code 64; flat, access bits as LAR shows them.
        gdt[1] = 0x00cf_9b00_0000_ffff;
        gdt[2] = 0x00af_9b00_0000_ffff;
        gdt[3] = 0x00cf_9300_0000_ffff;
        gdt[4] = 0x00cf_fb00_0000_ffff;
        gdt[5] = 0x00cf_f300_0000_ffff;
        gdt[6] = 0x00af_fb00_0000_ffff;
        // The CPU number's: expand-down, so that no offset is valid; its limit is node << 12 | CPU.
        gdt[15] = 0x0040_f500_0000_0000;
        Descriptors { gdt, ldt: Ldt::default() }
    }
}

impl Descriptors {
    /// The descriptor that `selector` names, if it is within its table and not the null selector.
    pub fn get(&self, selector: u16) -> Option<u64> {
        let index = usize::from(selector >> 3);
        if selector & 4 != 0 {
            self.ldt.get(index)
        } else if index == 0 {
            None
        } else {
            self.gdt.get(index).copied()
        }
    }

    /// The base of a descriptor.
    pub fn base(descriptor: u64) -> u32 {
        (descriptor >> 16 & 0xff_ffff | descriptor >> 32 & 0xff00_0000) as u32
    }

    /// The limit of a descriptor in bytes, granularity applied: the last valid offset.
    pub fn limit(descriptor: u64) -> u32 {
        let limit = (descriptor & 0xffff | descriptor >> 32 & 0xf_0000) as u32;
        if descriptor >> 55 & 1 != 0 { limit << 12 | 0xfff } else { limit }
    }

    /// Checks what MOV and POP to a data segment register or SS check in user mode (SDM Vol. 2B, "MOV").
    /// Gives the base; #GP, #SS or #NP as the processor would.
    pub fn load_data(&self, seg: Seg, selector: u16) -> Result<u32, Fault> {
        let code = selector & !3;
        if selector & !3 == 0 {
            return if seg == Seg::Ss { Err(Fault::gp(0)) } else { Ok(0) };
        }
        let Some(descriptor) = self.get(selector) else { return Err(Fault::gp(code)) };
        let kind = descriptor >> 40 & 0x1f;
        let dpl = descriptor >> 45 & 3;
        let present = descriptor >> 47 & 1 != 0;
        let (is_segment, is_code) = (kind & 0x10 != 0, kind & 8 != 0);
        if seg == Seg::Ss {
            // SS wants writable data with RPL and DPL equal to the current level, 3.
            if selector & 3 != 3 || !is_segment || is_code || kind & 2 == 0 || dpl != 3 {
                return Err(Fault::gp(code));
            }
            return if present { Ok(Self::base(descriptor)) } else { Err(Fault::ss(code)) };
        }
        let readable = is_segment && (!is_code || kind & 2 != 0);
        let conforming = is_code && kind & 4 != 0;
        if !readable || (!conforming && dpl != 3) {
            return Err(Fault::gp(code));
        }
        if present { Ok(Self::base(descriptor)) } else { Err(Fault::np(code)) }
    }

    /// Checks what a far JMP or CALL checks in user mode (SDM Vol. 2A, "JMP") and gives the selector that CS
    /// gets, with RPL 3; #GP or #NP as the processor would.
    ///
    /// Only flat 32-bit code can be entered: a 64-bit, 16-bit or based segment raises #GP too.
    pub fn load_code(&self, selector: u16) -> Result<u16, Fault> {
        let code = selector & !3;
        if code == 0 {
            return Err(Fault::gp(0));
        }
        let Some(descriptor) = self.get(selector) else { return Err(Fault::gp(code)) };
        let kind = descriptor >> 40 & 0x1f;
        let dpl = descriptor >> 45 & 3;
        let is_code = kind & 0x18 == 0x18;
        let conforming = kind & 4 != 0;
        if !is_code || (!conforming && dpl != 3) {
            return Err(Fault::gp(code));
        }
        if descriptor >> 47 & 1 == 0 {
            return Err(Fault::np(code));
        }
        let long = descriptor >> 53 & 1 != 0;
        let wide = descriptor >> 54 & 1 != 0;
        if long || !wide || Self::base(descriptor) != 0 {
            return Err(Fault::gp(code));
        }
        Ok(selector | 3)
    }

    /// As [`Descriptors::load_code`], for RETF and IRET: the selector's RPL must be 3 as well.
    pub fn return_code(&self, selector: u16) -> Result<u16, Fault> {
        if selector & !3 != 0 && selector & 3 != 3 {
            return Err(Fault::gp(selector & !3));
        }
        self.load_code(selector)
    }
}
