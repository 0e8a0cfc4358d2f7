//! Programs that use the specialised handlers and pairs of `opcodes/hot.txt`, each line on purpose.

use crate::encode::{Encoding, Frame, MOST_INDEX, Options, encode};
use crate::exempt;
use crate::operands::status_flags;
use crate::oracle::{DATA, PAGE, STACK, State, WINDOW, flag};
use crate::program::{Item, Program, define_flags, written_registers};
use crate::random::Random;
use std::collections::HashMap;
use table86::cpu::Seg;
use table86::cpu::segment::USER_DATA;
use table86::isa::decode::{NO_REG, operand_bytes};
use table86::isa::{Access, CONDITIONS, Code, FORMS, Flow, Form, Insn, Operand, Privilege, decode};

const ESP: u8 = 4;
/// Where the stack's top is before each line.
const TOP: u32 = STACK + WINDOW / 2;
/// Segment overrides.
const FS: u8 = 0x64;
const GS: u8 = 0x65;
/// Encodings tried for a handler.
const TRIES: u32 = 4000;
/// How far ADD and SUB may move a pointer.
const MOST_MOVED: u32 = 0x200;

/// One handler of a line: a family and how its operands are found.
#[derive(Clone, Debug)]
pub struct Part {
    family: String,
    condition: Option<u8>,
    operands: Vec<String>,
}

/// The lines of the list whose families are made of rows that stand for themselves.
pub struct Lines {
    lines: Vec<Vec<Part>>,
    /// Rows of each family, and whether they are so with 16-bit operands.
    families: HashMap<String, Vec<(usize, bool)>>,
}

impl Lines {
    /// Reads the list.
    pub fn read(text: &str) -> Lines {
        let mut families: HashMap<String, Vec<(usize, bool)>> = HashMap::new();
        for (index, form) in FORMS.iter().enumerate() {
            let usable = exempt::is_comparable(form)
                && form.privilege == Privilege::User
                && matches!(form.flow, Flow::Next | Flow::Branch)
                && !matches!(form.room, "segment" | "string" | "system" | "control")
                // Two of the x87 are one handler in software only: tests/fpu_backends.rs.
                && !form.room.starts_with("x87")
                || form.body == "jcc";
            for opsize16 in [false, true] {
                if usable {
                    families.entry(family(form, opsize16)).or_default().push((index, opsize16));
                }
            }
        }
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(" + ").map(part).collect());
        let known = |line: &Vec<Part>| line.iter().all(|part| families.contains_key(&part.family));
        Lines { lines: lines.filter(known).collect(), families }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// A line.
    pub fn line(&self, number: usize) -> &[Part] {
        &self.lines[number]
    }

    /// The instructions of a line, and the condition of a branch behind them. `None` if it cannot be used so.
    pub fn encode(&self, number: usize, random: &mut Random) -> Option<(Vec<Encoding>, Option<u8>)> {
        let (branches, plain): (Vec<&Part>, Vec<&Part>) =
            self.lines[number].iter().partition(|part| part.family == "jcc");
        let mut composer = Composer::new(self, random);
        let encodings: Option<Vec<Encoding>> = plain.into_iter().map(|part| composer.encode(part)).collect();
        let condition = branches.first().and_then(|part| part.condition);
        encodings.filter(|encodings| !encodings.is_empty()).map(|encodings| (encodings, condition))
    }

    /// A program of these lines, and how many of them are in it.
    pub fn program(&self, lines: impl Iterator<Item = usize>, random: &mut Random) -> (Program, usize) {
        let state = state(random);
        let mut composer = Composer::new(self, random);
        let used = lines.filter(|line| composer.line(&self.lines[*line]).is_some()).count();
        (Program { items: composer.items, state, modifies: false }, used)
    }
}

/// A state to start in.
pub fn state(random: &mut Random) -> State {
    let mut state = State::default();
    state.regs = [0; 8].map(|_: u32| random.operand());
    state.regs[usize::from(ESP)] = TOP;
    (state.segs[Seg::Fs as usize], state.segs[Seg::Gs as usize]) = (USER_DATA, USER_DATA);
    state.eflags = status_flags(random) & !(flag::ID | flag::DF);
    state
}

fn part(text: &str) -> Part {
    let mut words = text.split_whitespace();
    let family = words.next().unwrap_or("").to_owned();
    let mut part = Part { family, condition: None, operands: Vec::new() };
    for word in words.filter(|word| *word != "live") {
        match word.strip_prefix("cc=") {
            Some(number) => part.condition = number.parse().ok(),
            None => part.operands.push(word.to_owned()),
        }
    }
    part
}

/// The name of the family that a row belongs to, as the generator makes it.
fn family(form: &Form, opsize16: bool) -> String {
    let mut name = form.body.to_owned();
    for operand in passed(form) {
        let bits = operand_bytes(operand.size, opsize16) * 8;
        name.push_str(&match (operand.code, operand.access) {
            (_, Access::Address) => "_a".to_owned(),
            (Code::One, _) => "_one".to_owned(),
            (Code::I | Code::SignedI, _) => format!("_i{bits}"),
            (_, Access::R) => format!("_r{bits}"),
            (_, Access::W) => format!("_w{bits}"),
            (_, Access::Rw) => format!("_rw{bits}"),
            _ => "_?".to_owned(),
        });
    }
    name
}

fn passed(form: &Form) -> impl Iterator<Item = &'static Operand> + use<> {
    let is_passed = |operand: &&Operand| {
        operand.access != Access::Shown && !matches!(operand.code, Code::J | Code::X | Code::Y)
    };
    form.operands.iter().filter(is_passed)
}

/// Whether an operand is found as the list says.
fn fits(insn: &Insn, operand: &Operand, spec: &str) -> bool {
    let offset = |number: u8| match operand_bytes(operand.size, insn.opsize16) {
        1 => (number & 3) * 4 + (number >> 2),
        _ => number * 4,
    };
    let register = match operand.code {
        Code::E | Code::R if insn.mem.is_none() => Some(insn.rm()),
        Code::G => Some(insn.reg()),
        Code::Z => Some(insn.low),
        Code::Reg(number) => Some(number),
        _ => None,
    };
    if let Some(number) = register {
        return spec == "r" || spec == format!("r{}", offset(number));
    }
    let Some(mem) = insn.mem.filter(|_| matches!(operand.code, Code::E | Code::M | Code::O)) else {
        return matches!(spec, "i" | "-");
    };
    match (mem.base, mem.index) {
        _ if matches!(mem.seg, Seg::Fs | Seg::Gs) => spec == "m",
        (NO_REG, NO_REG) => spec == "abs",
        (base, NO_REG) => spec == "b" || spec == format!("b{}", base * 4),
        _ => spec == "sib",
    }
}

/// Writes a program.
pub struct Composer<'a> {
    lines: &'a Lines,
    /// Chooses.
    pub random: &'a mut Random,
    /// What is written so far.
    pub items: Vec<Item>,
    labels: u32,
}

impl<'a> Composer<'a> {
    /// Nothing is written yet.
    pub fn new(lines: &'a Lines, random: &'a mut Random) -> Composer<'a> {
        Composer { lines, random, items: Vec::new(), labels: 0 }
    }

    /// A new label.
    pub fn label(&mut self) -> u32 {
        self.labels += 1;
        self.labels
    }

    /// Writes code.
    pub fn code(&mut self, bytes: &[u8]) {
        self.items.push(Item::Code(bytes.to_vec()));
    }

    fn set(&mut self, register: u8, value: u32) {
        self.code(&[&[0xb8 + register][..], &value.to_le_bytes()].concat());
    }

    fn pointer(&mut self) -> u32 {
        DATA + PAGE + self.random.below(PAGE)
    }

    /// A line of the list, so that nothing stands between its instructions, and what it needs before and behind it. Gives
    /// the item that is the line; `None` if it cannot be used so.
    pub fn line(&mut self, line: &[Part]) -> Option<usize> {
        let (first, rest) = line.split_first()?;
        if first.family == "jcc" {
            return None;
        }
        let first = self.encode(first)?;
        let second = match rest.first() {
            None => None,
            Some(part) if part.family == "jcc" => part.condition.map(Second::Branch),
            Some(part) => Some(Second::Plain(self.encode(part)?)),
        };
        let mut insns = vec![&first.insn];
        if let Some(Second::Plain(second)) = &second {
            insns.push(&second.insn);
        }
        if insns.iter().any(|insn| exempt::differs_in_result(insn)) || passes_flags_on(&first.insn, &second) {
            return None;
        }
        let flags_differ = insns.iter().any(|insn| exempt::differs_in_flags(insn.form()));
        let mut code = first.bytes.clone();
        if let Some(Second::Plain(second)) = &second {
            if !self.point_by_first(&first, &second.insn) {
                return None;
            }
            self.point(&second.insn, Some(&first.insn));
            code.extend(&second.bytes);
        }
        if flags_differ && !matches!(second, Some(Second::Branch(_))) {
            code.extend(define_flags(self.random));
        }
        self.point(&first.insn, None);
        let main = self.items.len();
        self.code(&code);
        if let Some(Second::Branch(condition)) = second {
            let label = self.label();
            let short = self.random.percent(50);
            let opcode = if short { vec![0x70 + condition] } else { vec![0x0f, 0x80 + condition] };
            self.items.push(Item::Relative(opcode, !short, label));
            // inc eax
            self.code(&[0x40]);
            self.items.push(Item::Label(label));
            if flags_differ {
                let code = define_flags(self.random);
                self.code(&code);
            }
        }
        // What is behind needs all flags, some, or none: pushf; setcc al; lahf; test eax, eax; adc; inc.
        let condition = self.random.below(16) as u8;
        let behind: &[u8] = match self.random.below(6) {
            0 => &[0x66, 0x9c],
            1 => &[0x0f, 0x90 + condition, 0xc0],
            2 => &[0x9f],
            3 => &[0x85, 0xc0],
            4 => &[0x11, 0xd0],
            _ => &[0x41],
        };
        let writes_stack_pointer = written_registers(first.insn.form(), &first.insn)
            .any(|register| register == ESP)
            || matches!(&second, Some(Second::Plain(second)) if written_registers(second.insn.form(), &second.insn).any(|register| register == ESP));
        if writes_stack_pointer || self.random.percent(20) {
            self.set(ESP, TOP);
        }
        self.code(behind);
        Some(main)
    }

    /// Gives the registers that an instruction points with something to point to, but for those that the one before it
    /// writes.
    fn point(&mut self, insn: &Insn, before: Option<&Insn>) {
        let written: Vec<u8> =
            before.map(|insn| written_registers(insn.form(), insn).collect()).unwrap_or_default();
        let Some(mem) = insn.mem else { return };
        for (register, value) in [(mem.base, self.pointer()), (mem.index, self.random.below(MOST_INDEX + 1))]
        {
            if register != NO_REG && register != ESP && !written.contains(&register) {
                self.set(register, value);
            }
        }
    }

    /// Where the second instruction points with what the first one wrote, sees to it that this is a pointer; `false` if
    /// that cannot be.
    fn point_by_first(&mut self, first: &Encoding, second: &Insn) -> bool {
        let written: Vec<u8> = written_registers(first.insn.form(), &first.insn).collect();
        let stack = second.form().room == "stack";
        let mut points: Vec<u8> = second.mem.map(|mem| vec![mem.base, mem.index]).unwrap_or_default();
        if stack {
            points.push(ESP);
        }
        if !written.iter().any(|register| points.contains(register)) {
            return true;
        }
        let insn = &first.insn;
        let index = second.mem.is_some_and(|mem| written.contains(&mem.index));
        match (insn.form().body, insn.mem) {
            ("lea", _) => !index,
            ("add" | "sub", None) => {
                insn.imm.wrapping_add(MOST_MOVED) < 2 * MOST_MOVED && written.contains(&ESP)
            }
            ("mov", None) if insn.form().imms.is_empty() && !insn.opsize16 => {
                let source = if insn.form().operands[0].code == Code::G { insn.rm() } else { insn.reg() };
                let value = if index { 5 } else { self.pointer() };
                if source != ESP {
                    self.set(source, value);
                }
                source != ESP || !index
            }
            ("mov", Some(_)) if insn.form().op == "8B /r" && !insn.opsize16 && first.bytes[0] == 0x8b => {
                // mov dword [the same], pointer
                self.point(insn, None);
                let value = if index { 7 } else { self.pointer() };
                let mut store = first.bytes.clone();
                store[0] = 0xc7;
                store[1] &= 0xc7;
                store.extend(value.to_le_bytes());
                self.code(&store);
                // Where it points must not change any more.
                let mem = insn.mem.map(|mem| [mem.base, mem.index]).unwrap_or_default();
                !mem.contains(&written[0])
            }
            _ => false,
        }
    }

    /// An encoding of a row that makes this handler.
    fn encode(&mut self, part: &Part) -> Option<Encoding> {
        let candidates = self.lines.families.get(&part.family)?;
        let base = part.operands.iter().find_map(|spec| spec.strip_prefix('b')?.parse::<u8>().ok());
        for _ in 0..TRIES {
            let (index, opsize16) = self.random.pick(candidates);
            let form = &FORMS[index];
            if part.condition.is_some_and(|condition| form.condition != Some(condition)) {
                continue;
            }
            let mut any = || self.random.pick(&[0, 1, 2, 3, 5, 6, 7]);
            let one = base.map_or_else(&mut any, |offset| offset / 4);
            let frame = Frame { bases: [one; 2], stack: false, index: any() };
            let options = Options {
                absolute: &[DATA + PAGE + 0x40, DATA + 2 * PAGE - 2],
                targets: &[],
                reach: [0; 2],
                exit: 0,
                frame: Some(frame),
                decorate: false,
            };
            let Some(mut encoding) = encode(index, 0, &options, self.random) else { continue };
            if part.operands.iter().any(|spec| spec == "m") {
                // What only the handlers of any memory do.
                encoding.bytes.insert(0, self.random.pick(&[FS, GS]));
                encoding.insn = decode(&encoding.bytes, 0).ok()?;
            }
            let insn = &encoding.insn;
            let operands = passed(form).zip(&part.operands).all(|(operand, spec)| fits(insn, operand, spec));
            if operands && insn.segment != Some(Seg::Cs) && insn.opsize16 == opsize16 && !insn.lock {
                return Some(encoding);
            }
        }
        None
    }
}

/// Whether the second instruction of a pair reads flags that the first one leaves otherwise on this processor.
fn passes_flags_on(first: &Insn, second: &Option<Second>) -> bool {
    let read = match second {
        Some(Second::Plain(second)) => second.insn.form().flags.reads,
        Some(Second::Branch(condition)) => CONDITIONS[usize::from(*condition)].reads,
        None => 0,
    };
    // If it faults they show, too.
    let may_fault = matches!(second, Some(Second::Plain(second)) if second.insn.mem.is_some() || second.insn.form().room == "stack");
    let differ = exempt::flags_that_differ(first.form());
    differ & read != 0 || may_fault && differ != 0
}

/// The second instruction of a pair.
enum Second {
    Plain(Encoding),
    /// A conditional branch.
    Branch(u8),
}
