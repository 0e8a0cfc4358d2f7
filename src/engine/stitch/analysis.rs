//! What a handler's machine code does, as far as a copy has to know: which registers hold the CPU, an op or a field of one, what
//! accesses the guest's memory, what nobody wants.

use super::access::Place;
use super::code::{Block, End};
use super::facts::{count, field, is_cpu, is_pure, operand, pure_load};
use iced_x86::{Code, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register};
use std::collections::HashMap;

/// What a register holds, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
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

pub(super) type Values = [Value; 16];

/// An instruction of the copy.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) insn: Instruction,
    /// Values before it.
    pub(super) values: Values,
    /// What becomes of its memory operand.
    pub(super) operand: Operand,
    /// The field of an op that it shifts by in place of CL, as an immediate: bytes from the op.
    pub(super) count: Option<u32>,
}

/// What the copy has in place of a memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    /// The same.
    Same,
    /// A field of an op, as an immediate: bytes from the op.
    Immediate(u32),
    /// A place in the CPU.
    Cpu(Place),
}

fn is_read(access: OpAccess) -> bool {
    matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::None | OpAccess::NoMemAccess)
}

pub(super) fn number(register: Register) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64().then(|| full as usize - Register::RAX as usize)
}

pub(super) const RCX: usize = 1;
pub(super) const RDX: usize = 2;
pub(super) const RSP: usize = 4;
pub(super) const RSI: usize = 6;
pub(super) const RDI: usize = 7;

/// Registers that mean nothing to the next handler: RAX, RCX, R8 to R11.
pub(super) const SCRATCH: u16 = 0b1111_0000_0011;
/// RAX, R10 and R11: they neither pass an argument to a function nor have to be kept for its caller (System V ABI for x86-64, 3.2.3).
const NO_ARGUMENT: u16 = 0b1100_0000_0001;

pub(super) struct Analysis {
    pub(super) info: InstructionInfoFactory,
}

impl Analysis {
    /// Registers that an instruction reads and those that it changes, as bit sets.
    pub(super) fn used(&mut self, insn: &Instruction) -> (u16, u16) {
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

    /// XMM registers of the host that an instruction uses, as a bit set.
    pub(super) fn vectors_used(&mut self, insn: &Instruction) -> u16 {
        let used = self.info.info(insn).used_registers().iter();
        let vectors = used.map(|used| used.register()).filter(|register| register.is_xmm());
        vectors.fold(0, |all, register| all | 1 << ((register as usize - Register::XMM0 as usize) & 15))
    }

    /// The values behind an instruction.
    pub(super) fn apply(&mut self, values: &mut Values, insn: &Instruction) {
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
    pub(super) fn flow(&mut self, blocks: &[Block]) -> Vec<Values> {
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

    pub(super) fn steps(&mut self, block: &Block, mut values: Values) -> (Vec<Step>, Values) {
        let mut steps = Vec::with_capacity(block.insns.len());
        for insn in &block.insns {
            steps.push(Step {
                insn: *insn,
                values,
                operand: operand(insn, &values),
                count: count(insn, &values),
            });
            self.apply(&mut values, insn);
        }
        (steps, values)
    }

    /// Registers that a step reads and changes.
    pub(super) fn used_by(&mut self, step: &Step) -> (u16, u16) {
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
        if step.count.is_some() && number(insn.op0_register()) != Some(RCX) {
            reads &= !(1 << RCX);
        }
        if step.accesses_guest() {
            // A fault finds the op in RSI.
            reads |= 1 << RSI;
        }
        (reads, writes)
    }

    /// Whether the step cannot do without RSI being exact, because it uses the op. An access that faults can: see
    /// [`Fixup`](super::draft::Fixup).
    pub(super) fn wants_op(&mut self, step: &Step) -> bool {
        let (reads, _) = self.used_by(step);
        let reads = if step.accesses_guest() { reads & !(1 << RSI) | self.used(&step.insn).0 } else { reads };
        let uses = (0..16).any(|at| reads >> at & 1 != 0 && matches!(step.values[at], Value::Op(_)));
        let calls = matches!(step.insn.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        uses || calls
    }

    /// Whether a step may change guest registers unseen: it calls, or writes through a pointer that may lead there.
    pub(super) fn is_opaque(&mut self, step: &Step) -> bool {
        !matches!(step.insn.flow_control(), FlowControl::Next)
            || self.reaches(step, |access| !is_read(access))
    }

    /// Whether a step may read guest registers unseen, through a pointer that may lead there.
    pub(super) fn peeks(&mut self, step: &Step) -> bool {
        self.reaches(step, |access| access != OpAccess::NoMemAccess)
    }

    /// Whether a step has such an access to memory that it is not known to be elsewhere than guest registers.
    fn reaches(&mut self, step: &Step, such: impl Fn(OpAccess) -> bool) -> bool {
        let insn = &step.insn;
        if step.operand != Operand::Same || insn.is_ip_rel_memory_operand() {
            return false;
        }
        let values = step.values;
        let info = self.info.info(insn);
        info.used_memory().iter().any(|used| {
            let known = match number(used.base()) {
                // The stack; but what is saved there would be one of the registers that the copies use.
                Some(RSP) => false,
                Some(base) => match values[base] {
                    Value::Memory | Value::Op(_) => true,
                    // Arrays of the CPU lie behind its registers.
                    Value::Cpu => {
                        let within = used.displacement() >= u64::from(Place::REGISTERS)
                            && used.displacement() < 1 << 31;
                        // One of its XMM registers, but which?
                        let any =
                            used.index() != Register::None && Place::is_register(used.displacement() as u32);
                        within && !any
                    }
                    _ => number(used.index()).is_some_and(|index| values[index] == Value::Memory),
                },
                None => false,
            };
            such(used.access()) && !known
        })
    }

    /// Drops steps whose results nobody wants; `live` are the registers wanted behind them. Gives those wanted before them.
    pub(super) fn drop_dead(&mut self, steps: &mut Vec<Step>, mut live: u16, mut flags_live: bool) -> u16 {
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
    pub(super) fn drop_all_dead(
        &mut self,
        blocks: &[Block],
        bodies: &mut [Vec<Step>],
        exits: &[Option<u32>],
    ) {
        let mut wanted = vec![0; blocks.len()];
        let index: HashMap<u64, usize> =
            blocks.iter().enumerate().map(|(at, block)| (block.start, at)).collect();
        loop {
            let mut changed = false;
            for at in (0..blocks.len()).rev() {
                let goes_on = exits[at].is_some();
                let live = wanted_behind(&blocks[at], goes_on, |to| wanted[index[&to]]);
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
            let live = wanted_behind(&blocks[at], goes_on, |to| wanted[index[&to]]);
            self.drop_dead(&mut bodies[at], live, !goes_on);
        }
    }

    pub(super) fn live_before(&mut self, steps: &[Step], mut live: u16) -> u16 {
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

/// What is wanted behind a block, whether it goes on with the next op; `wanted` is what is wanted at the start of one.
fn wanted_behind(block: &Block, goes_on: bool, wanted: impl Fn(u64) -> u16) -> u16 {
    match block.end {
        End::Leave(_) if goes_on => !SCRATCH,
        End::Leave(_) => !0,
        End::Outside(_) => !NO_ARGUMENT,
        _ => block.successors().map(wanted).fold(0, |all, one| all | one),
    }
}
