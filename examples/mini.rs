use goblin::elf::Elf;
use std::sync::Arc;
use table86::memory::{MapRequest, Place, Prot};
use table86::{Machine, Memory, Stop, FaultKind};
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let bytes = std::fs::read(&args[0]).unwrap();
    let elf = Elf::parse(&bytes).unwrap();
    let memory = Arc::new(Memory::new().unwrap());
    for ph in &elf.program_headers { if ph.p_type == 1 {
        let start = ph.p_vaddr as u32 & !0xfff; let end = (ph.p_vaddr + ph.p_memsz + 0xfff) as u32 & !0xfff;
        memory.map(&MapRequest::anonymous(Place::Fixed(start), end-start, Prot::from_bits(ph.p_flags >> 2 & 1 | ph.p_flags & 2 | (ph.p_flags & 1) << 2 | 2))).unwrap();
        memory.write_bytes(ph.p_vaddr as u32, &bytes[ph.p_offset as usize..(ph.p_offset+ph.p_filesz) as usize]).unwrap();
    }}
    let stack = 0xff00_0000u32;
    memory.map(&MapRequest::anonymous(Place::Fixed(stack), 0x100000, Prot::READ | Prot::WRITE)).unwrap();
    let mut m = if std::env::var("GENERIC").is_ok() { Machine::generic(memory.clone()).unwrap() } else { Machine::new(memory.clone()).unwrap() };
    let esp = stack + 0xff000;
    memory.write_bytes(esp + 0x100, b"prog\0").unwrap();
    let mut w = vec![args.len() as u32, esp + 0x100];
    let mut at = esp + 0x200;
    for a in &args[1..] { memory.write_bytes(at, a.as_bytes()).unwrap(); w.push(at); at += 0x40; }
    w.push(0); w.push(0); w.push(0); w.push(0);
    for (i, v) in w.iter().enumerate() { memory.write_bytes(esp + 4*i as u32, &v.to_le_bytes()).unwrap(); }
    m.cpu.regs[4] = esp; m.cpu.eip = elf.entry as u32;
    let t = std::time::Instant::now();
    loop {
        match m.run(u64::MAX / 2) {
            Stop::Exception(f) if f.kind == FaultKind::Int => match m.cpu.regs[0] {
                4 => { let mut b = vec![0; m.cpu.regs[2] as usize]; memory.read_bytes(m.cpu.regs[1], &mut b).unwrap(); use std::io::Write; std::io::stdout().write_all(&b).unwrap(); m.cpu.regs[0] = b.len() as u32; }
                1 | 252 => { let s = t.elapsed().as_secs_f64(); eprintln!("{} insns {:.3} s {:.0} MIPS", m.cpu.instructions(), s, m.cpu.instructions() as f64 / s / 1e6); std::process::exit(m.cpu.regs[3] as i32) }
                n => { eprintln!("syscall {n}"); m.cpu.regs[0] = -38i32 as u32; }
            },
            s => { eprintln!("{s:?} eip {:x} regs {:x?} cr2 {:x}", m.cpu.eip, m.cpu.regs, m.cpu.cr2); std::process::exit(99) }
        }
    }
}
