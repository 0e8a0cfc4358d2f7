//! The command line: scripts in `tests/cli/*.test`, each line's first character saying what it is.
//!
//! ```text
//! # a comment, which names what follows
//! @ NAME text …          a file; \n and \xHH are replaced
//! @ NAME hex BYTES…      a file
//! @ NAME elf AT=BYTES…   a small program with bytes replaced: offsets and bytes in hexadecimal
//! @ NAME directory
//! $ ARGUMENTS            runs table86 in a directory with these files; 'A B' is one argument
//! % NAME ARGUMENTS       the same, called by another name
//! < TEXT                 a line of standard input
//! > TEXT                 a line of standard output
//! ! TEXT                 a line of standard error
//! ? STATUS               the exit status, or the signal as SIG9
//! ```
//! Where nothing is said, nothing is expected, and status 0. A line `> …` or `! …` stands for any lines from there on.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// exit(42), with the headers that a program needs: 96 bytes at 0x10000.
fn small_program() -> Vec<u8> {
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let halves = |halves: &[u16]| -> Vec<u8> { halves.iter().flat_map(|half| half.to_le_bytes()).collect() };
    [
        b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        halves(&[2, 3]),
        words(&[1, 0x1_0054, 52, 0, 0]),
        halves(&[52, 32, 1, 40, 0, 0]),
        words(&[1, 0, 0x1_0000, 0x1_0000, 96, 96, 5, 0x1000]),
        // mov ebx, 42; mov eax, 1; int 0x80
        vec![0xbb, 42, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0xcd, 0x80],
    ]
    .concat()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("bad hex: {text}"))).collect()
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        if let Some(digits) = rest.strip_prefix('x') {
            bytes.extend(hex(&digits[..2]));
            rest = &digits[2..];
        } else {
            bytes.push(b'\n');
            rest = &rest[1..];
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// Makes the file that a line `@ NAME KIND CONTENTS` describes.
fn make_file(directory: &Path, line: &str) {
    let (name, description) = line.split_once(' ').expect("a name and a kind");
    let (kind, contents) = description.split_once(' ').unwrap_or((description, ""));
    let path = directory.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("directory");
    }
    let bytes = match kind {
        "text" => text(contents),
        "hex" => hex(contents),
        "elf" => {
            let mut bytes = small_program();
            for change in contents.split_whitespace() {
                let (at, new) = change.split_once('=').expect("AT=BYTES");
                let at = usize::from_str_radix(at, 16).expect("an offset");
                let new = hex(new);
                bytes.resize(bytes.len().max(at + new.len()), 0);
                bytes[at..at + new.len()].copy_from_slice(&new);
            }
            bytes
        }
        "directory" => return fs::create_dir_all(&path).expect("directory"),
        _ => panic!("unknown kind of file: {line}"),
    };
    fs::write(&path, bytes).expect("file");
}

/// Words, those in single quotes as one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// One run and what is expected of it.
#[derive(Default)]
struct Case {
    /// `argv[0]`, if not our own name.
    called_as: String,
    arguments: Vec<String>,
    input: String,
    output: Vec<String>,
    errors: Vec<String>,
    status: String,
    line: usize,
}

impl Case {
    /// Runs it; gives what differs.
    fn check(&self, directory: &Path) -> Option<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_table86"));
        command.args(&self.arguments).current_dir(directory);
        if !self.called_as.is_empty() {
            command.arg0(&self.called_as);
        }
        command.env_clear().env("PATH", directory.join("bin")).env("COLUMNS", "100");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("table86 starts");
        // A program that does not read its input is none of our concern.
        let _ = child.stdin.take().expect("a pipe").write_all(self.input.as_bytes());
        let output = child.wait_with_output().expect("table86 ends");
        let status = match (output.status.code(), output.status.signal()) {
            (Some(code), _) => code.to_string(),
            (None, signal) => format!("SIG{}", signal.unwrap_or_default()),
        };
        let mut difference = String::new();
        let expected = if self.status.is_empty() { "0" } else { &self.status };
        if status != expected {
            let _ = writeln!(difference, "status {status} instead of {expected}");
        }
        for (mark, expected, bytes) in
            [('>', &self.output, &output.stdout), ('!', &self.errors, &output.stderr)]
        {
            let shown = String::from_utf8_lossy(bytes);
            let lines: Vec<&str> = shown.lines().collect();
            let (exact, open) = match expected.iter().position(|line| line == "…") {
                Some(at) => (&expected[..at], true),
                None => (&expected[..], false),
            };
            let same = lines.len() >= exact.len()
                && lines.iter().zip(exact).all(|(line, expected)| line == expected);
            if !same || (!open && lines.len() > exact.len()) {
                let shown: Vec<String> = lines.iter().take(40).map(|line| format!("{mark} {line}")).collect();
                let _ = writeln!(difference, "got:\n{}", shown.join("\n"));
            }
        }
        (!difference.is_empty()).then_some(difference)
    }
}

fn cases(script: &str, directory: &Path) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (index, line) in script.lines().enumerate() {
        let (mark, rest) = line.split_at(line.len().min(1));
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        match mark {
            "" | "#" => continue,
            "@" => {
                make_file(directory, rest);
                continue;
            }
            "$" => {
                cases.push(Case { arguments: words(rest), line: index + 1, ..Case::default() });
                continue;
            }
            "%" => {
                let mut arguments = words(rest);
                let called_as = arguments.remove(0);
                cases.push(Case { called_as, arguments, line: index + 1, ..Case::default() });
                continue;
            }
            _ => {}
        }
        let case = cases.last_mut().unwrap_or_else(|| panic!("line {}: no run yet", index + 1));
        match mark {
            "<" => case.input = case.input.clone() + rest + "\n",
            ">" => case.output.push(rest.to_owned()),
            "!" => case.errors.push(rest.to_owned()),
            "?" => case.status = rest.to_owned(),
            _ => panic!("line {}: {line}", index + 1),
        }
    }
    cases
}

fn run_script(name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let directory: PathBuf = std::env::temp_dir().join(format!("table86-cli-{}-{name}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    let script = fs::read_to_string(root.join(name)).expect("the script");
    let mut failures = String::new();
    for case in cases(&script, &directory) {
        if let Some(difference) = case.check(&directory) {
            let _ = writeln!(
                failures,
                "{name}:{}: table86 {}\n{difference}",
                case.line,
                case.arguments.join(" ")
            );
        }
    }
    let _ = fs::remove_dir_all(&directory);
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn bad_input_is_named_and_has_its_status() {
    run_script("bad-input.test");
}

#[test]
fn programs_run_with_what_they_are_given() {
    run_script("run.test");
}

#[test]
fn tables_and_code_can_be_looked_at() {
    run_script("look.test");
}

#[test]
fn settings_of_ours_can_be_compared() {
    run_script("check.test");
}

#[test]
fn system_calls_are_shown_as_strace_shows_them() {
    run_script("strace.test");
}

#[test]
fn instructions_are_shown_with_what_they_do() {
    run_script("trace.test");
}

#[test]
fn each_subcommand_shows_examples_in_its_help() {
    let run = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_table86")).args(arguments).output().expect("table86 starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let help = run(&["--help"]);
    let (_, list) = help.split_once("Commands:\n").expect("a list of commands");
    // What goes on in a second line is indented further.
    let lines = list.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
    let names = lines.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.filter(|name| *name != "help").collect();
    assert!(names.contains(&"run") && names.contains(&"man"), "{names:?}");
    for name in names {
        let help = run(&[name, "--help"]);
        assert!(help.contains("Examples:") && help.contains(&format!("table86 {name}")), "{name}");
        // However the subcommand is parsed.
        assert_eq!(help, run(&["help", name]), "{name}");
    }
}

#[test]
fn completions_and_manual_pages_name_the_subcommands() {
    let directory = std::env::temp_dir().join(format!("table86-man-{}", std::process::id()));
    let run = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_table86")).args(arguments).output().expect("table86 starts");
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).contains("audit"), "{shell}");
    }
    assert!(run(&["man"]).contains(".SH"));
    run(&["man", directory.to_str().expect("UTF-8")]);
    for page in ["table86.1", "table86-run.1", "table86-audit.1"] {
        let text = fs::read_to_string(directory.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains("Examples:"), "{page}");
    }
    let _ = fs::remove_dir_all(&directory);
}
