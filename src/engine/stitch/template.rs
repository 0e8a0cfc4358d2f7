//! What has to be copied to have a handler's work done in a row with others': its machine code without the jump to the next handler.
//!
//! A handler ends in `rsi = next op; jump to its handler`. Its template has the blocks that lead there (`hot`, running off their end)
//! apart from those that leave otherwise (`cold`: a taken branch, a fault). What the compiler has put behind the handler's end, but comes
//! back, is `warm`: it stands in nobody's way, either. Fields of ops become immediates, and RSI need not be
//! moved on when nothing in the hot part wants it.

use super::access::Access;
use super::analysis::{Analysis, Operand, RDI, RSI, Step, Value, Values, number};
use super::code::{Block, End, read};
use super::facts::{COUNT, condition, extends_again, immediate_form, is_cpu, is_pure};
use super::runs::{Look, Notes, Omit};
use super::sum::Sum;
use super::{flat, floats, saves, top};
use iced_x86::{Code, Encoder, FlowControl, InstructionInfoFactory, OpKind, Register};
use std::collections::HashMap;

/// Handlers with more than this are not worth copying.
const MAX_ATOMS: usize = 200;

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Atom {
    /// Machine code that is the same everywhere.
    Raw(Box<[u8]>),
    /// An access to the guest's memory, which may fault.
    Guest(Box<[u8]>),
    /// Machine code before an immediate of 32 bits: a field of an op, so many bytes from the op, zero-extended.
    Immediate { code: Box<[u8]>, from: u32, bytes: u8 },
    /// Machine code before an immediate of one byte: the low byte of a field.
    Count { code: Box<[u8]>, from: u32 },
    /// Machine code with a distance to an address outside at `at`.
    Outside { code: Box<[u8]>, at: usize, target: usize },
    /// An instruction with an operand in the CPU.
    Access(Box<Access>),
    /// The host's register becomes an address. Nobody wants the flags.
    Sum(Box<Sum>),
    /// The opcode of a jump to a label.
    Jump { code: Box<[u8]>, label: usize, way: Way },
    /// A label is here.
    Label(usize),
    /// RSI, which may be behind, becomes the op.
    Correct,
    /// The copy is left: the CPU gets all that it lacks.
    Complete,
}

/// Where a jump leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the same part.
    Within,
    /// To the cold part from another.
    Out,
    /// As `Out`, and nothing else leads there.
    OnlyOut,
    /// To the warm part, or from there to the hot one.
    Aside,
}

/// A part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Written in a row with those of other templates.
    Hot,
    /// Leaves that row and comes back to it.
    Warm,
    /// Leaves it for good, or runs where nothing is kept.
    Cold,
}

/// The label of the end of a template's hot part.
pub(super) const HOT_END: usize = 0;

/// A handler's code, ready to be placed.
#[derive(Debug, Default)]
pub(super) struct Template {
    pub(super) hot: Vec<Atom>,
    pub(super) warm: Vec<Atom>,
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
    /// The same of its XMM registers.
    pub(super) vectors: u16,
    /// The hot part may change guest registers in ways that are not seen.
    pub(super) opaque: bool,
    /// The hot part may read guest registers in ways that are not seen.
    pub(super) peeks: bool,
    /// The notes that the handler leaves, whether the template does or not.
    pub(super) notes: Notes,
    /// The hot part begins with a look whether MXCSR lets the host's instructions do.
    pub(super) looks_at_floats: bool,
    /// The hot part may change what such a look is at.
    pub(super) changes_floats: bool,
    /// The top of the x87's stack behind it, if it was made for a certain one before it.
    pub(super) top: Option<u8>,
    /// It may change the top, or whether short ways may be taken, in another way.
    pub(super) changes_top: bool,
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
            Operand::Cpu(place) => {
                return Some(Atom::Access(Box::new(Access::new(insn, place, step.count)?)));
            }
        }
        if insn.flow_control() == FlowControl::Call {
            return Some(outside(&[0xe8], insn.near_branch_target()));
        }
        let mut code: Box<[u8]> = if insn.ip() == 0 {
            let mut encoder = Encoder::new(64);
            encoder.encode(insn, 0).ok()?;
            encoder.take_buffer().into()
        } else {
            let at = (insn.ip() - self.base) as usize;
            self.bytes.get(at..at + insn.len())?.into()
        };
        if let Some(from) = step.count {
            // Before ModRM.
            let opcode = code.len().checked_sub(2)?;
            code[opcode] ^= COUNT;
            return Some(Atom::Count { code, from });
        }
        if step.accesses_guest() {
            return Some(Atom::Guest(code));
        }
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
/// then the handler is used as it is. What is to be left out is.
pub(super) fn template(bytes: &[u8], base: u64, omit: Omit) -> Option<Template> {
    let mut blocks = read(bytes, base)?;
    let look = Look::find(&blocks);
    if omit.look {
        look.as_ref()?.omit(&mut blocks);
    }
    if omit.floats {
        floats::omit_look(&mut blocks)?;
    }
    if omit.stack {
        flat::omit(&mut blocks);
    }
    saves::omit(&mut blocks);
    let mut top_behind = None;
    if let Some(top) = omit.top {
        top_behind = top::fold(&mut blocks, top)?;
        if !omit.top_look {
            top::guard(&mut blocks, top, base)?;
        }
    }
    let mut analysis = Analysis { info: InstructionInfoFactory::new() };
    let starts = analysis.flow(&blocks);
    let mut ends = Vec::with_capacity(blocks.len());
    let mut bodies = Vec::with_capacity(blocks.len());
    let mut notes = Notes::default();
    for (block, values) in blocks.iter().zip(starts) {
        let (mut steps, values) = analysis.steps(block, values);
        for at in (1..steps.len()).rev() {
            if extends_again(&steps[at - 1].insn, &steps[at].insn) {
                steps.remove(at);
            }
        }
        steps.retain(|step| !notes.add(&step.insn, &step.values, omit));
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
    // Without a look, there are no runs.
    let notes = look.as_ref().zip(next).map(|(look, next)| notes.with(look, next)).unwrap_or_default();
    let mut moved = next.unwrap_or(0);
    if next.is_none() {
        hot.fill(true);
    }
    let mut short = bodies.clone();
    let moves: Option<Vec<u32>> =
        exits.iter().map(|at| shorten(&mut analysis, &mut short[*at], ends[*at][RSI])).collect();
    if let Some([first, rest @ ..]) = moves.as_deref()
        && rest.iter().all(|other| other == first)
    {
        moved = *first;
        bodies = short;
    }
    analysis.drop_all_dead(&blocks, &mut bodies, &goes_on);
    let wants_op = (0..blocks.len()).any(|at| {
        hot[at]
            && (bodies[at].iter().any(|step| analysis.wants_op(step))
                || (goes_on[at].is_none() && matches!(blocks[at].end, End::Leave(_) | End::Outside(_))))
    }) || moved != 0;
    // An access of the guest's memory has to stand in the row, where places are in order.
    let stays = |at: usize| bodies[at].iter().any(Step::accesses_guest);
    let is_behind = |at: usize| hot[at] && exits.first().is_some_and(|exit| at > *exit);
    let mut warm: Vec<usize> = (0..blocks.len()).filter(|at| is_behind(*at)).collect();
    if warm.iter().any(|at| stays(*at)) {
        warm.clear();
    }
    let part = |at: usize| match (hot[at], warm.contains(&at)) {
        (true, false) => Part::Hot,
        (true, true) => Part::Warm,
        (false, _) => Part::Cold,
    };
    // The exit comes last; it runs off the end.
    let mut order: Vec<usize> =
        (0..blocks.len()).filter(|at| part(*at) == Part::Hot && exits.first() != Some(at)).collect();
    if let Some(exit) = exits.first() {
        order.push(*exit);
    }
    if order.first() != Some(&0) {
        return None;
    }
    let cold: Vec<usize> = (0..blocks.len()).filter(|at| !hot[*at]).collect();
    let elsewhere = floats::look(&blocks);
    let looks_at_floats = elsewhere.is_some_and(|start| cold.iter().any(|at| blocks[*at].start == start));
    let mut template =
        Template { next, moved, wants_op, notes, looks_at_floats, top: top_behind, ..Template::default() };
    for &at in order.iter().chain(&warm) {
        for step in &bodies[at] {
            let (reads, writes) = analysis.used_by(step);
            template.uses |= reads | writes;
            template.vectors |= analysis.vectors_used(&step.insn);
            template.opaque |= analysis.is_opaque(step);
            template.peeks |= analysis.peeks(step);
            template.changes_floats |= floats::changes(&mut analysis, step);
            template.changes_top |=
                top::changes(&step.insn, &mut analysis.info, |base| is_cpu(base, &step.values));
        }
    }
    let source = Source { bytes, base };
    let label: HashMap<u64, usize> =
        blocks.iter().enumerate().map(|(at, block)| (block.start, at + 1)).collect();
    // The label of a cold block for those who come from the hot part, where RSI is behind.
    let behind = |at: usize| blocks.len() + 1 + at;
    template.labels = 2 * blocks.len() + 1;
    for (here, order) in [(Part::Hot, &order), (Part::Warm, &warm), (Part::Cold, &cold)] {
        let mut atoms = Vec::new();
        for (position, &at) in order.iter().enumerate() {
            let block = &blocks[at];
            if here == Part::Cold && !wants_op {
                atoms.extend([Atom::Label(behind(at)), Atom::Correct]);
            }
            atoms.push(Atom::Label(at + 1));
            let mut rest = bodies[at].as_slice();
            while let [step, others @ ..] = rest {
                if let Some((sum, steps)) = Sum::take(rest, goes_on[at].is_some()) {
                    atoms.push(Atom::Sum(Box::new(sum)));
                    rest = &rest[steps..];
                } else {
                    atoms.push(source.atom(step)?);
                    rest = others;
                }
            }
            let following = order.get(position + 1).map(|at| blocks[*at].start);
            // In the cold part each block may start with its own correction of RSI, and in the warm one each keeps something else, so
            // none is run into.
            let following = following.filter(|_| here == Part::Hot || here == Part::Cold && wants_op);
            let mut jump = |code: &[u8], target: u64| {
                let to = label[&target] - 1;
                let way = match (here, part(to)) {
                    (Part::Hot, Part::Hot) | (Part::Cold, _) => Way::Within,
                    (_, Part::Cold) => Way::Out,
                    (_, Part::Warm) | (Part::Warm, _) => Way::Aside,
                };
                let label = if way == Way::Out && !wants_op { behind(to) } else { to + 1 };
                atoms.push(Atom::Jump { code: code.into(), label, way });
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
                End::Outside(target) => atoms.extend([Atom::Complete, outside(&[0xe9], *target)]),
                End::Leave(_) if goes_on[at].is_some() => {
                    if here != Part::Hot || position + 1 != order.len() {
                        let way = if here == Part::Hot { Way::Within } else { Way::Aside };
                        let code = [0xe9].into();
                        atoms.push(Atom::Jump { code, label: HOT_END, way });
                    }
                }
                End::Leave(insn) => {
                    atoms.push(Atom::Complete);
                    let step = Step { insn: *insn, values: ends[at], operand: Operand::Same, count: None };
                    atoms.push(source.atom(&step)?);
                }
            }
        }
        match here {
            Part::Hot => template.hot = atoms,
            Part::Warm => template.warm = atoms,
            Part::Cold => template.cold = atoms,
        }
    }
    if !wants_op {
        mark_only_ways(&mut template);
    }
    template.changes_floats |= template.opaque;
    template.changes_top |= template.opaque;
    template.opaque |= jumps_back(&template.hot);
    (template.hot.len() + template.warm.len() + template.cold.len() <= MAX_ATOMS).then_some(template)
}

/// Finds the ways out to labels that nothing else leads to: nobody runs into them, and the cold part has labels of its own.
fn mark_only_ways(Template { hot, warm, .. }: &mut Template) {
    let mut ways: HashMap<usize, usize> = HashMap::new();
    for atom in hot.iter().chain(&*warm) {
        if let Atom::Jump { label, way: Way::Out, .. } = atom {
            *ways.entry(*label).or_default() += 1;
        }
    }
    for atom in hot.iter_mut().chain(warm) {
        if let Atom::Jump { label, way: way @ Way::Out, .. } = atom
            && ways[label] == 1
        {
            *way = Way::OnlyOut;
        }
    }
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
