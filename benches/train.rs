//! Writes `opcodes/hot.txt`: the specialised handlers and pairs that pay, from a corpus of i386 programs.
//!
//! `cargo run --release --example train -- [--singles N] [--pairs N] FILE…`; the list goes to stdout. The corpus must not contain
//! the benchmarks.

use goblin::elf::Elf;
use std::collections::HashMap;
use table86::Survey;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut singles, mut pairs) = (3500, 2000);
    let (mut single_weights, mut pair_weights) = (HashMap::new(), HashMap::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number =
            || arguments.next().ok_or("a number is missing")?.parse().map_err(|_| "not a number");
        match argument.as_str() {
            "--singles" => singles = number()?,
            "--pairs" => pairs = number()?,
            file => {
                let bytes = std::fs::read(file)?;
                let mut survey = Survey::default();
                let elf = Elf::parse(&bytes)?;
                for section in elf.section_headers.iter().filter(|section| section.is_executable()) {
                    if let Some(text) = section.file_range().and_then(|range| bytes.get(range)) {
                        survey.add(text, 0x1_0000_u32.wrapping_add(section.sh_addr as u32))?;
                    }
                }
                eprintln!("{file}: {} singles, {} pairs", survey.singles.len(), survey.pairs.len());
                // Each file counts the same, whatever its size.
                let total = survey.singles.values().sum::<u64>() as f64;
                for (counts, weights) in
                    [(survey.singles, &mut single_weights), (survey.pairs, &mut pair_weights)]
                {
                    for (text, count) in counts {
                        *weights.entry(text).or_insert(0.0) += count as f64 / total;
                    }
                }
            }
        }
    }
    println!("# Trained: `cargo run --release --example train`; see benches/train.rs. Most used first.");
    print_best(&single_weights, singles, "handlers of one instruction");
    print_best(&pair_weights, pairs, "handlers of two");
    Ok(())
}

fn print_best(weights: &HashMap<String, f64>, limit: usize, what: &str) {
    let mut order: Vec<(&String, &f64)> = weights.iter().collect();
    order.sort_by(|one, two| two.1.total_cmp(one.1).then(one.0.cmp(two.0)));
    let total: f64 = weights.values().sum();
    let kept: f64 = order.iter().take(limit).map(|(_, weight)| **weight).sum();
    println!(
        "# {} {what}: {:.1}% of the corpus by weight",
        order.len().min(limit),
        100.0 * kept / total.max(1e-9)
    );
    for (text, _) in order.iter().take(limit) {
        println!("{text}");
    }
    // The rest is served by handlers of any register; those whose rest weighs most are made too.
    let mut general: HashMap<String, f64> = HashMap::new();
    for (text, weight) in order.into_iter().skip(limit).filter(|(text, _)| !text.contains(" + ")) {
        let text = generalised(text);
        *general.entry(text).or_insert(0.0) += *weight;
    }
    let mut order: Vec<(String, f64)> = general.into_iter().collect();
    order.sort_by(|one, two| two.1.total_cmp(&one.1).then(one.0.cmp(&two.0)));
    for (text, _) in order.into_iter().take(limit / 10) {
        println!("{text}");
    }
}

/// A handler's text with any register and any base in place of certain ones.
fn generalised(text: &str) -> String {
    let word = |word: &str| match word.as_bytes() {
        [b'r', digit, ..] if digit.is_ascii_digit() => "r".to_owned(),
        [b'b', digit, ..] if digit.is_ascii_digit() => "b".to_owned(),
        [b'x', digit, ..] if digit.is_ascii_digit() => "sib".to_owned(),
        _ => word.to_owned(),
    };
    let words: Vec<String> = text.split(' ').map(word).collect();
    words.join(" ")
}
