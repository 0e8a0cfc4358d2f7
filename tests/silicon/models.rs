//! Models of processors: an instruction that a model does not have is none there, or the one without its prefix.

use crate::encode::{Options, encode};
use crate::oracle::{CODE, DATA, PAGE, STACK, WINDOW};
use crate::random::Random;
use crate::single::row;
use std::sync::Arc;
use table86::isa::{CpuModel, FORMS, MODELS};
use table86::memory::{MapRequest, Place, Prot};
use table86::{Fault, Machine, Memory, Stop};

/// Encodings tried of each row on each model.
const ENCODINGS: usize = 2;

/// Any memory there is; nothing faults before #UD would.
const OPTIONS: Options<'static> = Options {
    absolute: &[DATA + 0x40],
    targets: &[DATA],
    reach: [100, 100],
    exit: 16,
    frame: None,
    decorate: true,
};

/// Runs one instruction on a model.
fn run(model: CpuModel, bytes: &[u8]) -> Stop {
    let memory = Arc::new(Memory::new().expect("reservation"));
    let rwx = Prot::READ | Prot::WRITE | Prot::EXEC;
    for (at, len) in [(CODE, PAGE), (DATA, WINDOW), (STACK, WINDOW)] {
        memory.map(&MapRequest::anonymous(Place::Fixed(at), len, rwx)).expect("room");
    }
    memory.write_bytes(CODE, bytes).expect("code is mapped");
    let mut machine = Machine::new(memory).expect("translations");
    machine.cpu.cpuid = model;
    machine.cpu.eip = CODE;
    machine.cpu.regs = [DATA; 8];
    machine.run(1)
}

/// Rows that a model runs although it lacks their features, and those that another instruction should stand in for and does
/// not; with how many were tried.
pub fn wrong(seed: u64) -> (Vec<String>, usize) {
    let mut wrong = Vec::new();
    let mut tried = 0;
    for model in MODELS.iter().filter_map(|model| CpuModel::named(model.name)) {
        for (index, form) in FORMS.iter().enumerate().filter(|(_, form)| !model.has_all(form.cpuid)) {
            let mut random = Random::new(seed, index as u64);
            for encoding in
                (0..100).filter_map(|_| encode(index, CODE, &OPTIONS, &mut random)).take(ENCODINGS)
            {
                let refused = run(model, &encoding.bytes) == Stop::Exception(Fault::UD);
                tried += 1;
                if refused != encoding.insn.without_prefix().is_none() {
                    wrong.push(format!("{}: {} {:02x?}", model.model().name, row(form), encoding.bytes));
                }
            }
        }
    }
    (wrong, tried)
}
