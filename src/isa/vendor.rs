//! What processors of some vendor do otherwise than a row does, as the rows and flag rules declare it.

use std::fmt;

/// Who makes processors, and which generation if that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Advanced Micro Devices; measured on Zen 3 (family 19h, model 1) and Zen 4.
    Amd,
    /// AMD from Zen 4 on; measured on family 19h, model 11h.
    Zen4,
    /// Intel; measured on a Sapphire Rapids (its hypervisor shows family 6, model A7h).
    Intel,
}

impl Vendor {
    /// By the text that CPUID's leaf 0 gives, and family and model as its leaf 1 does (SDM Vol. 2A, "CPUID"; AMD's APM
    /// Vol. 3, App. E).
    pub fn by_id(id: &[u8], (family, model): (u32, u32)) -> Option<Vendor> {
        const ZEN_3_AND_4: u32 = 0x19;
        match id {
            // Zen 3 has the other models of that family.
            b"AuthenticAMD" if family > ZEN_3_AND_4 => Some(Vendor::Zen4),
            b"AuthenticAMD" if family == ZEN_3_AND_4 && matches!(model, 0x10..0x20 | 0x60..) => {
                Some(Vendor::Zen4)
            }
            b"AuthenticAMD" => Some(Vendor::Amd),
            b"GenuineIntel" => Some(Vendor::Intel),
            _ => None,
        }
    }

    /// Family and model, by EAX of CPUID's leaf 1.
    pub fn family_and_model(signature: u32) -> (u32, u32) {
        let [base, model] = [signature >> 8 & 15, signature >> 4 & 15];
        let family = if base == 15 { base + (signature >> 20 & 0xff) } else { base };
        (family, if base == 6 || base == 15 { model | signature >> 12 & 0xf0 } else { model })
    }

    /// Whether what is said of these processors holds for those.
    pub fn covers(self, those: Vendor) -> bool {
        self == those || self == Vendor::Amd && those == Vendor::Zen4
    }

    /// The maker of the processor that this runs on; `None` for others, and on other architectures.
    pub fn of_host() -> Option<Vendor> {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::__cpuid;
            let leaf = __cpuid(0);
            let id = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat();
            Vendor::by_id(&id, Vendor::family_and_model(__cpuid(1).eax))
        }
        #[cfg(not(target_arch = "x86_64"))]
        None
    }
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Vendor::Amd => "AMD",
            Vendor::Zen4 => "AMD from Zen 4 on",
            Vendor::Intel => "Intel",
        })
    }
}

/// What of an instruction's outcome can differ; `opcodes/README.md` says what each covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Only the low word of a doubleword on the stack is accessed.
    AccessWidth,
    /// Whether an operand that is not aligned raises #GP.
    Alignment,
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
    /// Which of several NaNs a floating-point result comes from.
    Nan,
    /// FOP, FDP, FCS and FDS behind an instruction of the FPU.
    Pointers,
    /// General registers, if there was a fault.
    RegistersAtFaults,
    /// Everything, if CS is the segment of a store.
    StoreByCs,
    /// The part of a store before the page whose fault it raises.
    StoredAtFaults,
    /// The result and #U of the FPU, if underflow is unmasked and a tiny operand comes back as it was.
    TinyResult,
    /// The fault, if the instruction has more than 15 bytes and not all of them can be fetched.
    TooLong,
    /// Which bytes of a long operand are touched, and so whether and where it faults.
    Touched,
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
            Part::Alignment => "alignment",
            Part::BeyondWidth => "beyond the width",
            Part::Eip => "EIP",
            Part::EndOfMemory => "end of memory",
            Part::Fault => "fault",
            Part::FlagsAtFaults => "flags at faults",
            Part::FpuAtFaults => "FPU at faults",
            Part::LastPlace => "last place",
            Part::Nan => "NaN",
            Part::Pointers => "FPU's pointers",
            Part::RegistersAtFaults => "registers at faults",
            Part::StoreByCs => "store by CS",
            Part::StoredAtFaults => "stored at faults",
            Part::TinyResult => "tiny result",
            Part::TooLong => "too long",
            Part::Touched => "touched bytes",
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
        .find(|departure| {
            vendor.is_some_and(|those| departure.vendor.covers(those)) && departure.part == part
        })
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

impl VendorFlags {
    /// What a list says of these processors; of the generation rather than of all of its vendor.
    pub fn find(list: &[VendorFlags], vendor: Vendor) -> Option<&VendorFlags> {
        let exact = list.iter().find(|theirs| theirs.vendor == vendor);
        exact.or_else(|| list.iter().find(|theirs| theirs.vendor.covers(vendor)))
    }
}
