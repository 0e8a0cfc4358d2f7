//! Random programs: what writes flags, what reads them, what lies between, in one piece of code with branches, calls
//! and a loop around it all; or mostly instructions of vectors in place of those that write flags. They touch only memory that is theirs, unless they are meant to fault.

use crate::encode::{Encoding, Frame, MOST_INDEX, Options, encode};
use crate::exempt;
use crate::operands::status_flags;
use crate::oracle::{DATA, PAGE, STACK, State, WINDOW, flag};
use crate::random::Random;
use crate::vector;
use table86::isa::{Access, Code, FORMS, Flow, Form, Insn, Privilege, Size, decode};

pub const EAX: u8 = 0;
pub const ECX: u8 = 1;
const ESP: u8 = 4;
const ESI: u8 = 6;
pub const EDI: u8 = 7;

/// The counter of the loop around a program; nothing else is stored there.
const COUNTER: u32 = DATA + WINDOW - 0x40;
/// What LDMXCSR loads.
const MXCSR: u32 = COUNTER + 0x10;
/// Where absolute operands are.
pub const ABSOLUTE: [u32; 4] = [DATA + 0x20, DATA + 0x101, DATA + 2 * PAGE - 2, DATA + 3 * PAGE + 4];
/// Where a program that shall fault goes: across the end of memory, and where nothing is.
const BEYOND: [u32; 4] = [DATA + WINDOW - 1, DATA + WINDOW, DATA - 1, 0x40];

/// A piece of a program.
#[derive(Clone, Debug)]
pub enum Item {
    /// Code that can stand anywhere.
    Code(Vec<u8>),
    /// A place to go to.
    Label(u32),
    /// An opcode and the distance to a label, in one byte or four.
    Relative(Vec<u8>, bool, u32),
    /// An opcode and the address of a label.
    Absolute(Vec<u8>, u32),
}

/// A program and the state that it starts in.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its pieces in order.
    pub items: Vec<Item>,
    /// The state.
    pub state: State,
    /// Whether it stores into its own code.
    pub modifies: bool,
}

/// CMP of two registers with a prefix that means nothing, which nothing else here has before a CMP: it stands behind
/// instructions that leave flags otherwise on this processor.
const DEFINE: [u8; 2] = [0x3e, 0x39];

/// An instruction that defines all status flags.
pub fn define_flags(random: &mut Random) -> [u8; 3] {
    [DEFINE[0], DEFINE[1], 0xc0 | random.below(64) as u8]
}

/// Whether code begins with [`define_flags`]: the flags before it may be otherwise on this processor.
pub fn defines_flags(code: &[u8]) -> bool {
    code.starts_with(&DEFINE)
}

/// Mnemonics that read flags, or are near to those that do: chosen more often than the rest.
const READERS: [&str; 6] = ["adc", "sbb", "rcl", "rcr", "cmc", "lahf"];

/// Rows that programs are made of.
#[derive(Default)]
pub struct Rows {
    /// Whatever goes on behind itself and has only operands that its row shows.
    pub plain: Vec<usize>,
    /// Those that read flags.
    readers: Vec<usize>,
    /// PUSH and POP.
    stack: Vec<usize>,
    /// Those that only the kernel may execute.
    privileged: Vec<usize>,
    /// Those of vectors, if the programs shall have them.
    vectors: Vec<usize>,
}

impl Rows {
    /// Sorts the rows.
    pub fn choose() -> Rows {
        let mut rows = Rows::default();
        for (index, form) in FORMS.iter().enumerate() {
            let usable = exempt::is_comparable(form)
                && exempt::unverifiable(form).is_none()
                && form.privilege == Privilege::User
                && form.flow == Flow::Next;
            let of_cpu = ["cmpxchg8b", "cld", "std"].contains(&form.mnemonic);
            let is_value = matches!(form.room, "integer" | "shift" | "bit" | "bcd" | "flag")
                && (!form.takes_cpu || of_cpu);
            if usable && is_value {
                rows.plain.push(index);
                if form.condition.is_some() || READERS.contains(&form.mnemonic) {
                    rows.readers.push(index);
                }
            }
            if exempt::is_comparable(form) && form.privilege != Privilege::User && form.flow == Flow::Next {
                rows.privileged.push(index);
            }
            if usable && matches!(form.body, "push" | "push_segment" | "pop" | "pop_memory" | "pushf") {
                rows.stack.push(index);
            }
        }
        rows
    }

    /// The same with the rows of vectors.
    pub fn with_vectors() -> Rows {
        let wanted = |form: &Form| {
            vector::is_here(form)
                && exempt::is_comparable(form)
                && form.body != "ldmxcsr"
                && form.operands.iter().all(|operand| operand.code != Code::XEdi)
        };
        let vectors = FORMS.iter().enumerate().filter(|(_, form)| wanted(form)).map(|(index, _)| index);
        Rows { vectors: vectors.collect(), ..Rows::choose() }
    }
}

/// Writes programs.
pub struct Author<'a> {
    /// Chooses what is written.
    pub random: &'a mut Random,
    /// What is chosen from.
    pub rows: &'a Rows,
    /// Registers that have to stay.
    pub frame: Frame,
    /// What is written.
    pub items: Vec<Item>,
    labels: u32,
}

/// Makes a program of about `len` instructions.
pub fn write(rows: &Rows, len: u32, random: &mut Random) -> Program {
    write_one(rows, len, false, random)
}

/// Makes one that stores into its own code.
pub fn write_modifying(rows: &Rows, len: u32, random: &mut Random) -> Program {
    write_one(rows, len, true, random)
}

fn write_one(rows: &Rows, len: u32, modifies: bool, random: &mut Random) -> Program {
    let mut state = State::default();
    state.regs = [0; 8].map(|_: u32| random.operand());
    state.eflags = status_flags(random) & !flag::ID;
    let mut registers = [0, 1, 2, 3, 5, 6, 7];
    for end in (1..registers.len()).rev() {
        registers.swap(end, random.below(end as u32 + 1) as usize);
    }
    let [one, two, index, ..] = registers;
    state.regs[usize::from(one)] = DATA + PAGE + 0x20 + random.below(0x400);
    state.regs[usize::from(two)] = DATA + 2 * PAGE + random.below(0x200);
    state.regs[usize::from(index)] = random.below(MOST_INDEX + 1);
    state.regs[usize::from(ESP)] = STACK + WINDOW / 2 + (random.below(64) & !3);
    if !rows.vectors.is_empty() {
        for register in [one, two, index] {
            state.regs[usize::from(register)] &= !15;
        }
        vector::fill(&mut state, random);
    }
    let frame = Frame { bases: [one, two], stack: true, index };
    let mut author = Author { random, rows, frame, items: Vec::new(), labels: 0 };
    author.write(len, modifies);
    Program { items: author.items, state, modifies }
}

impl Author<'_> {
    /// A new label.
    pub fn label(&mut self) -> u32 {
        self.labels += 1;
        self.labels
    }

    /// Writes code.
    pub fn code(&mut self, bytes: &[u8]) {
        self.items.push(Item::Code(bytes.to_vec()));
    }

    fn write(&mut self, len: u32, modifies: bool) {
        let (top, end) = (self.label(), self.label());
        let functions: Vec<u32> = (0..self.random.below(3)).map(|_| self.label()).collect();
        let rounds = self.random.below(5) as u8;
        // mov dword [COUNTER], rounds + 1
        self.code(&[&[0xc7, 0x05][..], &COUNTER.to_le_bytes(), &[rounds + 1, 0, 0, 0]].concat());
        self.items.push(Item::Label(top));
        let fault = self.random.percent(15).then(|| self.random.below(len));
        let mut open: Vec<(u32, u32)> = Vec::new();
        let sites = if modifies { self.choose_sites() } else { Vec::new() };
        let places: Vec<u32> = sites.iter().map(|_| self.random.below(len)).collect();
        for at in 0..len {
            for (label, _) in open.extract_if(.., |(_, place)| *place <= at) {
                self.items.push(Item::Label(label));
            }
            if fault == Some(at) {
                self.faulting();
            }
            for (site, _) in sites.iter().zip(&places).filter(|(_, place)| **place == at) {
                self.write_site(*site);
            }
            match self.random.below(100) {
                95.. if modifies => self.modify(&sites),
                0..12 => {
                    let (short, label) = (self.random.percent(60), self.label());
                    open.push((label, at + 1 + self.random.below(if short { 7 } else { 30 })));
                    self.branch(short, label);
                }
                12..15 if !functions.is_empty() => self.call(&functions),
                15..17 => {
                    let label = self.label();
                    open.push((label, at + 1 + self.random.below(10)));
                    self.jump(label);
                }
                17..19 => self.pop_flags(),
                19..21 => self.string(),
                21..27 => self.instruction(&self.rows.stack),
                27..85 if !self.rows.vectors.is_empty() => self.vectors(),
                27..55 => self.instruction(&self.rows.readers),
                _ => self.instruction(&self.rows.plain),
            }
        }
        for (label, _) in open {
            self.items.push(Item::Label(label));
        }
        // dec dword [COUNTER]; jnz top; jmp end
        self.code(&[&[0xff, 0x0d][..], &COUNTER.to_le_bytes()].concat());
        self.items.push(Item::Relative(vec![0x0f, 0x85], true, top));
        self.items.push(Item::Relative(vec![0xe9], true, end));
        for function in functions {
            self.items.push(Item::Label(function));
            // What it returns to is at ESP.
            self.frame.stack = false;
            for _ in 0..self.random.below(8) {
                self.instruction(&self.rows.plain);
            }
            self.code(&[0xc3]);
        }
        self.items.push(Item::Label(end));
    }

    /// A conditional branch forward.
    fn branch(&mut self, short: bool, label: u32) {
        let condition = self.random.below(16) as u8;
        let count = short && !self.is_kept(ECX) && self.random.percent(15);
        let opcode = match (count, short) {
            (true, _) => vec![0xe0 + self.random.below(4) as u8],
            (_, true) => vec![0x70 + condition],
            (_, false) => vec![0x0f, 0x80 + condition],
        };
        self.items.push(Item::Relative(opcode, !short, label));
    }

    /// A jump forward: direct, by a register, or by RET.
    fn jump(&mut self, label: u32) {
        let register = self.free_register();
        match self.random.below(3) {
            0 => self.items.push(Item::Relative(vec![0xe9], true, label)),
            1 => {
                self.items.push(Item::Absolute(vec![0xb8 + register], label));
                self.code(&[0xff, 0xe0 + register]);
            }
            _ => {
                self.items.push(Item::Absolute(vec![0x68], label));
                self.code(&[0xc3]);
            }
        }
    }

    fn call(&mut self, functions: &[u32]) {
        let label = self.random.pick(functions);
        let register = self.free_register();
        if self.random.percent(60) {
            self.items.push(Item::Relative(vec![0xe8], true, label));
        } else {
            self.items.push(Item::Absolute(vec![0xb8 + register], label));
            self.code(&[0xff, 0xd0 + register]);
        }
    }

    /// PUSH of an image, POPFD of it.
    fn pop_flags(&mut self) {
        let image = self.random.word() & !(flag::TF | flag::NT | flag::AC);
        let mut code = vec![0x68];
        code.extend(image.to_le_bytes());
        code.push(0x9d);
        self.code(&code);
    }

    /// A string instruction between two places in memory.
    fn string(&mut self) {
        if self.is_string_kept() || self.is_kept(ESI) {
            return;
        }
        let mut code = Vec::new();
        for (register, value) in [
            (ESI, DATA + 3 * PAGE + self.random.below(0x800)),
            (EDI, DATA + 3 * PAGE + 0x400 + self.random.below(0x800)),
            (ECX, self.random.below(100)),
        ] {
            code.push(0xb8 + register);
            code.extend(value.to_le_bytes());
        }
        self.code(&code);
        let opcode = self.random.pick(&[0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf]);
        if self.is_kept(0) && matches!(opcode, 0xac | 0xad) {
            return;
        }
        let mut code = Vec::new();
        if self.random.percent(50) {
            code.push(self.random.pick(&[0xf2, 0xf3]));
        }
        if self.random.percent(20) {
            code.push(0x66);
        }
        code.push(opcode);
        self.code(&code);
    }

    /// Whether a string cannot be filled, as registers for it have to stay.
    pub fn is_string_kept(&self) -> bool {
        self.is_kept(ECX) || self.is_kept(EDI)
    }

    /// Whether a register has to stay.
    pub fn is_kept(&self, register: u8) -> bool {
        register == ESP || register == self.frame.index || self.frame.bases.contains(&register)
    }

    /// A register that may be written.
    pub fn free_register(&mut self) -> u8 {
        let free: Vec<u8> = (0..8).filter(|register| !self.is_kept(*register)).collect();
        self.random.pick(&free)
    }

    /// An instruction that faults: its memory operand is where nothing is, or it is the kernel's.
    fn faulting(&mut self) {
        loop {
            if self.random.percent(20) {
                let index = self.random.pick(&self.rows.privileged);
                if let Some(encoding) = self.encode(index, Some(self.frame), &ABSOLUTE) {
                    return self.code(&encoding.bytes);
                }
            }
            let index = self.random.pick(&self.rows.plain);
            // Some do not fault, as what they address is one byte, or near what a register points to.
            if exempt::differs_in_flags(&FORMS[index]) {
                continue;
            }
            if let Some(encoding) = self.encode(index, None, &BEYOND)
                && encoding.insn.mem.is_some_and(|mem| BEYOND.contains(&mem.disp))
                && self.is_harmless(&encoding.insn)
                && !exempt::differs_in_result(&encoding.insn)
            {
                return self.code(&encoding.bytes);
            }
        }
    }

    /// A row in bytes; operands are where `absolute` says or, with a frame, around its bases.
    pub fn encode(&mut self, index: usize, frame: Option<Frame>, absolute: &[u32]) -> Option<Encoding> {
        let options =
            Options { absolute, targets: &[], reach: [0; 2], exit: 0, frame, decorate: frame.is_some() };
        encode(index, 0, &options, self.random)
    }

    /// One of these rows.
    pub fn instruction(&mut self, rows: &[usize]) {
        loop {
            let index = self.random.pick(rows);
            // A division would end most programs.
            if !FORMS[index].exceptions.is_empty() && self.random.percent(97) {
                continue;
            }
            if let Some(encoding) = self.encode(index, Some(self.frame), &ABSOLUTE)
                && self.is_harmless(&encoding.insn)
                && (self.is_aligned(&encoding.insn) || self.random.below(500) == 0)
                && !exempt::differs_in_result(&encoding.insn)
            {
                let mut code = encoding.bytes;
                if exempt::differs_in_flags(encoding.insn.form()) {
                    code.extend(define_flags(self.random));
                }
                return self.code(&code);
            }
        }
    }

    /// A few instructions of vectors, or another MXCSR.
    fn vectors(&mut self) {
        if self.random.percent(3) {
            // mov dword [PLACE], mxcsr; ldmxcsr [PLACE]
            let mxcsr = vector::mxcsr(self.random);
            let place = MXCSR.to_le_bytes();
            self.code(&[&[0xc7, 0x05][..], &place, &mxcsr.to_le_bytes()].concat());
            self.code(&[&[0x0f, 0xae, 0x15][..], &place].concat());
        }
        for _ in 0..1 + self.random.below(6) {
            self.instruction(&self.rows.vectors);
        }
    }

    /// Whether a memory operand is aligned as its row wants it, for registers are multiples of 16 or nowhere near.
    fn is_aligned(&self, insn: &Insn) -> bool {
        let wants = vector::wants_alignment(insn.form());
        insn.mem.is_none_or(|mem| !wants || mem.disp.is_multiple_of(16) && mem.base != ESP)
    }

    /// Whether it writes none of the registers that have to stay, and uses no segment but the flat ones.
    pub fn is_harmless(&self, insn: &Insn) -> bool {
        let form = insn.form();
        let flat =
            insn.segment.is_none_or(|seg| !matches!(seg, table86::cpu::Seg::Fs | table86::cpu::Seg::Gs));
        let code = insn.segment == Some(table86::cpu::Seg::Cs);
        let implicit = match form.body {
            "cmpxchg8b" => [0, 2].iter().any(|register| self.is_kept(*register)),
            "pcmpestri" | "pcmpistri" => self.is_kept(ECX),
            _ => false,
        };
        flat && !code
            && !implicit
            && !insn.addr16
            && written_registers(form, insn).all(|register| !self.is_kept(register))
    }
}

/// Registers that operands name to be written.
pub fn written_registers<'a>(form: &'a Form, insn: &'a Insn) -> impl Iterator<Item = u8> + 'a {
    form.operands.iter().filter(|operand| matches!(operand.access, Access::W | Access::Rw)).filter_map(
        |operand| {
            let number = match operand.code {
                Code::E | Code::R if insn.mem.is_none() => insn.rm(),
                Code::G => insn.reg(),
                Code::Z => insn.low,
                Code::Reg(number) => number,
                _ => return None,
            };
            Some(if operand.size == Size::B { number & 3 } else { number })
        },
    )
}

impl Item {
    /// How many bytes it has.
    pub fn len_bytes(&self) -> usize {
        match self {
            Item::Code(bytes) => bytes.len(),
            Item::Label(_) => 0,
            Item::Relative(opcode, wide, _) => opcode.len() + if *wide { 4 } else { 1 },
            Item::Absolute(opcode, _) => opcode.len() + 4,
        }
    }

    /// Whether a program would not end without it.
    pub fn is_frame(&self) -> bool {
        match self {
            Item::Label(_) => true,
            Item::Code(bytes) => bytes.windows(4).any(|bytes| bytes == COUNTER.to_le_bytes()),
            Item::Relative(..) | Item::Absolute(..) => false,
        }
    }
}

impl Program {
    /// Whether it stores EFLAGS as they are.
    pub fn pushes_flags(&self) -> bool {
        let is_pushf = |bytes: &[u8]| decode(bytes, 0).is_ok_and(|insn| insn.form().body == "pushf");
        self.items.iter().any(|item| matches!(item, Item::Code(bytes) if is_pushf(bytes)))
    }

    /// The bytes of the program, if it stands at `at`. `None` when a short branch does not reach.
    pub fn assemble(&self, at: u32) -> Option<Vec<u8>> {
        let mut places = std::collections::HashMap::new();
        let mut end = 0;
        for item in &self.items {
            if let Item::Label(label) = item {
                places.insert(*label, end);
            }
            end += item.len_bytes();
        }
        let mut bytes = Vec::with_capacity(end);
        for item in &self.items {
            let behind = bytes.len() + item.len_bytes();
            match item {
                Item::Code(code) => bytes.extend(code),
                Item::Label(_) => {}
                Item::Relative(opcode, wide, label) => {
                    let distance = *places.get(label)? as i32 - behind as i32;
                    bytes.extend(opcode);
                    if *wide {
                        bytes.extend(distance.to_le_bytes());
                    } else {
                        bytes.push(i8::try_from(distance).ok()? as u8);
                    }
                }
                Item::Absolute(opcode, label) => {
                    bytes.extend(opcode);
                    bytes.extend((at + *places.get(label)? as u32).to_le_bytes());
                }
            }
        }
        Some(bytes)
    }
}
