//! Where the decoders differ on purpose, and why. What is not in these lists must be equal.

use crate::operands::{Operand, Ours, agree, ours, theirs};
use iced_x86::{EncodingKind, Instruction, Mnemonic};
use std::collections::BTreeMap;
use table86::isa::{DecodeError, Insn};

/// Instructions that iced knows and no row declares, by the features that have them. Their encodings raise #UD, as on a
/// processor without them, and CPUID shows none of them.
const UNDECLARED: &[(&[&str], &str)] = &[
    (
        &["VEX", "EVEX", "XOP"],
        "AVX and its successors are not declared; of VEX only what has general registers is",
    ),
    (&["D3NOW"], "3DNow! was dropped by processors that have SSE2"),
    (
        &["SVM", "SKINIT_or_SVM", "VMX", "INVEPT", "INVVPID", "INVLPGB", "SEV_ES", "SEV_SNP", "TDX"],
        "virtual machines: of no use to a program",
    ),
    (
        &["SMX", "SGX1", "OSS", "PCONFIG", "AESKLE", "WIDE_KL", "KL"],
        "enclaves and keys that the kernel has to set up",
    ),
    (&["CET_SS"], "shadow stacks: Linux gives none to 32-bit programs"),
    (&["PKU"], "protection keys: need a kernel that has set them up"),
    (&["RTM", "HLE_or_RTM", "TSXLDTRK"], "transactions: withdrawn by their maker"),
    (&["XSAVEOPT", "XSAVEC", "XSAVES"], "variants of XSAVE, which is there without them"),
    (
        &["INVPCID", "WRMSRNS", "HRESET", "MCOMMIT", "RDPRU"],
        "for the kernel, or readings that the kernel has to allow",
    ),
    (
        &[
            "CLZERO",
            "MONITORX",
            "WAITPKG",
            "SERIALIZE",
            "PTWRITE",
            "MOVDIRI",
            "MOVDIR64B",
            "ENQCMD",
            "RAO_INT",
        ],
        "later than the instruction set that is offered",
    ),
    (
        &["PADLOCK_ACE", "PADLOCK_PHE", "PADLOCK_PMM", "PADLOCK_RNG", "PADLOCK_GMI", "PADLOCK_UNDOC"],
        "of VIA's processors only",
    ),
    (&["MULTIBYTENOP"], "0F 0D with a register: reserved, #UD on AMD's processors"),
];

/// Instructions that are called by two names: ours, iced's, whether their operands are the same, and why.
const NAMES: &[(&str, Mnemonic, bool, &str)] = &[
    ("fwait", Mnemonic::Wait, true, "one instruction"),
    ("xlat", Mnemonic::Xlatb, false, "one instruction, whose operands are implicit"),
    ("shl", Mnemonic::Sal, true, "one instruction; reg field 6 is an alias"),
    ("jecxz", Mnemonic::Jcxz, true, "the row stands for both sizes of the counter"),
    ("wbinvd", Mnemonic::Wbnoinvd, true, "both are privileged: F3 is ignored"),
    ("reservednop", Mnemonic::Prefetchit0, false, "a hint that may be ignored"),
    ("reservednop", Mnemonic::Prefetchit1, false, "a hint that may be ignored"),
    ("reservednop", Mnemonic::Cldemote, false, "a hint that may be ignored"),
    ("reservednop", Mnemonic::Rdsspd, false, "without shadow stacks it does nothing"),
];

/// What makes iced's operands ours.
type Translation = fn(Vec<Operand>) -> Vec<Operand>;

/// Operands that are shown in two ways: our mnemonics, what makes iced's operands ours, and why.
const OPERANDS: &[(&[&str], Translation, &str)] = &[
    (&["fxch"], without_first, "ST(0) is implicit"),
    (&["maskmovq", "maskmovdqu"], without_first, "the memory at EDI is implicit"),
    (
        &["lldt", "ltr", "verr", "verw", "lmsw", "lar", "lsl", "arpl", "mov"],
        with_words,
        "only 16 bits of the register are read or written, whatever the operand size",
    ),
];

fn without_first(mut operands: Vec<Operand>) -> Vec<Operand> {
    operands.remove(0);
    operands
}

/// The same operands, the last of them, and for ARPL all, as words.
fn with_words(operands: Vec<Operand>) -> Vec<Operand> {
    let segment = |name: &str| matches!(name, "es" | "cs" | "ss" | "ds" | "fs" | "gs");
    let last = operands.len() - 1;
    let narrow = |(at, operand): (usize, Operand)| match operand {
        Operand::Register(name) if !segment(&name) && at == last => Operand::Register(word(&name)),
        operand => operand,
    };
    operands.into_iter().enumerate().map(narrow).collect()
}

/// The low half of a register.
fn word(name: &str) -> String {
    name.strip_prefix('e').filter(|rest| rest.len() == 2).unwrap_or(name).to_owned()
}

/// One instruction, decoded twice.
pub struct Case<'a> {
    /// Its bytes, and more.
    pub bytes: &'a [u8],
    /// What our decoder makes of them.
    pub ours: Result<Insn, DecodeError>,
    /// What iced does.
    pub theirs: Instruction,
}

/// What comparing has found.
#[derive(Default)]
pub struct Differences {
    compared: u64,
    valid: u64,
    /// How often each of the lists' entries was needed.
    deliberate: BTreeMap<String, u64>,
    /// Those that are in no list: the first of each kind, and how many.
    others: BTreeMap<String, (u64, String)>,
}

impl Differences {
    /// Compares what both decoders say.
    pub fn compare(&mut self, case: &Case<'_>) {
        self.compared += 1;
        let insn = match (&case.ours, case.theirs.is_invalid()) {
            (Err(_), true) => return,
            (Ok(insn), false) => insn,
            (Err(DecodeError::Undefined), false) => return self.undeclared(case),
            (Err(error), false) => {
                return self.other(case, format!("{error}, {:?} for iced", case.theirs.code()));
            }
            (Ok(insn), true) => return self.other(case, format!("{}, nothing for iced", insn.form().op)),
        };
        self.valid += 1;
        let form = insn.form();
        if usize::from(insn.len) != case.theirs.len() {
            return self.other(case, format!("length of {} {}", form.op, form.mnemonic));
        }
        let mnemonic = case.theirs.mnemonic();
        if format!("{mnemonic:?}").to_lowercase() != form.mnemonic {
            let name = NAMES.iter().find(|(ours, theirs, ..)| *ours == form.mnemonic && *theirs == mnemonic);
            let Some((_, _, same_operands, why)) = name else {
                return self.other(case, format!("{} is {mnemonic:?} for iced", form.mnemonic));
            };
            self.count(format!("{} is {mnemonic:?}", form.mnemonic), why);
            if !same_operands {
                return;
            }
        }
        self.operands(case, &ours(insn), theirs(&case.theirs));
    }

    fn operands(&mut self, case: &Case<'_>, ours: &[Ours], theirs: Vec<Operand>) {
        if agree(ours, &theirs) {
            return;
        }
        let form = case.ours.as_ref().expect("it is valid").form();
        let entry = OPERANDS.iter().find(|(mnemonics, ..)| mnemonics.contains(&form.mnemonic));
        match entry {
            // ARPL names two such registers.
            Some((_, change, why))
                if agree(ours, &change(theirs.clone())) || arpl(form.mnemonic, ours, &theirs) =>
            {
                self.count(format!("operands of {}", form.mnemonic), why);
            }
            _ => self.other(case, format!("operands of {} {}: {ours:?}, {theirs:?}", form.op, form.mnemonic)),
        }
    }

    /// An encoding that iced knows and no row declares.
    fn undeclared(&mut self, case: &Case<'_>) {
        let encoding = case.theirs.encoding();
        let features: Vec<String> = match encoding {
            EncodingKind::Legacy => {
                case.theirs.cpuid_features().iter().map(|feature| format!("{feature:?}")).collect()
            }
            encoding => vec![format!("{encoding:?}")],
        };
        let listed =
            |entry: &&(&[&str], &str)| features.iter().any(|feature| entry.0.contains(&feature.as_str()));
        match UNDECLARED.iter().find(listed) {
            Some((names, why)) => self.count(format!("undeclared: {}", names.join(" ")), why),
            None => {
                self.other(case, format!("{:?} of {} is undeclared", case.theirs.code(), features.join(" ")))
            }
        }
    }

    fn count(&mut self, what: String, why: &str) {
        *self.deliberate.entry(format!("{what}: {why}")).or_default() += 1;
    }

    fn other(&mut self, case: &Case<'_>, what: String) {
        let entry = self.others.entry(what).or_insert_with(|| (0, format!("{:02x?}", &case.bytes[..16])));
        entry.0 += 1;
    }

    /// Prints how often the decoders differ on purpose.
    ///
    /// # Panics
    /// If they differ otherwise; with `complete`, if an entry of the lists was never needed.
    pub fn report(&self, complete: bool) {
        println!("{} compared, {} of them valid", self.compared, self.valid);
        for (what, count) in &self.deliberate {
            println!("{count:>9}  {what}");
        }
        let others: Vec<String> = self
            .others
            .iter()
            .take(20)
            .map(|(what, (count, bytes))| format!("{count} times {what}: {bytes}"))
            .collect();
        assert!(others.is_empty(), "{} unexplained differences:\n{}", self.others.len(), others.join("\n"));
        if complete {
            let listed = UNDECLARED.len()
                + NAMES.len()
                + OPERANDS.iter().map(|(names, ..)| names.len()).sum::<usize>();
            assert_eq!(self.deliberate.len(), listed, "an entry of the lists is of no use");
        }
    }
}

/// Whether these are ARPL's operands, two words or a word in memory, for one side, and dwords for the other.
fn arpl(mnemonic: &str, ours: &[Ours], theirs: &[Operand]) -> bool {
    let narrow = |operand: &Operand| match operand {
        Operand::Register(name) => Operand::Register(word(name)),
        operand => operand.clone(),
    };
    mnemonic == "arpl" && agree(ours, &theirs.iter().map(narrow).collect::<Vec<_>>())
}
