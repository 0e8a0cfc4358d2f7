//! Writes `opcodes/hot.txt`: the specialised handlers and pairs that pay, from a corpus of i386 programs.
//!
//! `cargo run --release --example train -- [--singles N] [--pairs N] FILE…`; the list goes to stdout. The corpus must not contain
//! the benchmarks.

use goblin::elf::Elf;
use std::collections::HashMap;
use table86::Survey;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut singles, mut pairs) = (3500, 2000);
    let mut survey = Survey::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().ok_or("a number is missing")?.parse().map_err(|_| "not a number");
        match argument.as_str() {
            "--singles" => singles = number()?,
            "--pairs" => pairs = number()?,
            file => {
                let bytes = std::fs::read(file)?;
                let elf = Elf::parse(&bytes)?;
                for section in elf.section_headers.iter().filter(|section| section.is_executable()) {
                    if let Some(text) = section.file_range().and_then(|range| bytes.get(range)) {
                        survey.add(text, 0x1_0000_u32.wrapping_add(section.sh_addr as u32))?;
                    }
                }
                eprintln!("{file}: {} singles, {} pairs", survey.singles.len(), survey.pairs.len());
            }
        }
    }
    println!("# Trained: `cargo run --release --example train`; see benches/train.rs. Most used first.");
    print_best(&survey.singles, singles, "handlers of one instruction");
    print_best(&survey.pairs, pairs, "handlers of two");
    Ok(())
}

fn print_best(counts: &HashMap<String, u64>, limit: usize, what: &str) {
    let mut order: Vec<(&String, &u64)> = counts.iter().collect();
    order.sort_by(|one, two| two.1.cmp(one.1).then(one.0.cmp(two.0)));
    let total: u64 = counts.values().sum();
    let kept: u64 = order.iter().take(limit).map(|(_, count)| **count).sum();
    println!("# {} {what}: {:.1}% of the corpus by weight", order.len().min(limit), 100.0 * kept as f64 / total.max(1) as f64);
    for (text, _) in order.into_iter().take(limit) {
        println!("{text}");
    }
}
