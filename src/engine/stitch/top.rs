//! The x87's stack top as a constant. Software finds a register of the stack by the top, which changes with each push and pop; but at one
//! place of a program it is nearly always the same. A copy for a certain top looks once that it is the one, and then has
//! registers of the stack at places that do not depend on anything, which processors forward stores from best.
//!
//! Where it is another one, the handler goes on as it is, and so do those behind it.

use super::analysis::number;
use super::code::{Block, End};
use super::runs::SHORT;
use crate::cpu::Cpu;
use crate::fpu::Fpu;
use iced_x86::{Code, Instruction, InstructionInfoFactory, MemoryOperand, OpAccess, OpKind, Register};
use std::collections::HashMap;
use std::mem::offset_of;

/// Where the CPU has the top.
const TOP: u64 = (offset_of!(Cpu, fpu) + Fpu::TOP) as u64;

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

/// Whether an access leaves what it finds.
fn only_reads(access: OpAccess) -> bool {
    matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
}

/// Whether an instruction stores to the top, or to whether short ways may be taken. `is_cpu` tells which registers hold the CPU.
pub(super) fn changes(
    insn: &Instruction,
    info: &mut InstructionInfoFactory,
    is_cpu: impl Fn(Register) -> bool,
) -> bool {
    info.info(insn).used_memory().iter().any(|used| {
        let within = |at: u64| {
            used.displacement() <= at && at < used.displacement() + used.memory_size().size() as u64
        };
        // Elements of arrays are within them.
        let here = is_cpu(used.base()) && used.index() == Register::None && (within(TOP) || within(SHORT));
        !only_reads(used.access()) && here
    })
}

/// Whether an instruction changes RDI, which holds the CPU, or makes another register a pointer into that.
fn spreads_cpu(insn: &Instruction, info: &mut InstructionInfoFactory) -> bool {
    let copied = (0..insn.op_count()).any(|at| {
        insn.op_kind(at) == OpKind::Register && insn.op_register(at).full_register() == Register::RDI
    });
    let address_only = matches!(insn.code(), Code::Lea_r64_m | Code::Lea_r32_m | Code::Lea_r16_m);
    let pointer = address_only && [insn.memory_base(), insn.memory_index()].contains(&Register::RDI);
    let used = info.info(insn).used_registers();
    copied
        || pointer
        || used
            .iter()
            .any(|used| used.register().full_register() == Register::RDI && !only_reads(used.access()))
}

/// Lets a handler, for which the top is `top`, find registers of the stack by that. Gives the top behind it, if that is known. `None`
/// if it may store through other pointers than the CPU's.
pub(super) fn fold(blocks: &mut [Block], top: u8) -> Option<Option<u8>> {
    let mut folding = Folding { info: InstructionInfoFactory::new() };
    if blocks.iter().flat_map(|block| &block.insns).any(|insn| spreads_cpu(insn, &mut folding.info)) {
        return None;
    }
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
    Some(behind.flatten())
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
            if let (Some(at), false) = (number(used.register()), only_reads(used.access())) {
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
        } else if changes(insn, &mut self.info, |base| base == Register::RDI) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const SIGS: i64 = 0x178;

    fn block(insns: Vec<Instruction>) -> Vec<Block> {
        let leave = Instruction::with(Code::Retnq);
        vec![Block { start: 0x1000, insns, end: End::Leave(leave) }]
    }

    /// What a push does: one register further, to which RCX goes.
    fn push() -> Vec<Instruction> {
        let sig = MemoryOperand::new(Register::RDI, Register::RAX, 8, SIGS, 8, false, Register::None);
        [
            Instruction::with2(Code::Movzx_r32_rm8, Register::EAX, place(TOP)),
            Instruction::with1(Code::Dec_rm32, Register::EAX),
            Instruction::with2(Code::And_rm32_imm8, Register::EAX, 7),
            Instruction::with2(Code::Mov_rm8_r8, place(TOP), Register::AL),
            Instruction::with2(Code::Mov_rm64_r64, sig, Register::RCX),
        ]
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("they can be encoded")
    }

    #[test]
    fn registers_of_the_stack_are_found_by_a_certain_top() {
        for (top, pushed) in [(0, 7), (1, 0), (7, 6)] {
            let mut blocks = block(push());
            assert_eq!(fold(&mut blocks, top), Some(Some(pushed)));
            let [load, .., store, sig] = &blocks[0].insns[..] else { panic!("as many as before") };
            assert_eq!((load.code(), load.immediate32()), (Code::Mov_r32_imm32, top.into()));
            assert_eq!((store.code(), store.immediate8()), (Code::Mov_rm8_imm8, pushed));
            assert_eq!(sig.memory_index(), Register::None);
            assert_eq!(sig.memory_displacement64(), SIGS as u64 + 8 * u64::from(pushed));
        }
    }

    #[test]
    fn the_top_is_unknown_behind_a_store_of_something_unknown() {
        let store =
            Instruction::with2(Code::Mov_rm8_r8, place(TOP), Register::DL).expect("it can be encoded");
        assert_eq!(fold(&mut block([push(), vec![store]].concat()), 3), Some(None));
        let wide = Instruction::with2(Code::Mov_rm32_r32, place(TOP - 1), Register::EDX).expect("the same");
        assert_eq!(fold(&mut block([push(), vec![wide]].concat()), 3), Some(None));
    }

    #[test]
    fn nothing_is_folded_where_other_pointers_lead_to_the_cpu() {
        let copy =
            Instruction::with2(Code::Mov_r64_rm64, Register::RBX, Register::RDI).expect("it can be encoded");
        let mut blocks = block([vec![copy], push()].concat());
        assert_eq!(fold(&mut blocks, 3), None);
        assert_eq!(blocks[0].insns[1].code(), Code::Movzx_r32_rm8);
    }

    #[test]
    fn a_guard_leads_to_the_handler_where_the_top_is_another() {
        let mut blocks = block(push());
        guard(&mut blocks, 5, 0x1000).expect("it can be encoded");
        let End::Branch { insn, taken, not_taken } = &blocks[0].end else { panic!("it looks") };
        assert_eq!((insn.code(), *not_taken), (Code::Jne_rel32_64, 0x1000));
        assert_eq!(blocks[0].insns[0].immediate8(), 5);
        let elsewhere = blocks.iter().find(|block| block.start == *taken).expect("it is there");
        assert!(matches!(elsewhere.end, End::Outside(0x1000)));
    }
}
