//! What processors of some vendor do otherwise than a row does, as the rows and flag rules declare it.

use std::fmt;

/// Who makes processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Advanced Micro Devices; measured on Zen 3 (family 19h).
    Amd,
    /// Intel; measured on a Sapphire Rapids (its hypervisor shows family 6, model A7h).
    Intel,
}

impl Vendor {
    /// By the text that CPUID's leaf 0 gives.
    pub fn by_id(id: &[u8]) -> Option<Vendor> {
        match id {
            b"AuthenticAMD" => Some(Vendor::Amd),
            b"GenuineIntel" => Some(Vendor::Intel),
            _ => None,
        }
    }

    /// The maker of the processor that this runs on; `None` for others, and on other architectures.
    pub fn of_host() -> Option<Vendor> {
        #[cfg(target_arch = "x86_64")]
        {
            let leaf = std::arch::x86_64::__cpuid(0);
            Vendor::by_id(&[leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat())
        }
        #[cfg(not(target_arch = "x86_64"))]
        None
    }
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Vendor::Amd => "AMD",
            Vendor::Intel => "Intel",
        })
    }
}

/// What of an instruction's outcome can differ; `opcodes/README.md` says what each covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Only the low word of a doubleword on the stack is accessed.
    AccessWidth,
    /// Result and flags, for a count beyond the operand's width.
    BeyondWidth,
    /// EIP behind a trap.
    Eip,
    /// The fault, if the operand runs over the end of the 4 GiB.
    EndOfMemory,
    /// Which of several faults that are due is raised, and its code and address.
    Fault,
    /// The status flags, if there was a fault.
    FlagsAtFaults,
    /// The FPU's stack top and tags, if there was a fault.
    FpuAtFaults,
    /// The last bit of a floating-point result, and C1 with it.
    LastPlace,
    /// FOP, FDP, FCS and FDS behind an instruction of the FPU.
    Pointers,
    /// General registers, if there was a fault.
    RegistersAtFaults,
    /// Everything, if CS is the segment of a store.
    StoreByCs,
    /// The part of a store before the page whose fault it raises.
    StoredAtFaults,
    /// The fault, if the instruction has more than 15 bytes and not all of them can be fetched.
    TooLong,
    /// The bits of a vector that the manual leaves undefined.
    UndefinedBits,
    /// The page fault of a store that an unmasked exception of the FPU keeps from memory.
    UnmaskedStore,
    /// Everything, if the operand runs over the end of 16-bit offsets.
    Wrapping,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::AccessWidth => "access width",
            Part::BeyondWidth => "beyond the width",
            Part::Eip => "EIP",
            Part::EndOfMemory => "end of memory",
            Part::Fault => "fault",
            Part::FlagsAtFaults => "flags at faults",
            Part::FpuAtFaults => "FPU at faults",
            Part::LastPlace => "last place",
            Part::Pointers => "FPU's pointers",
            Part::RegistersAtFaults => "registers at faults",
            Part::StoreByCs => "store by CS",
            Part::StoredAtFaults => "stored at faults",
            Part::TooLong => "too long",
            Part::UndefinedBits => "undefined bits",
            Part::UnmaskedStore => "unmasked store",
            Part::Wrapping => "wrapping",
        })
    }
}

/// One thing that one vendor's processors do otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Whose processors.
    pub vendor: Vendor,
    /// What of the outcome.
    pub part: Part,
    /// What they do, in words.
    pub how: &'static str,
}

/// What this vendor's processors do otherwise in this part, by a list.
pub fn find(list: &[Departure], vendor: Option<Vendor>, part: Part) -> Option<&'static str> {
    list.iter()
        .find(|departure| Some(departure.vendor) == vendor && departure.part == part)
        .map(|departure| departure.how)
}

/// What a vendor's processors make of a rule's undefined flags, as masks for counts 0, 1 and larger. A flag in none of the
/// masks is what we make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VendorFlags {
    /// Whose processors.
    pub vendor: Vendor,
    /// Flags that they clear.
    pub cleared: [u8; 3],
    /// Flags that they set.
    pub set: [u8; 3],
    /// Flags that they keep.
    pub kept: [u8; 3],
    /// Flags that depend on the operands, in a way that is not said.
    pub written: [u8; 3],
}
