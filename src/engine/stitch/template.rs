//! What has to be copied to have a handler's work done in a row with others': its machine code without the jump to the next handler.
//!
//! A handler ends in `rsi = next op; jump to its handler`. Its template has the blocks that lead there (`hot`, running off their end)
//! apart from those that leave otherwise (`cold`: a taken branch, a fault). Fields of ops become immediates, and RSI need not be
//! moved on when nothing in the hot part wants it.

use super::access::{Access, Place};
use super::code::{Block, End, read};
use iced_x86::{
    Code, ConditionCode, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register,
};
use std::collections::HashMap;

/// Handlers with more than this are not worth copying.
const MAX_ATOMS: usize = 200;

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Atom {
    /// Machine code that is the same everywhere.
    Raw(Box<[u8]>),
    /// Machine code before an immediate of 32 bits: a field of an op, so many bytes from the op, zero-extended.
    Immediate { code: Box<[u8]>, from: u32, bytes: u8 },
    /// Machine code with a distance to an address outside at `at`.
    Outside { code: Box<[u8]>, at: usize, target: usize },
    /// An instruction with an operand in the CPU.
    Access(Box<Access>),
    /// The opcode of a jump to a label.
    Jump { code: Box<[u8]>, label: usize },
    /// A label is here.
    Label(usize),
    /// RSI, which may be behind, becomes the op.
    Correct,
}

/// The label of the end of a template's hot part.
pub(super) const HOT_END: usize = 0;

/// A handler's code, ready to be placed.
#[derive(Debug, Default)]
pub(super) struct Template {
    pub(super) hot: Vec<Atom>,
    pub(super) cold: Vec<Atom>,
    /// How many labels it has.
    pub(super) labels: usize,
    /// Bytes from its op to the one that it goes on with, if it goes on.
    pub(super) next: Option<u32>,
    /// How far RSI is from its op when the hot part ends.
    pub(super) moved: u32,
    /// The hot part wants RSI to be at its op.
    pub(super) wants_op: bool,
    /// Registers of the host that the hot part uses, a bit each.
    pub(super) uses: u16,
    /// The hot part may change guest registers in ways that are not seen.
    pub(super) opaque: bool,
}

/// What a register holds, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Other,
    /// `Cpu`.
    Cpu,
    /// The base of the guest's memory.
    Memory,
    /// The address so many bytes from the op.
    Op(i32),
    /// The handler of the op so many bytes further on.
    Handler(i32),
    /// A field of an op: bytes from the op, and how many it has.
    Field(u32, u8),
}

type Values = [Value; 16];

/// An instruction of the copy.
struct Step {
    insn: Instruction,
    /// Values before it.
    values: Values,
    /// What becomes of its memory operand.
    operand: Operand,
}

/// What the copy has in place of a memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    /// The same.
    Same,
    /// A field of an op, as an immediate: bytes from the op.
    Immediate(u32),
    /// A place in the CPU.
    Cpu(Place),
}

fn number(register: Register) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64().then(|| full as usize - Register::RAX as usize)
}

const RDX: usize = 2;
const RSP: usize = 4;
const RSI: usize = 6;
const RDI: usize = 7;

/// Registers that mean nothing to the next handler: RAX, RCX, R8 to R11.
const SCRATCH: u16 = 0b1111_0000_0011;

struct Analysis {
    info: InstructionInfoFactory,
}

impl Analysis {
    /// Registers that an instruction reads and those that it changes, as bit sets.
    fn used(&mut self, insn: &Instruction) -> (u16, u16) {
        let (mut reads, mut writes) = (0, 0);
        for used in self.info.info(insn).used_registers() {
            let Some(at) = number(used.register()) else { continue };
            let (read, write) = match used.access() {
                OpAccess::Read | OpAccess::CondRead => (true, false),
                OpAccess::Write => (false, true),
                OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite => (true, true),
                OpAccess::None | OpAccess::NoMemAccess => (false, false),
            };
            // Part of a register keeps the rest.
            let partial = write && used.register().size() < 4;
            reads |= u16::from(read || partial) << at;
            writes |= u16::from(write) << at;
        }
        if matches!(insn.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
            writes |= 0b1111_1100_0111;
            writes |= 1 << RSI | 1 << RDI;
            reads |= 1 << RSI | 1 << RDI | 0b111 | 3 << 8;
        }
        (reads, writes)
    }

    /// The values behind an instruction.
    fn apply(&mut self, values: &mut Values, insn: &Instruction) {
        let before = *values;
        let (_, writes) = self.used(insn);
        for (at, value) in values.iter_mut().enumerate() {
            if writes >> at & 1 != 0 {
                *value = Value::Other;
            }
        }
        let Some(to) = number(insn.op0_register()) else { return };
        let source = |register: Register| number(register).map_or(Value::Other, |at| before[at]);
        let moved = |value: Value, by: i64| match (value, i32::try_from(by)) {
            (Value::Op(offset), Ok(by)) => offset.checked_add(by).map_or(Value::Other, Value::Op),
            _ => Value::Other,
        };
        let plain = insn.memory_index() == Register::None && insn.memory_base().is_gpr64();
        values[to] = match insn.code() {
            _ if pure_load(insn) && field(insn, &before).is_some() => {
                let bytes = insn.memory_size().size() as u8;
                field(insn, &before).map_or(Value::Other, |from| Value::Field(from, bytes))
            }
            Code::Mov_r64_rm64 | Code::Mov_rm64_r64
                if insn.op0_kind() == OpKind::Register && insn.op1_kind() == OpKind::Register =>
            {
                source(insn.op1_register())
            }
            Code::Lea_r64_m if plain => {
                moved(source(insn.memory_base()), insn.memory_displacement64() as i64)
            }
            Code::Add_rm64_imm8 | Code::Add_rm64_imm32 | Code::Add_RAX_imm32 => {
                moved(before[to], insn.immediate(1) as i64)
            }
            Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32 => {
                moved(before[to], (insn.immediate(1) as i64).wrapping_neg())
            }
            Code::Mov_r64_rm64 if plain => {
                match moved(source(insn.memory_base()), insn.memory_displacement64() as i64) {
                    Value::Op(at) if at % 16 == 0 => Value::Handler(at),
                    _ => Value::Other,
                }
            }
            _ => return,
        };
    }

    /// The values at the start of each block.
    fn flow(&mut self, blocks: &[Block]) -> Vec<Values> {
        let index: HashMap<u64, usize> =
            blocks.iter().enumerate().map(|(at, block)| (block.start, at)).collect();
        let mut entry = [Value::Other; 16];
        (entry[RDI], entry[RSI], entry[RDX]) = (Value::Cpu, Value::Op(0), Value::Memory);
        let mut starts: Vec<Option<Values>> = vec![None; blocks.len()];
        starts[0] = Some(entry);
        let mut work = vec![0];
        while let Some(at) = work.pop() {
            let Some(mut values) = starts[at] else { continue };
            for insn in &blocks[at].insns {
                self.apply(&mut values, insn);
            }
            for target in blocks[at].successors() {
                let Some(&to) = index.get(&target) else { continue };
                let merged = starts[to].map_or(values, |old| {
                    std::array::from_fn(|at| if old[at] == values[at] { old[at] } else { Value::Other })
                });
                if starts[to] != Some(merged) {
                    starts[to] = Some(merged);
                    work.push(to);
                }
            }
        }
        starts.into_iter().map(|values| values.unwrap_or([Value::Other; 16])).collect()
    }

    fn steps(&mut self, block: &Block, mut values: Values) -> (Vec<Step>, Values) {
        let mut steps = Vec::with_capacity(block.insns.len());
        for insn in &block.insns {
            steps.push(Step { insn: *insn, values, operand: operand(insn, &values) });
            self.apply(&mut values, insn);
        }
        (steps, values)
    }

    /// Registers that a step reads and changes.
    fn used_by(&mut self, step: &Step) -> (u16, u16) {
        let (mut reads, writes) = self.used(&step.insn);
        let insn = &step.insn;
        if step.accesses_guest() {
            // If it faults, RSI says which op it is.
            reads |= 1 << RSI;
        }
        let gone = match step.operand {
            Operand::Same => Register::None,
            Operand::Immediate(_) => insn.memory_base(),
            Operand::Cpu(Place::At(_)) => Register::None,
            Operand::Cpu(_) if is_cpu(insn.memory_base(), &step.values) => insn.memory_index(),
            Operand::Cpu(_) => insn.memory_base(),
        };
        if let Some(gone) = number(gone) {
            let other = (0..insn.op_count()).any(|at| {
                let reads = at > 0 || !pure_load(insn);
                reads && insn.op_kind(at) == OpKind::Register && number(insn.op_register(at)) == Some(gone)
            });
            if !other {
                reads &= !(1 << gone);
            }
        }
        (reads, writes)
    }

    /// Whether the step cannot do without RSI being exact: it uses the op, or may fault.
    fn wants_op(&mut self, step: &Step) -> bool {
        let (reads, _) = self.used_by(step);
        let uses = (0..16).any(|at| reads >> at & 1 != 0 && matches!(step.values[at], Value::Op(_)));
        let calls = matches!(step.insn.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        uses || calls || step.accesses_guest()
    }

    /// Whether a step may change guest registers unseen: it calls, or writes through a pointer that may lead there.
    fn is_opaque(&mut self, step: &Step) -> bool {
        let insn = &step.insn;
        if !matches!(insn.flow_control(), FlowControl::Next) {
            return true;
        }
        if step.operand != Operand::Same || insn.is_ip_rel_memory_operand() {
            return false;
        }
        let values = step.values;
        let info = self.info.info(insn);
        info.used_memory().iter().any(|used| {
            let reads = matches!(
                used.access(),
                OpAccess::Read | OpAccess::CondRead | OpAccess::None | OpAccess::NoMemAccess
            );
            let known = match number(used.base()) {
                // The stack; but what is saved there would be one of the registers that the copies use.
                Some(RSP) => false,
                Some(base) => match values[base] {
                    Value::Memory | Value::Op(_) => true,
                    // Arrays of the CPU lie behind its registers.
                    Value::Cpu => {
                        used.displacement() >= u64::from(Place::REGISTERS) && used.displacement() < 1 << 31
                    }
                    _ => number(used.index()).is_some_and(|index| values[index] == Value::Memory),
                },
                None => false,
            };
            !reads && !known
        })
    }

    /// Drops steps whose results nobody wants; `live` are the registers wanted behind them. Gives those wanted before them.
    fn drop_dead(&mut self, steps: &mut Vec<Step>, mut live: u16, mut flags_live: bool) -> u16 {
        let mut kept = Vec::with_capacity(steps.len());
        for step in steps.drain(..).rev() {
            let (reads, writes) = self.used_by(&step);
            let modifies_flags = step.insn.rflags_modified() != 0;
            if is_pure(&step.insn)
                && !step.accesses_guest()
                && writes & live == 0
                && !(modifies_flags && flags_live)
            {
                continue;
            }
            if modifies_flags {
                flags_live = false;
            }
            flags_live |= step.insn.rflags_read() != 0;
            live = live & !writes | reads;
            kept.push(step);
        }
        kept.reverse();
        *steps = kept;
        live
    }

    /// Drops what nobody wants from all blocks. `exits` tells which of them go on with the next op.
    fn drop_all_dead(&mut self, blocks: &[Block], bodies: &mut [Vec<Step>], exits: &[Option<u32>]) {
        let mut wanted = vec![0; blocks.len()];
        let index: HashMap<u64, usize> =
            blocks.iter().enumerate().map(|(at, block)| (block.start, at)).collect();
        loop {
            let mut changed = false;
            for at in (0..blocks.len()).rev() {
                let goes_on = exits[at].is_some();
                let live = match blocks[at].end {
                    End::Leave(_) if goes_on => !SCRATCH,
                    End::Leave(_) | End::Outside(_) => !0,
                    _ => blocks[at].successors().map(|to| wanted[index[&to]]).fold(0, |all, one| all | one),
                };
                // Nothing is dropped before all of it is known.
                let before = self.live_before(&bodies[at], live);
                changed |= before != wanted[at];
                wanted[at] = before;
            }
            if !changed {
                break;
            }
        }
        for at in 0..blocks.len() {
            let goes_on = exits[at].is_some();
            let live = match blocks[at].end {
                End::Leave(_) if goes_on => !SCRATCH,
                End::Leave(_) | End::Outside(_) => !0,
                _ => blocks[at].successors().map(|to| wanted[index[&to]]).fold(0, |all, one| all | one),
            };
            self.drop_dead(&mut bodies[at], live, !goes_on);
        }
    }

    fn live_before(&mut self, steps: &[Step], mut live: u16) -> u16 {
        for step in steps.iter().rev() {
            let (reads, writes) = self.used_by(step);
            let dead = is_pure(&step.insn) && !step.accesses_guest() && writes & live == 0;
            // A dead step that sets flags may be kept; what it reads is then wanted.
            if !dead || step.insn.rflags_modified() != 0 {
                live = live & !writes | reads;
            }
        }
        live
    }
}

/// Whether the instruction only moves its memory operand into its register.
fn pure_load(insn: &Instruction) -> bool {
    matches!(
        insn.code(),
        Code::Mov_r32_rm32 | Code::Movzx_r32_rm8 | Code::Movzx_r32_rm16 | Code::Mov_r64_rm64
    )
}

/// Whether nothing but registers and flags can tell that the instruction ran.
fn is_pure(insn: &Instruction) -> bool {
    matches!(
        insn.code(),
        Code::Mov_r32_rm32
            | Code::Mov_r64_rm64
            | Code::Mov_rm64_r64
            | Code::Mov_rm32_r32
            | Code::Movzx_r32_rm8
            | Code::Movzx_r32_rm16
            | Code::Lea_r64_m
            | Code::Lea_r32_m
            | Code::Add_rm64_imm8
            | Code::Add_rm64_imm32
            | Code::Add_RAX_imm32
    ) && (insn.op0_kind() == OpKind::Register)
}

impl Step {
    /// Whether it accesses memory that is neither the CPU's, the op's, the stack's nor a constant.
    fn accesses_guest(&self) -> bool {
        let insn = &self.insn;
        let address_only = matches!(insn.code(), Code::Lea_r64_m | Code::Lea_r32_m | Code::Lea_r16_m);
        if address_only || insn.is_ip_rel_memory_operand() || self.operand != Operand::Same {
            return false;
        }
        (0..insn.op_count()).any(|at| match insn.op_kind(at) {
            OpKind::Memory => match number(insn.memory_base()) {
                Some(RSP) => false,
                Some(base) => {
                    let known = matches!(self.values[base], Value::Cpu | Value::Op(_));
                    insn.memory_index() != Register::None || !known
                }
                None => true,
            },
            OpKind::Register
            | OpKind::NearBranch64
            | OpKind::Immediate8
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate8to16
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate32to64
            | OpKind::Immediate64 => false,
            _ => true,
        })
    }
}

fn is_cpu(register: Register, values: &Values) -> bool {
    number(register).is_some_and(|at| values[at] == Value::Cpu)
}

/// What the copy has in place of an instruction's memory operand.
fn operand(insn: &Instruction, values: &Values) -> Operand {
    if let Some(from) = field(insn, values) {
        return Operand::Immediate(from);
    }
    let (base, index) = (insn.memory_base(), insn.memory_index());
    let with = |other: Register| match values[number(other)?] {
        Value::Field(from, bytes) if other.is_gpr64() => Some((from, bytes)),
        _ => None,
    };
    let plain = insn.memory_index_scale() == 1 && base != Register::None && index != Register::None;
    let named = if !plain || values[RDI] != Value::Cpu {
        None
    } else if is_cpu(base, values) {
        with(index)
    } else if is_cpu(index, values) {
        with(base)
    } else {
        None
    };
    let plus = insn.memory_displacement64() as u32;
    if let Some((from, bytes)) = named {
        return Operand::Cpu(Place::Named { from, bytes, plus });
    }
    let registers = index == Register::None && values[RDI] == Value::Cpu && is_cpu(base, values);
    let address_only = matches!(insn.code(), Code::Lea_r64_m | Code::Lea_r32_m | Code::Lea_r16_m);
    if registers && !address_only && plus < Place::REGISTERS {
        return Operand::Cpu(Place::At(plus));
    }
    Operand::Same
}

/// The field of an op that is an instruction's source, if the copy can have it as an immediate: bytes from the op. Links and
/// handlers, the first half of each slot, may change.
fn field(insn: &Instruction, values: &Values) -> Option<u32> {
    if insn.op_count() != 2 || insn.op1_kind() != OpKind::Memory || insn.memory_index() != Register::None {
        return None;
    }
    let Value::Op(offset) = values[number(insn.memory_base())?] else { return None };
    let at = u32::try_from(i64::from(offset) + insn.memory_displacement64() as i64).ok()?;
    let bytes = insn.memory_size().size() as u32;
    let known = at % 16 >= 8 && at % 16 + bytes <= 16;
    (known && immediate_form(insn).is_some()).then_some(at)
}

/// The code of the same instruction with an immediate of 32 bits in place of its memory operand.
fn immediate_form(insn: &Instruction) -> Option<Vec<u8>> {
    let register = number(insn.op0_register())? as u8;
    let (high, low) = (register >> 3, register & 7);
    let mut code = Vec::with_capacity(3);
    if high != 0 {
        code.push(0x41);
    }
    let extension = match insn.code() {
        Code::Mov_r32_rm32 | Code::Movzx_r32_rm8 | Code::Movzx_r32_rm16 => {
            code.push(0xb8 | low);
            return Some(code);
        }
        Code::Add_r32_rm32 => 0,
        Code::Or_r32_rm32 => 1,
        Code::And_r32_rm32 => 4,
        Code::Sub_r32_rm32 => 5,
        Code::Xor_r32_rm32 => 6,
        Code::Cmp_r32_rm32 => 7,
        _ => return None,
    };
    code.extend([0x81, 0xc0 | extension << 3 | low]);
    Some(code)
}

/// Number of a condition in an opcode.
fn condition(code: ConditionCode) -> Option<u8> {
    use ConditionCode::{a, ae, b, be, e, g, ge, l, le, ne, no, np, ns, o, p, s};
    [o, no, b, ae, e, ne, be, a, s, ns, p, np, l, ge, le, g]
        .iter()
        .position(|cc| *cc == code)
        .map(|at| at as u8)
}

/// What atoms are made from.
struct Source<'a> {
    bytes: &'a [u8],
    base: u64,
}

impl Source<'_> {
    fn atom(&self, step: &Step) -> Option<Atom> {
        let insn = &step.insn;
        match step.operand {
            Operand::Same => {}
            Operand::Immediate(from) => {
                let bytes = insn.memory_size().size() as u8;
                return Some(Atom::Immediate { code: immediate_form(insn)?.into(), from, bytes });
            }
            Operand::Cpu(place) => return Some(Atom::Access(Box::new(Access::new(insn, place)?))),
        }
        if insn.flow_control() == FlowControl::Call {
            return Some(outside(&[0xe8], insn.near_branch_target()));
        }
        let at = (insn.ip() - self.base) as usize;
        let code: Box<[u8]> = self.bytes.get(at..at + insn.len())?.into();
        if !insn.is_ip_rel_memory_operand() {
            return Some(Atom::Raw(code));
        }
        // The distance is the last but for an immediate; it counts from the end.
        let immediate: usize = (0..insn.op_count())
            .map(|at| match insn.op_kind(at) {
                OpKind::Immediate8
                | OpKind::Immediate8to32
                | OpKind::Immediate8to64
                | OpKind::Immediate8to16 => 1,
                OpKind::Immediate16 => 2,
                OpKind::Immediate32 | OpKind::Immediate32to64 => 4,
                _ => 0,
            })
            .sum();
        let at = code.len().checked_sub(4 + immediate)?;
        Some(Atom::Outside { code, at, target: insn.ip_rel_memory_address() as usize })
    }
}

/// A jump or call to an address outside.
fn outside(opcode: &[u8], target: u64) -> Atom {
    let code = [opcode, &[0; 4]].concat();
    Atom::Outside { at: opcode.len(), code: code.into(), target: target as usize }
}

/// Makes the template of the handler whose code starts `bytes`, at address `base`. `None` when it is not understood or too long:
/// then the handler is used as it is.
pub(super) fn template(bytes: &[u8], base: u64) -> Option<Template> {
    let blocks = read(bytes, base)?;
    let mut analysis = Analysis { info: InstructionInfoFactory::new() };
    let starts = analysis.flow(&blocks);
    let mut ends = Vec::with_capacity(blocks.len());
    let mut bodies = Vec::with_capacity(blocks.len());
    for (block, values) in blocks.iter().zip(starts) {
        let (steps, values) = analysis.steps(block, values);
        bodies.push(steps);
        ends.push(values);
    }
    // Where the block goes on with the next op: how far that is.
    let goes_on: Vec<Option<u32>> =
        blocks.iter().zip(&ends).map(|(block, values)| next_op(block, values)).collect();
    let mut hot: Vec<bool> = goes_on.iter().map(Option::is_some).collect();
    loop {
        let mut changed = false;
        for (at, block) in blocks.iter().enumerate() {
            let leads = || {
                block
                    .successors()
                    .any(|to| blocks.iter().zip(&hot).any(|(other, hot)| *hot && other.start == to))
            };
            if !hot[at] && leads() {
                hot[at] = true;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let exits: Vec<usize> = (0..blocks.len()).filter(|at| goes_on[*at].is_some()).collect();
    let next = match exits.as_slice() {
        [] => None,
        [first, rest @ ..] if rest.iter().all(|at| goes_on[*at] == goes_on[*first]) => goes_on[*first],
        _ => return None,
    };
    let mut moved = next.unwrap_or(0);
    if next.is_none() {
        hot.fill(true);
    }
    if let [exit] = exits[..] {
        moved = shorten(&mut analysis, &mut bodies[exit], ends[exit][RSI])?;
    }
    analysis.drop_all_dead(&blocks, &mut bodies, &goes_on);
    let wants_op = (0..blocks.len()).any(|at| {
        hot[at]
            && (bodies[at].iter().any(|step| analysis.wants_op(step))
                || (goes_on[at].is_none() && matches!(blocks[at].end, End::Leave(_))))
    }) || moved != 0;
    // The exit comes last; it runs off the end.
    let mut order: Vec<usize> =
        (0..blocks.len()).filter(|at| hot[*at] && exits.first() != Some(at)).collect();
    if let Some(exit) = exits.first() {
        order.push(*exit);
    }
    if order.first() != Some(&0) {
        return None;
    }
    let cold: Vec<usize> = (0..blocks.len()).filter(|at| !hot[*at]).collect();
    let mut template = Template { next, moved, wants_op, ..Template::default() };
    for &at in &order {
        for step in &bodies[at] {
            let (reads, writes) = analysis.used_by(step);
            template.uses |= reads | writes;
            template.opaque |= analysis.is_opaque(step);
        }
    }
    let source = Source { bytes, base };
    let label: HashMap<u64, usize> =
        blocks.iter().enumerate().map(|(at, block)| (block.start, at + 1)).collect();
    // The label of a cold block for those who come from the hot part, where RSI is behind.
    let behind = |at: usize| blocks.len() + 1 + at;
    template.labels = 2 * blocks.len() + 1;
    for (is_hot, order) in [(true, &order), (false, &cold)] {
        let mut atoms = Vec::new();
        for (position, &at) in order.iter().enumerate() {
            let block = &blocks[at];
            if !is_hot && !wants_op {
                atoms.extend([Atom::Label(behind(at)), Atom::Correct]);
            }
            atoms.push(Atom::Label(at + 1));
            for step in &bodies[at] {
                atoms.push(source.atom(step)?);
            }
            let following = order.get(position + 1).map(|at| blocks[*at].start);
            // In the cold part each block may start with its own correction of RSI, so none is run into.
            let following = following.filter(|_| is_hot || wants_op);
            let mut jump = |code: &[u8], target: u64| {
                let to = label[&target] - 1;
                let label = if is_hot && !wants_op && !hot[to] { behind(to) } else { to + 1 };
                atoms.push(Atom::Jump { code: code.into(), label });
            };
            match &block.end {
                End::Goto(target) if Some(*target) == following => {}
                End::Goto(target) => jump(&[0xe9], *target),
                End::Branch { insn, taken, not_taken } => {
                    let code = condition(insn.condition_code())?;
                    if Some(*not_taken) == following {
                        jump(&[0x0f, 0x80 | code], *taken);
                    } else if Some(*taken) == following {
                        jump(&[0x0f, 0x80 | code ^ 1], *not_taken);
                    } else {
                        jump(&[0x0f, 0x80 | code], *taken);
                        jump(&[0xe9], *not_taken);
                    }
                }
                End::Outside(target) => atoms.push(outside(&[0xe9], *target)),
                End::Leave(_) if goes_on[at].is_some() => {
                    if position + 1 != order.len() {
                        atoms.push(Atom::Jump { code: [0xe9].into(), label: HOT_END });
                    }
                }
                End::Leave(insn) => {
                    let step = Step { insn: *insn, values: ends[at], operand: Operand::Same };
                    atoms.push(source.atom(&step)?);
                }
            }
        }
        if is_hot {
            template.hot = atoms;
        } else {
            template.cold = atoms;
        }
    }
    template.opaque |= jumps_back(&template.hot);
    (template.hot.len() + template.cold.len() <= MAX_ATOMS).then_some(template)
}

/// Whether there is a loop.
fn jumps_back(atoms: &[Atom]) -> bool {
    let mut seen = Vec::new();
    atoms.iter().any(|atom| match atom {
        Atom::Label(label) => {
            seen.push(*label);
            false
        }
        Atom::Jump { label, .. } => seen.contains(label),
        _ => false,
    })
}

/// How far the next op is, if the block ends in the jump to its handler.
fn next_op(block: &Block, values: &Values) -> Option<u32> {
    let End::Leave(insn) = &block.end else { return None };
    let Value::Op(next) = values[RSI] else { return None };
    let target = match insn.code() {
        Code::Jmp_rm64 if insn.op0_kind() == OpKind::Register => values[number(insn.op0_register())?],
        Code::Jmp_rm64 if insn.memory_index() == Register::None => {
            match values[number(insn.memory_base())?] {
                Value::Op(at) => Value::Handler(at.checked_add(insn.memory_displacement64() as i32)?),
                _ => return None,
            }
        }
        _ => return None,
    };
    let ahead = next > 0 && next % 16 == 0 && values[RDI] == Value::Cpu && target == Value::Handler(next);
    ahead.then_some(next as u32)
}

/// Leaves out of the last block what only served to go on. Gives how far RSI is from the op behind it.
fn shorten(analysis: &mut Analysis, steps: &mut Vec<Step>, end: Value) -> Option<u32> {
    // The last change of RSI goes, unless something behind it uses RSI.
    let last = steps.iter().rposition(|step| analysis.used(&step.insn).1 >> RSI & 1 != 0);
    let mut moved = None;
    if let Some(last) = last {
        let used_later = steps[last + 1..]
            .iter()
            .any(|step| analysis.used_by(step).0 >> RSI & 1 != 0 || step.accesses_guest());
        if let (false, Value::Op(before), true) =
            (used_later, steps[last].values[RSI], is_pure(&steps[last].insn))
        {
            steps.remove(last);
            moved = Some(before);
        }
    }
    let moved = match moved {
        Some(moved) => moved,
        None => match end {
            Value::Op(at) => at,
            _ => return None,
        },
    };
    u32::try_from(moved).ok()
}
