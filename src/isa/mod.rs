//! The instruction set as the tables declare it: forms, operands, flags. Made by `build.rs` from `opcodes/`.

pub mod decode;
pub mod proof;
pub mod vendor;
mod generated {
    //! The rows, expanded; one `Form` each, in the order of the tables.
    use super::*;
    include!(concat!(env!("OUT_DIR"), "/forms.rs"));
}
mod cpuid;
pub mod facts;

pub use cpuid::{CpuModel, FEATURES, Feature, MODELS, Model};
pub use decode::{DecodeError, Insn, Mem, decode};
pub use generated::{CONDITIONS, DEPARTURES, FORMS};
pub use vendor::{Departure, Part, Vendor, VendorFlags};

/// Bits of a flag mask.
pub mod flag {
    /// Carry.
    pub const C: u8 = 1;
    /// Parity.
    pub const P: u8 = 2;
    /// Auxiliary carry.
    pub const A: u8 = 4;
    /// Zero.
    pub const Z: u8 = 8;
    /// Sign.
    pub const S: u8 = 16;
    /// Overflow.
    pub const O: u8 = 32;
    /// Direction.
    pub const D: u8 = 64;
    /// The six status flags.
    pub const STATUS: u8 = 63;
}

/// Operand kinds, named after the codes of SDM Vol. 2, App. A.2; see `opcodes/README.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Code {
    B,
    E,
    G,
    M,
    R,
    Z,
    I,
    SignedI,
    J,
    A,
    O,
    S,
    C,
    D,
    X,
    Y,
    XEdi,
    P,
    Q,
    N,
    V,
    W,
    U,
    St,
    StI,
    Reg(u8),
    SegReg(u8),
    XmmReg(u8),
    One,
}

impl Code {
    /// Whether such an operand may be in memory, where the instruction says.
    pub fn may_be_memory(self) -> bool {
        matches!(self, Code::E | Code::M | Code::O | Code::Q | Code::W)
    }
}

/// Operand sizes; see `opcodes/README.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Size {
    None,
    B,
    W,
    D,
    Q,
    V,
    Y,
    Z,
    P,
    A,
    T,
    Dq,
    Ss,
    Sd,
    Ps,
    Pd,
    S,
    E,
    Fs,
    Xs,
    M,
}

/// How an operand is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    R,
    /// Written.
    W,
    /// Read and written.
    Rw,
    /// Its effective address is taken.
    Address,
    /// Its linear address goes to the body, which reads memory itself.
    Linear,
    /// As `Linear`, and the body writes there.
    LinearW,
    /// As `Linear`, and the body reads what it then writes.
    LinearRw,
    /// Shown only.
    Shown,
}

impl Access {
    /// Whether the operand is written, or may be.
    pub fn writes(self) -> bool {
        matches!(self, Access::W | Access::Rw | Access::LinearW | Access::LinearRw)
    }

    /// Whether the operand is read, or may be.
    pub fn reads(self) -> bool {
        matches!(self, Access::R | Access::Rw | Access::Linear | Access::LinearRw)
    }

    /// Whether the operand is read to be written: a fault of either is that of a write.
    pub fn updates(self) -> bool {
        matches!(self, Access::Rw | Access::LinearRw)
    }
}

/// An operand of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// What it is.
    pub code: Code,
    /// How large.
    pub size: Size,
    /// How it is used.
    pub access: Access,
    /// Not shown in assembly text.
    pub implicit: bool,
}

/// Something that a row reads or writes beside its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implicit {
    /// A general register, as ModRM numbers it.
    Reg(u8),
    /// A segment register.
    SegReg(u8),
    /// An XMM register.
    XmmReg(u8),
    /// A register of the x87's stack.
    St(u8),
    /// Elements in memory from where a register points upwards.
    Above {
        /// The register.
        base: u8,
        /// How many.
        count: u8,
    },
    /// Elements in memory below where a register points.
    Below {
        /// The register.
        base: u8,
        /// How many; 0: one more than ENTER's level.
        count: u8,
    },
    /// The byte that XLAT looks up.
    LookedUp,
    /// Of the bit string at operand 1, the part that bit operand 2 is in.
    BitString,
}

/// An [`Implicit`], and how it is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Also {
    /// What.
    pub place: Implicit,
    /// How large, or how large an element is.
    pub size: Size,
    /// How it is used.
    pub access: Access,
}

/// How EIP goes on behind an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next one.
    Next,
    /// To the target or the next one.
    Branch,
    /// To the target.
    Jump,
    /// To the target, and comes back.
    Call,
    /// To where the stack says.
    Ret,
    /// Anywhere, segments included.
    Far,
    /// To the next one, but what was translated ahead may no longer hold.
    Sync,
    /// Never behind it.
    Trap,
}

/// Where LOCK is legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Nowhere.
    Never,
    /// With a memory operand 1.
    Legal,
    /// As `Legal`, and locked even without the prefix (XCHG).
    Always,
}

/// What F2 and F3 mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names)] // named as the manual names the prefixes
pub enum Rep {
    /// Nothing, unless mandatory.
    Ignored,
    /// Both repeat.
    Rep,
    /// F3 repeats while equal, F2 while not equal.
    Repe,
}

/// Who may execute a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Anybody.
    User,
    /// Level 0; else #GP(0).
    Cpl,
    /// As IOPL allows; else #GP(0).
    Iopl,
}

/// Whether a form runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Implemented,
    /// It decodes, and raises SIGILL with this reason.
    Todo(&'static str),
}

/// Immediates, in the order of their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Imm {
    Ib,
    Iw,
    Id,
    Iz,
    Cb,
    Cz,
    Cp,
    Mo,
}

/// What a form does to the status flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagFacts {
    /// Name of the rule in `rules.toml`.
    pub rule: &'static str,
    /// Flags that it reads.
    pub reads: u8,
    /// Whether it writes any.
    pub writes: bool,
    /// Whether the cases below go by a count.
    pub by_count: bool,
    /// Flags that no longer depend on what they were, for counts 0, 1 and larger (equal without `by_count`).
    pub kills: [u8; 3],
    /// Flags that the manual leaves undefined, likewise.
    pub undefined: [u8; 3],
    /// What processors make of those, where they do otherwise than we.
    pub vendors: &'static [VendorFlags],
}

/// One form of one instruction: a row of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// SDM mnemonic in lower case.
    pub mnemonic: &'static str,
    /// What it does, in a sentence.
    pub doc: &'static str,
    /// The table's file stem, which is the room of its bodies too.
    pub room: &'static str,
    /// Line of the row in `opcodes/<room>.toml`.
    pub line: u32,
    /// The row's opcode string.
    pub op: &'static str,
    /// The row's operands.
    pub ops: &'static str,
    /// The same, parsed.
    pub operands: &'static [Operand],
    /// What it reads and writes beside its operands.
    pub also: &'static [Also],
    /// Immediates in the encoding.
    pub imms: &'static [Imm],
    /// ModRM's reg or the opcode's low bits select nothing else than a register: mod is ignored (MOV CR).
    pub ignores_mod: bool,
    /// Flags.
    pub flags: FlagFacts,
    /// The condition, for Jcc, SETcc, CMOVcc.
    pub condition: Option<u8>,
    /// The body's name in `src/cpu/insn/<room>.rs`.
    pub body: &'static str,
    /// The body works on the whole machine, not on values.
    pub takes_cpu: bool,
    /// It computes as MXCSR says, and may raise #XM.
    pub takes_mxcsr: bool,
    /// Its ops carry their address in a second slot.
    pub needs_eip: bool,
    /// Where EIP goes on.
    pub flow: Flow,
    /// LOCK.
    pub lock: Lock,
    /// F2, F3.
    pub rep: Rep,
    /// Privilege.
    pub privilege: Privilege,
    /// CPUID features that must be there.
    pub cpuid: &'static [&'static str],
    /// Exceptions that the body itself raises.
    pub exceptions: &'static [&'static str],
    /// An ESP-based address is computed behind the pop.
    pub after_pop: bool,
    /// A 128-bit memory operand need not be aligned to 16 bytes.
    pub unaligned: bool,
    /// Whether it runs.
    pub status: Status,
    /// What a reader must know.
    pub note: &'static str,
    /// What processors do otherwise.
    pub departures: &'static [Departure],
    /// An operand is in the VEX prefix, which otherwise has to say so.
    pub has_vvvv: bool,
    /// The form that runs where the features are missing, as its prefix means nothing then.
    pub without_prefix: Option<u16>,
    /// Handler families for 32- and 16-bit operand size; 0: none.
    pub(crate) families: [u16; 2],
}

impl Form {
    /// What this vendor's processors do otherwise in this part of the outcome, if anything; nothing is known of others.
    pub fn departure(&self, vendor: Option<Vendor>, part: Part) -> Option<&'static str> {
        vendor::find(self.departures, vendor, part)
    }
}

/// A condition code.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// As in `jnz`: `nz`.
    pub name: &'static str,
    /// Other names.
    pub alias: &'static [&'static str],
    /// In words.
    pub doc: &'static str,
    /// Flags that it reads.
    pub reads: u8,
}
