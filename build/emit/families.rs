//! Handler families: forms whose body, operand kinds and widths agree share one generic handler, and their
//! instantiations are told apart by keys that the translator can compute.

use crate::build::notation::{Access, Code, ModRm, Operand, Size};
use crate::build::rules::Rules;
use crate::build::schema::{Flow, Form, Lock, Takes};
use std::collections::BTreeMap;

/// What an operand is to a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A register or memory of so many bits.
    Place { bits: u32, reads: bool, writes: bool },
    /// An immediate of so many bits.
    Imm { bits: u32 },
    /// An effective or linear address.
    Address,
    /// A far pointer: two arguments.
    Far,
    /// The constant 1.
    One,
    /// The number of a segment, control, debug or x87 register.
    Number,
    /// The selector in a segment register.
    Selector,
}

/// How one operand of an instantiation is found; the low byte of a key's part. `table86::engine::keys` has the
/// same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spec {
    None,
    /// A register, in the op's field a or b.
    Register,
    Immediate,
    /// Any address.
    Memory,
    /// Flat, 32-bit: base, index, displacement.
    Sib,
    /// The same with a certain scale.
    Scaled(u8),
    /// Flat, displacement only.
    Absolute,
    /// Flat, base register and displacement.
    Base,
    /// The register at this byte offset.
    Fixed(u8),
    /// Base register at this byte offset, and displacement.
    FixedBase(u8),
    /// An MMX register, its number in the op's field a or b.
    Mm,
    /// An XMM register, its byte offset in the op's field a or b.
    Xmm,
    /// The XMM register of this number.
    FixedXmm(u8),
    /// A certain base, index and scale, and displacement; see `table86::engine::operand::MemIndexed`.
    Indexed(u8),
}

impl Spec {
    pub fn byte(self) -> u8 {
        match self {
            Spec::None => 0,
            Spec::Register => 1,
            Spec::Immediate => 2,
            Spec::Memory => 3,
            Spec::Sib => 4,
            Spec::Absolute => 5,
            Spec::Base => 6,
            Spec::Indexed(_) => 7,
            Spec::Mm => 8,
            Spec::Xmm => 9,
            Spec::Scaled(scale) => 12 + scale,
            Spec::Fixed(offset) => 0x20 + offset,
            Spec::FixedBase(offset) => 0x40 + offset,
            Spec::FixedXmm(number) => 0x60 + number,
        }
    }
    pub fn is_memory(self) -> bool {
        matches!(
            self,
            Spec::Memory
                | Spec::Sib
                | Spec::Scaled(_)
                | Spec::Absolute
                | Spec::Base
                | Spec::FixedBase(_)
                | Spec::Indexed(_)
        )
    }
}

/// What makes one handler of a family different from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    pub family: u16,
    pub specs: [Spec; 4],
    /// The flags it writes are needed.
    pub live: bool,
    pub locked: bool,
    pub condition: u8,
}

impl Instance {
    /// A bit of a key: what computes in software for a family that the host's FPU can do.
    pub const SOFTWARE: u64 = 1 << 42;
    /// A bit of the first key of a pair whose second is a branch: the flags are needed only where that is taken.
    pub const AT_EXIT: u64 = 1 << 43;

    pub fn key(&self) -> u64 {
        // The fourth stands above all else.
        const SHIFTS: [u32; 4] = [16, 24, 32, 56];
        let specs = self.specs.iter().zip(SHIFTS).map(|(spec, shift)| u64::from(spec.byte()) << shift);
        let indexed =
            self.specs.iter().map(|spec| if let Spec::Indexed(which) = spec { u64::from(*which) } else { 0 });
        u64::from(self.family)
            | specs.sum::<u64>()
            | indexed.sum::<u64>() << 48
            | u64::from(self.live) << 40
            | u64::from(self.locked) << 41
            | u64::from(self.condition) << 44
    }
}

/// A family.
#[derive(Clone, Debug)]
pub struct Family {
    pub name: String,
    pub room: String,
    pub body: String,
    pub doc: String,
    pub origin: String,
    pub shapes: Vec<Shape>,
    pub takes: Takes,
    pub needs_eip: bool,
    pub flow: Flow,
    pub conditional: bool,
    pub fallible: bool,
    /// The body gets `&mut Pending`.
    pub passes_flags: bool,
    pub writes_flags: bool,
    /// The body changes the CPU's flags itself.
    pub commits_flags: bool,
    /// The operand size as the body's type parameter.
    pub size_bits: Option<u32>,
    pub lock: Lock,
    /// Some operand may be an MMX register.
    pub mmx: bool,
    /// 128 bits in memory have to be aligned.
    pub aligned: bool,
    /// How the host's FPU does it.
    pub live: Option<Live>,
    /// What the host must have for its own instruction to be used.
    pub host: Vec<String>,
}

impl Family {
    /// Whether the host's FPU can do an instance: if which register of the stack it is is known.
    pub fn is_live(&self, instance: &Instance) -> bool {
        let known = |live: Live| live.operand != LiveOperand::Stack || instance.specs[0] != Spec::None;
        self.live.is_some_and(known)
    }
}

/// An instruction of the host's FPU: the row's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    pub opcode: u8,
    /// ModRM, without a stack register's number and with nothing of a memory operand.
    pub modrm: u8,
    pub operand: LiveOperand,
    /// It reads EFLAGS.
    pub reads_flags: bool,
    /// It writes EFLAGS.
    pub writes_flags: bool,
}

/// What follows the opcode of an instruction of the host's FPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveOperand {
    None,
    /// ST(i).
    Stack,
    Memory,
    /// Memory, to which it stores 80 bits.
    Store80,
}

/// All families, and which one each form uses for 32- and 16-bit operands (0: none).
#[derive(Debug, Default)]
pub struct Families {
    /// Family n is at n - 1.
    pub list: Vec<Family>,
    pub of_form: Vec<[u16; 2]>,
    /// Generic instances that the forms need.
    pub instances: Vec<Instance>,
}

impl Families {
    /// The family that an instance is of.
    pub fn of(&self, instance: &Instance) -> Option<&Family> {
        self.list.get(usize::from(instance.family).checked_sub(1)?)
    }
}

/// Whether the ops carry their own address in a second slot.
pub fn needs_eip(form: &Form) -> bool {
    matches!(form.takes, Takes::CpuEip | Takes::X87)
        || matches!(form.flow, Flow::Far | Flow::Sync | Flow::Trap)
}

/// Bits of an operand of this size; 0 where no integer type fits.
pub fn bits(size: Size, opsize16: bool) -> u32 {
    match size {
        Size::B => 8,
        Size::W => 16,
        Size::D | Size::Ss | Size::Y => 32,
        Size::Q | Size::Sd => 64,
        Size::Dq | Size::Ps | Size::Pd => 128,
        Size::V | Size::Z => {
            if opsize16 {
                16
            } else {
                32
            }
        }
        _ => 0,
    }
}

/// Groups the forms.
pub fn group(forms: &[Form], rules: &Rules) -> Families {
    let mut families = Families::default();
    let mut names: BTreeMap<String, u16> = BTreeMap::new();
    let mut instances = std::collections::BTreeSet::new();
    for form in forms {
        let mut ids = [0; 2];
        let near = matches!(form.flow, Flow::Jump | Flow::Call | Flow::Ret);
        if form.has_body() || (near && form.status == crate::build::schema::Status::Implemented) {
            for (at, opsize16) in [false, true].into_iter().enumerate() {
                if opsize16 && !form.by_operand_size() {
                    ids[1] = ids[0];
                    continue;
                }
                let family = family(form, rules, opsize16);
                let id = *names.entry(family.name.clone()).or_insert_with(|| {
                    families.list.push(family.clone());
                    families.list.len() as u16
                });
                // A form with a register cannot be locked, but shares its family with one that can.
                let shared = &mut families.list[usize::from(id) - 1].lock;
                *shared = (*shared).max(form.lock);
                families.list[usize::from(id) - 1].mmx |= family.mmx;
                ids[at] = id;
            }
        }
        families.of_form.push(ids);
    }
    for (form, ids) in forms.iter().zip(&families.of_form) {
        for id in ids.iter().filter(|id| **id != 0) {
            add_instances(form, &families.list[usize::from(*id) - 1], *id, &mut instances);
        }
    }
    families.instances = instances.into_iter().collect();
    families
}

fn family(form: &Form, rules: &Rules, opsize16: bool) -> Family {
    let shapes: Vec<Shape> = passed(form).map(|operand| shape(operand, opsize16)).collect();
    let size_bits = form.size.map(|size| bits(size, opsize16)).or_else(|| {
        matches!(form.flow, Flow::Call | Flow::Ret | Flow::Jump).then_some(if opsize16 { 16 } else { 32 })
    });
    let changes_flags = rules.flags.get(&form.flags).is_some_and(|rule| rule.writes());
    let writes_flags = !form.takes.cpu() && changes_flags;
    let passes_flags = !form.takes.cpu() && (writes_flags || (form.reads != 0 && form.condition.is_none()));
    let mut name = form.body.clone();
    if let Some(bits) = size_bits {
        name.push_str(&format!("_{bits}"));
    }
    for shape in &shapes {
        name.push('_');
        name.push_str(&match *shape {
            Shape::Place { bits, reads, writes } => {
                format!("{}{}{bits}", if reads { "r" } else { "" }, if writes { "w" } else { "" })
            }
            Shape::Imm { bits } => format!("i{bits}"),
            Shape::Address => "a".into(),
            Shape::Far => "far".into(),
            Shape::One => "one".into(),
            Shape::Number => "n".into(),
            Shape::Selector => "s".into(),
        });
    }
    if form.unaligned {
        name.push_str("_u");
    }
    Family {
        name,
        room: form.room.clone(),
        body: form.body.clone(),
        doc: form.doc.clone(),
        origin: form.place.short(),
        shapes,
        takes: form.takes,
        needs_eip: needs_eip(form),
        flow: form.flow,
        conditional: form.condition.is_some(),
        fallible: form.fallible,
        passes_flags,
        writes_flags,
        commits_flags: form.takes.cpu() && changes_flags,
        size_bits,
        lock: form.lock,
        mmx: passed(form).any(|operand| matches!(operand.code, Code::P | Code::Q | Code::N)),
        aligned: !form.unaligned,
        live: live(form, changes_flags),
        host: match form.takes {
            Takes::Mxcsr | Takes::Host => host_features(form),
            _ => Vec::new(),
        },
    }
}

/// What the host's FPU does for a row.
fn live(form: &Form, writes_flags: bool) -> Option<Live> {
    let (modrm, operand) = match form.encoding.modrm {
        _ if form.takes != Takes::X87 => return None,
        ModRm::Fixed { byte, any_rm: false } => (byte, LiveOperand::None),
        ModRm::Fixed { byte, any_rm: true } => (byte, LiveOperand::Stack),
        ModRm::Digit(digit) => {
            let store = |operand: &Operand| operand.size == Size::T && operand.access == Access::LinearW;
            let operand =
                if form.operands.iter().any(store) { LiveOperand::Store80 } else { LiveOperand::Memory };
            (digit << 3, operand)
        }
        ModRm::Any | ModRm::Absent => return None,
    };
    Some(Live { opcode: form.encoding.opcode, modrm, operand, reads_flags: form.reads != 0, writes_flags })
}

/// What a form needs of a host beyond what every x86-64 has; names as `table86::cpu::native` has them.
fn host_features(form: &Form) -> Vec<String> {
    const EVERYWHERE: [&str; 3] = ["MMX", "SSE", "SSE2"];
    let names = if form.host.is_empty() { &form.cpuid } else { &form.host };
    let beyond = names.iter().filter(|name| !EVERYWHERE.contains(&name.as_str()));
    beyond.map(|name| name.replace('.', "_")).collect()
}

/// The operands that reach the body.
pub fn passed(form: &Form) -> impl Iterator<Item = &Operand> {
    form.operands.iter().filter(|operand| {
        operand.access != Access::Shown && !matches!(operand.code, Code::J | Code::X | Code::Y | Code::XEdi)
    })
}

fn shape(operand: &Operand, opsize16: bool) -> Shape {
    let bits = bits(operand.size, opsize16);
    match (operand.code, operand.access) {
        (Code::S | Code::SegReg(_), Access::R) => Shape::Selector,
        (Code::S | Code::SegReg(_) | Code::C | Code::D | Code::StI | Code::St, _) => Shape::Number,
        (_, Access::Address | Access::Linear | Access::LinearW | Access::LinearRw) => Shape::Address,
        (Code::A, _) => Shape::Far,
        (Code::One, _) => Shape::One,
        (Code::I | Code::SignedI, _) => Shape::Imm { bits },
        _ => Shape::Place { bits, reads: operand.reads(), writes: operand.writes() },
    }
}

/// Byte offset of a register in the register file.
pub fn register_offset(number: u8, bits: u32) -> u8 {
    if bits == 8 { (number & 3) * 4 + (number >> 2) } else { number * 4 }
}

/// Ways to find memory that have handlers of their own without being trained: segments and 16-bit addresses cost the others
/// nothing. A scale that is a constant helps what stands in inner loops.
fn flat_memory(scaled: bool) -> Vec<Spec> {
    let scales = if scaled { 0..4 } else { 0..0 };
    let plain = [Spec::Memory, Spec::Sib, Spec::Absolute, Spec::Base];
    plain.into_iter().chain(scales.map(Spec::Scaled)).collect()
}

fn add_instances(form: &Form, family: &Family, id: u16, out: &mut std::collections::BTreeSet<Instance>) {
    let vectors = passed(form).any(|operand| matches!(operand.code, Code::V | Code::U));
    // Moves, and arithmetic with floats.
    let often_indexed = form.body == "copy" || form.takes == Takes::Mxcsr;
    let mut combinations: Vec<Vec<Spec>> = vec![Vec::new()];
    for (operand, shape) in passed(form).zip(&family.shapes) {
        let choices: Vec<Spec> = match (operand.code, shape) {
            (_, Shape::Imm { .. }) => vec![Spec::Immediate],
            // The host's instruction has the register's number in it.
            (Code::StI, _) if family.live.is_some() => {
                std::iter::once(Spec::None).chain((0..8).map(Spec::Fixed)).collect()
            }
            (_, Shape::Far | Shape::One | Shape::Number | Shape::Selector) => vec![Spec::None],
            (Code::Reg(number), Shape::Place { bits, .. }) => {
                vec![Spec::Fixed(register_offset(number, *bits))]
            }
            (Code::M, _) if family.live.is_some() => flat_memory(true),
            (Code::XmmReg(number), _) => vec![Spec::FixedXmm(number)],
            (Code::M, _) if vectors => flat_memory(often_indexed),
            (Code::M | Code::O, _) => vec![Spec::Memory],
            (Code::E, _) if vectors => [vec![Spec::Register], flat_memory(often_indexed)].concat(),
            (Code::E, _) => vec![Spec::Register, Spec::Memory],
            (Code::Q, _) => vec![Spec::Mm, Spec::Memory],
            (Code::W, _) => [vec![Spec::Xmm], flat_memory(often_indexed)].concat(),
            (Code::P | Code::N, _) => vec![Spec::Mm],
            (Code::V | Code::U, _) => vec![Spec::Xmm],
            _ => vec![Spec::Register],
        };
        combinations = combinations
            .iter()
            .flat_map(|start| choices.iter().map(move |choice| [start.as_slice(), &[*choice]].concat()))
            .collect();
    }
    for combination in combinations {
        let mut specs = [Spec::None; 4];
        specs[..combination.len()].copy_from_slice(&combination);
        let lockable = family.lock != Lock::Never && combination.first().is_some_and(|spec| spec.is_memory());
        for live in [false, true] {
            for locked in [false, true] {
                let skip_plain = family.lock == Lock::Always && lockable && !locked;
                if (live && !family.writes_flags) || (locked && !lockable) || skip_plain {
                    continue;
                }
                let condition = form.condition.unwrap_or(0);
                out.insert(Instance { family: id, specs, live, locked, condition });
            }
        }
    }
}
