//! Writes `opcodes/hot.txt`: the specialised handlers and pairs that pay, from a corpus of i386 programs.
//!
//! `cargo run --release --example train -- [--singles N] [--pairs N] FILE…`; the list goes to stdout. The corpus must not contain
//! the benchmarks.

use goblin::elf::Elf;
use std::collections::HashMap;
use table86::Survey;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut singles, mut pairs) = (1500, 1500);
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
    // The FPU's rows have one handler each, and nothing in common that two could pass.
    for weights in [&mut single_weights, &mut pair_weights] {
        weights.retain(|text, _| !text.split(" + ").any(|part| part.starts_with('f')));
    }
    print_best(&single_weights, singles, "handlers of one instruction, certain registers");
    print_best(&generalised(&single_weights), singles, "handlers of one instruction, any registers");
    // The second of two may get flags, which are the same for all registers; or values, which it only gets by a certain register.
    let (by_flags, by_value): (Weights, Weights) =
        pair_weights.into_iter().partition(|(text, _)| reads_flags(text));
    print_best(&by_value, pairs, "handlers of two, certain registers");
    print_best(&generalised(&by_flags), pairs, "handlers of two that pass flags, any registers");
    Ok(())
}

/// Handlers' texts and how much each weighs.
type Weights = HashMap<String, f64>;

/// Whether the second of two depends on flags.
fn reads_flags(pair: &str) -> bool {
    let second = pair.split_once(" + ").map_or("", |(_, second)| second);
    second.contains(" cc=") || ["adc", "sbb", "rcl", "rcr"].iter().any(|name| second.starts_with(name))
}

fn print_best(weights: &Weights, limit: usize, what: &str) {
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
}

/// The weights of handlers of any register, base and index in place of certain ones.
fn generalised(weights: &Weights) -> Weights {
    let word = |word: &str| match word.as_bytes() {
        [b'r', digit, ..] if digit.is_ascii_digit() => "r".to_owned(),
        [b'b', digit, ..] if digit.is_ascii_digit() => "b".to_owned(),
        // The upper two bits of what follows `x` are the scale.
        [b'x', ..] => word[1..].parse().map_or(word.to_owned(), |which: u8| format!("s{}", which >> 6)),
        _ => word.to_owned(),
    };
    let mut general = Weights::new();
    for (text, weight) in weights {
        let words: Vec<String> = text.split(' ').map(word).collect();
        *general.entry(words.join(" ")).or_insert(0.0) += weight;
    }
    general
}
