//! What stops an instruction: exceptions (SDM Vol. 3A, ch. 6) and the software interrupts.

/// An exception or trap. Four bytes, so that `Result<u32, Fault>` stays in registers; the address of a #PF is
/// in [`Cpu::cr2`](super::Cpu).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Fault {
    /// Which one.
    pub kind: FaultKind,
    /// The error code of #GP, #SS, #NP, #PF, #AC; the vector of INT n; of a #DB, 1 for a single step, which the
    /// processor says in DR6; else 0.
    pub code: u16,
}

/// Kinds of [`Fault`], by the manual's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FaultKind {
    /// #DE, divide error (0).
    De,
    /// #DB, debug (1): INT1 or a single step; reported behind the instruction.
    Db,
    /// #BP (3): INT3; reported behind the instruction.
    Bp,
    /// #OF (4): INTO; reported behind the instruction.
    Of,
    /// #BR (5): BOUND.
    Br,
    /// #UD (6), invalid opcode.
    Ud,
    /// #NM (7).
    Nm,
    /// #NP (11), segment not present.
    Np,
    /// #SS (12), stack fault.
    Ss,
    /// #GP (13), general protection.
    Gp,
    /// #PF (14), page fault.
    Pf,
    /// #MF (16), x87 exception.
    Mf,
    /// #AC (17), alignment check.
    Ac,
    /// #XM (19), SIMD exception.
    Xm,
    /// INT n (code: n); reported behind the instruction.
    Int,
    /// SYSENTER; reported behind the instruction. No exception: where it goes, and what it makes of registers, is the kernel's.
    Sysenter,
    /// A row with `status = "todo"`: the encoding exists, Table86 does not have it yet.
    Todo,
}

/// Bits of a #PF's error code (SDM Vol. 3A, 4.7).
pub mod page_fault {
    /// The page is there, the access is not allowed.
    pub const PRESENT: u16 = 1;
    /// A write.
    pub const WRITE: u16 = 2;
    /// From user mode; always set here.
    pub const USER: u16 = 4;
    /// An instruction fetch.
    pub const FETCH: u16 = 16;
}

#[allow(non_upper_case_globals)]
impl Fault {
    /// SYSENTER.
    pub const SYSENTER: Fault = Fault { kind: FaultKind::Sysenter, code: 0 };
    /// #DE.
    pub const DE: Fault = Fault { kind: FaultKind::De, code: 0 };
    /// #DB by INT1.
    pub const DB: Fault = Fault { kind: FaultKind::Db, code: 0 };
    /// #DB behind an instruction that began with the trap flag set.
    pub const STEP: Fault = Fault { kind: FaultKind::Db, code: 1 };
    /// #BP.
    pub const BP: Fault = Fault { kind: FaultKind::Bp, code: 0 };
    /// #OF.
    pub const OF: Fault = Fault { kind: FaultKind::Of, code: 0 };
    /// #BR.
    pub const BR: Fault = Fault { kind: FaultKind::Br, code: 0 };
    /// #UD.
    pub const UD: Fault = Fault { kind: FaultKind::Ud, code: 0 };
    /// #MF.
    pub const MF: Fault = Fault { kind: FaultKind::Mf, code: 0 };
    /// #XM.
    pub const XM: Fault = Fault { kind: FaultKind::Xm, code: 0 };
    /// A declared row that has no body yet.
    pub const TODO: Fault = Fault { kind: FaultKind::Todo, code: 0 };

    /// #GP with its error code: 0 or a selector.
    pub const fn gp(code: u16) -> Fault {
        Fault { kind: FaultKind::Gp, code }
    }
    /// #SS with its error code.
    pub const fn ss(code: u16) -> Fault {
        Fault { kind: FaultKind::Ss, code }
    }
    /// #NP with its error code.
    pub const fn np(code: u16) -> Fault {
        Fault { kind: FaultKind::Np, code }
    }
    /// #PF with its error code; the address goes into CR2.
    pub const fn pf(code: u16) -> Fault {
        Fault { kind: FaultKind::Pf, code }
    }
    /// INT n.
    pub const fn int(vector: u8) -> Fault {
        Fault { kind: FaultKind::Int, code: vector as u16 }
    }

    /// The exception's vector; that of INT n is n, that of a missing row #UD's.
    pub fn vector(self) -> u8 {
        match self.kind {
            FaultKind::De => 0,
            FaultKind::Db => 1,
            FaultKind::Bp => 3,
            FaultKind::Of => 4,
            FaultKind::Br => 5,
            // What SYSENTER raises where there is no kernel.
            FaultKind::Ud | FaultKind::Todo | FaultKind::Sysenter => 6,
            FaultKind::Nm => 7,
            FaultKind::Np => 11,
            FaultKind::Ss => 12,
            FaultKind::Gp => 13,
            FaultKind::Pf => 14,
            FaultKind::Mf => 16,
            FaultKind::Ac => 17,
            FaultKind::Xm => 19,
            FaultKind::Int => self.code as u8,
        }
    }

    /// The error code that the processor pushes, 0 where it pushes none.
    pub fn error_code(self) -> u16 {
        match self.kind {
            FaultKind::Gp | FaultKind::Ss | FaultKind::Np | FaultKind::Pf | FaultKind::Ac => self.code,
            _ => 0,
        }
    }

    /// Tells whether EIP is reported behind the instruction (a trap) rather than at it (a fault).
    pub fn is_trap(self) -> bool {
        matches!(
            self.kind,
            FaultKind::Db | FaultKind::Bp | FaultKind::Of | FaultKind::Int | FaultKind::Sysenter
        )
    }
}
