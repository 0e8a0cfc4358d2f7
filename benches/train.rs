//! Writes `opcodes/hot.txt`: the specialised handlers and pairs that pay, from a corpus of i386 programs.
//!
//! `cargo run --release --example train -- [--singles N] [--pairs N] [--x87 N] FILE…`; the list goes to stdout. The corpus must not contain
//! the benchmarks.

use goblin::elf::Elf;
use std::collections::HashMap;
use table86::Survey;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut singles, mut pairs, mut x87) = (1500, 1500, 200);
    let [mut single_weights, mut pair_weights, mut x87_weights] = std::array::from_fn(|_| Weights::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number =
            || arguments.next().ok_or("a number is missing")?.parse().map_err(|_| "not a number");
        match argument.as_str() {
            "--singles" => singles = number()?,
            "--pairs" => pairs = number()?,
            "--x87" => x87 = number()?,
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
                for (counts, weights) in [
                    (survey.singles, &mut single_weights),
                    (survey.pairs, &mut pair_weights),
                    (survey.x87, &mut x87_weights),
                ] {
                    for (text, count) in counts {
                        *weights.entry(text).or_insert(0.0) += count as f64 / total;
                    }
                }
            }
        }
    }
    println!("# Trained: `cargo run --release --example train`; see benches/train.rs. Most used first.");
    // The FPU's rows have one handler each; what two have in common is the stack, if it is not the host's.
    for weights in [&mut single_weights, &mut pair_weights] {
        weights.retain(|text, _| !text.split(" + ").any(is_x87));
    }
    print_best(&single_weights, singles, "handlers of one instruction, certain registers");
    print_best(&generalised(&single_weights, "r"), singles, "handlers of one instruction, any registers");
    // The second of two may get flags, which are the same for all registers; or values, which it only gets by a certain register.
    let (by_flags, by_value): (Weights, Weights) =
        pair_weights.into_iter().partition(|(text, _)| reads_flags(text));
    print_best(&by_value, pairs, "handlers of two, certain registers");
    print_best(&generalised(&by_flags, "r"), pairs, "handlers of two that pass flags, any registers");
    // A register of the stack may be a constant or a field of the op, which is for rows whose numbers are all alike.
    let certain = generalised(&x87_weights, "");
    print_best(&certain, x87, "handlers of two of the x87, in software, certain registers of its stack");
    print_best(
        &generalised(&x87_weights, "-"),
        x87,
        "handlers of two of the x87, in software, any registers",
    );
    let expressions = expressions();
    println!("# {} handlers of two of the x87 of which compilers make expressions", expressions.len());
    expressions.iter().for_each(|text| println!("{text}"));
    Ok(())
}

/// What inner loops of numeric programs consist of, which are few in a corpus: elements of arrays loaded, computed with, and stored.
fn expressions() -> Vec<String> {
    let arithmetic = ["fadd", "fsub", "fsubr", "fmul", "fdiv", "fdivr"];
    let mut pairs = Vec::new();
    for (bits, scale) in [(32, "s2"), (64, "s3")] {
        for place in ["b", "s0", scale] {
            for name in arithmetic {
                for register in ["r1", "-"] {
                    pairs.push(format!("fld_real_{bits}_a {place} + {name}_n {register}"));
                }
                pairs.push(format!("fld_real_{bits}_a {place} + {name}_real_{bits}_a {place}"));
                pairs.push(format!("{name}_real_{bits}_a {place} + fstp_real_{bits}_a {place}"));
            }
            for name in ["faddp", "fsubp", "fsubrp", "fmulp", "fdivp", "fdivrp"] {
                pairs.push(format!("{name}_n r1 + fstp_real_{bits}_a {place}"));
            }
        }
    }
    pairs
}

/// Handlers' texts and how much each weighs.
type Weights = HashMap<String, f64>;

/// Whether a handler is one of the FPU's: their names, and no others, begin so.
fn is_x87(text: &str) -> bool {
    text.starts_with('f')
}

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

/// The weights of handlers of any base and index in place of certain ones, and of `register` in place of a certain one, unless
/// that is empty.
fn generalised(weights: &Weights, register: &str) -> Weights {
    let word = |word: &str| match word.as_bytes() {
        [b'r', digit, ..] if digit.is_ascii_digit() && !register.is_empty() => register.to_owned(),
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
