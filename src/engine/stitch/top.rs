//! The x87's stack top as a constant. Software finds a register of the stack by the top, which changes with each push and pop; but at one
//! place of a program it is nearly always the same. A copy for a certain top looks once that it is the one, and then has
//! registers of the stack at places that do not depend on anything, which processors forward stores from best.
//!
//! Where it is another one, the handler goes on as it is, and so do those behind it.

use super::analysis::number;
use super::code::{Block, End};
use crate::cpu::Cpu;
use crate::fpu::Fpu;
use iced_x86::{Code, Instruction, InstructionInfoFactory, MemoryOperand, OpAccess, OpKind, Register};
use std::collections::HashMap;
use std::mem::offset_of;

/// Where the CPU has the top.
const TOP: u64 = (offset_of!(Cpu, fpu) + Fpu::TOP) as u64;
/// Where it has whether short ways may be taken.
const SHORT: u64 = (offset_of!(Cpu, fpu) + Fpu::SHORT) as u64;

/// What is known of the state: constants in registers, and the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    registers: [Option<u32>; 16],
    top: Option<u8>,
}

impl State {
    /// What holds whichever of two came before.
    fn merged(&self, other: &State) -> State {
        let same = |at: usize| self.registers[at].filter(|_| self.registers[at] == other.registers[at]);
        State { registers: std::array::from_fn(same), top: self.top.filter(|_| self.top == other.top) }
    }
}

/// Whether an instruction has a byte of the CPU at an offset, and nothing else, as its operand.
fn is_byte_at(insn: &Instruction, offset: u64) -> bool {
    insn.memory_base() == Register::RDI
        && insn.memory_index() == Register::None
        && insn.memory_displacement64() == offset
        && insn.memory_size().size() == 1
}

/// Whether an instruction may change the top, or whether short ways may be taken, other than by a store of the one byte.
pub(super) fn may_change(insn: &Instruction, info: &mut InstructionInfoFactory) -> bool {
    let writes = |access| {
        !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
    };
    info.info(insn).used_memory().iter().any(|used| {
        let within = |at: u64| {
            used.displacement() <= at && at < used.displacement() + used.memory_size().size() as u64
        };
        // Elements of arrays are within them.
        let here =
            used.base() == Register::RDI && used.index() == Register::None && (within(TOP) || within(SHORT));
        writes(used.access()) && here
    })
}

/// Lets a handler, for which the top is `top`, find registers of the stack by that. Gives the top behind it, if that is known.
pub(super) fn fold(blocks: &mut [Block], top: u8) -> Option<u8> {
    let mut folding = Folding { info: InstructionInfoFactory::new() };
    let index: HashMap<u64, usize> = blocks.iter().enumerate().map(|(at, block)| (block.start, at)).collect();
    let mut starts: Vec<Option<State>> = vec![None; blocks.len()];
    starts[0] = Some(State { registers: [None; 16], top: Some(top) });
    let mut work = vec![0];
    while let Some(at) = work.pop() {
        let Some(mut state) = starts[at] else { continue };
        for insn in &blocks[at].insns {
            folding.apply(&mut state, insn);
        }
        for target in blocks[at].successors() {
            let Some(&to) = index.get(&target) else { continue };
            let merged = starts[to].map_or(state, |old| old.merged(&state));
            if starts[to] != Some(merged) {
                starts[to] = Some(merged);
                work.push(to);
            }
        }
    }
    // Behind all exits the same.
    let mut behind: Option<Option<u8>> = None;
    for (block, start) in blocks.iter_mut().zip(starts) {
        let Some(mut state) = start else { continue };
        for insn in &mut block.insns {
            let before = state;
            folding.apply(&mut state, insn);
            replace(insn, &before, &state);
        }
        if let End::Leave(_) = block.end {
            behind = Some(behind.map_or(state.top, |other| other.filter(|_| other == state.top)));
        }
    }
    behind.flatten()
}

struct Folding {
    info: InstructionInfoFactory,
}

impl Folding {
    /// The state behind an instruction.
    fn apply(&mut self, state: &mut State, insn: &Instruction) {
        let before = *state;
        let value = constant(insn, &before);
        for used in self.info.info(insn).used_registers() {
            let reads = matches!(
                used.access(),
                OpAccess::Read | OpAccess::CondRead | OpAccess::None | OpAccess::NoMemAccess
            );
            if let (Some(at), false) = (number(used.register()), reads) {
                state.registers[at] = None;
            }
        }
        if insn.op0_kind() == OpKind::Register
            && let (Some(at), Some(value)) = (number(insn.op0_register()), value)
        {
            state.registers[at] = Some(value);
        }
        if insn.is_call_near() || insn.is_call_near_indirect() {
            *state = State { registers: [None; 16], top: None };
        } else if insn.code() == Code::Mov_rm8_r8
            && insn.op0_kind() == OpKind::Memory
            && is_byte_at(insn, TOP)
        {
            state.top = byte(insn.op1_register(), &before);
        } else if may_change(insn, &mut self.info) {
            state.top = None;
        }
    }
}

/// The low byte of a register, if it is known.
fn byte(register: Register, state: &State) -> Option<u8> {
    let high = matches!(register, Register::AH | Register::CH | Register::DH | Register::BH);
    state.registers[number(register).filter(|_| !high)?].map(|value| value as u8)
}

/// What an instruction puts into the whole of its first operand, a register, if it is known. The upper half of a register that is
/// known is 0.
fn constant(insn: &Instruction, state: &State) -> Option<u32> {
    let known = |register: Register| state.registers[number(register)?];
    let first = insn.op0_register();
    let from_register = |at: u32| insn.op_kind(at) == OpKind::Register;
    let immediate = || insn.immediate(1) as u32;
    match insn.code() {
        Code::Movzx_r32_rm8 if insn.op1_kind() == OpKind::Memory && is_byte_at(insn, TOP) => {
            state.top.map(u32::from)
        }
        Code::Movzx_r32_rm8 if from_register(1) => byte(insn.op1_register(), state).map(u32::from),
        Code::Mov_r32_rm32 | Code::Mov_rm32_r32 | Code::Mov_r64_rm64 | Code::Mov_rm64_r64
            if from_register(0) && from_register(1) =>
        {
            known(insn.op1_register())
        }
        Code::Mov_r32_imm32 => Some(insn.immediate32()),
        Code::Inc_rm32 if from_register(0) => Some(known(first)?.wrapping_add(1)),
        Code::Dec_rm32 if from_register(0) => Some(known(first)?.wrapping_sub(1)),
        Code::Add_rm32_imm8 | Code::Add_rm32_imm32 if from_register(0) => {
            Some(known(first)?.wrapping_add(immediate()))
        }
        Code::And_rm32_imm8 | Code::And_rm32_imm32 if from_register(0) => Some(known(first)? & immediate()),
        Code::And_rm8_imm8 if from_register(0) => {
            byte(first, state)?;
            Some(known(first)? & (insn.immediate8() as u32 | !0xff))
        }
        Code::Lea_r32_m if insn.memory_index() == Register::None => {
            Some(known(insn.memory_base())?.wrapping_add(insn.memory_displacement64() as u32))
        }
        _ => None,
    }
}

/// Puts what is known into an instruction.
fn replace(insn: &mut Instruction, before: &State, behind: &State) {
    let first = number(insn.op0_register()).filter(|_| insn.op0_kind() == OpKind::Register);
    let loads_top =
        insn.code() == Code::Movzx_r32_rm8 && insn.op1_kind() == OpKind::Memory && is_byte_at(insn, TOP);
    if loads_top
        && let Some(value) = first.and_then(|at| behind.registers[at])
        && let Ok(load) = Instruction::with2(Code::Mov_r32_imm32, insn.op0_register(), value)
    {
        *insn = load;
        return;
    }
    let stores_top =
        insn.code() == Code::Mov_rm8_r8 && insn.op0_kind() == OpKind::Memory && is_byte_at(insn, TOP);
    if stores_top
        && let Some(value) = byte(insn.op1_register(), before)
        && let Ok(store) = Instruction::with2(Code::Mov_rm8_imm8, place(TOP), u32::from(value))
    {
        *insn = store;
        return;
    }
    let address_only = matches!(insn.code(), Code::Lea_r64_m | Code::Lea_r32_m | Code::Lea_r16_m);
    if insn.memory_base() == Register::RDI
        && !address_only
        && insn.memory_index().is_gpr64()
        && let Some(index) = number(insn.memory_index()).and_then(|at| before.registers[at])
    {
        let from = u64::from(index) * u64::from(insn.memory_index_scale());
        insn.set_memory_displacement64(insn.memory_displacement64().wrapping_add(from));
        insn.set_memory_index(Register::None);
        insn.set_memory_index_scale(1);
        insn.set_memory_displ_size(8);
        // It is encoded anew.
        insn.set_ip(0);
    }
}

/// A place in the CPU.
fn place(offset: u64) -> MemoryOperand {
    MemoryOperand::with_base_displ_size(Register::RDI, offset as i64, 8)
}

/// Puts a comparison with the top before all; where it is another one, the handler itself goes on.
pub(super) fn guard(blocks: &mut Vec<Block>, top: u8, handler: u64) -> Option<()> {
    /// Where no code is.
    const LOOK: u64 = u64::MAX - 1;
    const ELSEWHERE: u64 = u64::MAX;
    let compare = Instruction::with2(Code::Cmp_rm8_imm8, place(TOP), u32::from(top)).ok()?;
    let insn = Instruction::with_branch(Code::Jne_rel32_64, ELSEWHERE).ok()?;
    let end = End::Branch { insn, taken: ELSEWHERE, not_taken: blocks.first()?.start };
    blocks.insert(0, Block { start: LOOK, insns: vec![compare], end });
    blocks.push(Block { start: ELSEWHERE, insns: Vec::new(), end: End::Outside(handler) });
    Some(())
}
