//! The stack that a program finds, compared with the one that the host's kernel gives the same program.
//!
//! The program writes its stack, from ESP to the end of the address space, to standard output. Where the host does not
//! run i386 programs there is nothing to compare with; the loader's own tests look at the stack then.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const END: u32 = 0xffff_e000;

/// Tags whose values are the kernel's own affair: features, addresses of the vDSO, randomness, what newer kernels add.
const OWN_AFFAIR: [u32; 8] = [16, 25, 26, 27, 28, 32, 33, 51];

/// Writes [esp, END) to standard output, then exits.
fn program() -> Vec<u8> {
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let halves = |halves: &[u16]| -> Vec<u8> { halves.iter().flat_map(|half| half.to_le_bytes()).collect() };
    let code = [
        &[0x89, 0xe1][..],               // mov ecx, esp
        &[0xba, 0x00, 0xe0, 0xff, 0xff], // mov edx, 0xffffe000
        &[0x29, 0xca],                   // sub edx, ecx
        &[0xbb, 1, 0, 0, 0],             // mov ebx, 1
        &[0xb8, 4, 0, 0, 0],             // mov eax, 4
        &[0xcd, 0x80],                   // int 0x80
        &[0x31, 0xdb],                   // xor ebx, ebx
        &[0xb8, 1, 0, 0, 0],             // mov eax, 1
        &[0xcd, 0x80],                   // int 0x80
    ]
    .concat();
    let headers = 52 + 2 * 32;
    let len = headers + code.len() as u32;
    [
        b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        halves(&[2, 3]),
        words(&[1, 0x0804_8000 + headers, 52, 0, 0]),
        halves(&[52, 32, 2, 40, 0, 0]),
        words(&[1, 0, 0x0804_8000, 0x0804_8000, len, len, 5, 0x1000]),
        words(&[0x6474_e551, 0, 0, 0, 0, 0, 6, 16]),
        code,
    ]
    .concat()
}

/// A dumped stack, taken apart.
#[derive(Debug, PartialEq)]
struct Stack {
    esp: u32,
    argv: Vec<(u32, String)>,
    environment: Vec<(u32, String)>,
    /// Tags and values, but [`OWN_AFFAIR`].
    auxv: Vec<(u32, u32)>,
    exec_name: String,
    platform: String,
    random_aligned: bool,
}

impl Stack {
    fn new(bytes: &[u8]) -> Stack {
        let esp = END - bytes.len() as u32;
        let word = |addr: u32| {
            let at = (addr - esp) as usize;
            u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
        };
        let string = |addr: u32| {
            let text = bytes[(addr - esp) as usize..].split(|&byte| byte == 0).next().expect("a string");
            String::from_utf8(text.to_vec()).expect("UTF-8")
        };
        let mut at = esp + 4;
        let mut list = || {
            let mut list = Vec::new();
            while word(at) != 0 {
                list.push((word(at), string(word(at))));
                at += 4;
            }
            at += 4;
            list
        };
        let (argv, environment) = (list(), list());
        assert_eq!(word(esp) as usize, argv.len());
        let mut auxv = Vec::new();
        while word(at) != 0 {
            auxv.push((word(at), word(at + 4)));
            at += 8;
        }
        let value = |tag| auxv.iter().find(|pair| pair.0 == tag).map(|pair| pair.1).expect("there");
        let (exec_name, platform) = (string(value(31)), string(value(15)));
        // Random bytes are there, right below the platform's name.
        let random_aligned = value(25) + 16 == value(15);
        auxv.retain(|pair| !OWN_AFFAIR.contains(&pair.0));
        Stack { esp, argv, environment, auxv, exec_name, platform, random_aligned }
    }
}

/// Runs `command` without randomised addresses, with a small environment; gives what it writes.
fn output(mut command: Command) -> Option<Vec<u8>> {
    command.env_clear().envs([("A", "1"), ("LONGER", "some text")]);
    // SAFETY: personality(2) is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| {
            libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
            Ok(())
        });
    }
    let output = command.output().ok()?;
    output.status.success().then_some(output.stdout).filter(|bytes| !bytes.is_empty())
}

fn compare(program: &Path, arguments: &[&str]) {
    let mut native = Command::new(program);
    native.args(arguments);
    let Some(native) = output(native) else { return };
    let mut ours = Command::new(env!("CARGO_BIN_EXE_table86"));
    ours.arg("run").arg(program).args(arguments);
    let ours = Stack::new(&output(ours).expect("runs"));
    let native = Stack::new(&native);
    // Newer kernels have more tags, so ESP may be lower, by a multiple of 16 bytes.
    assert_eq!(ours.esp % 16, native.esp % 16);
    assert_eq!(ours, Stack { esp: ours.esp, ..native });
}

#[test]
fn the_stack_is_what_the_kernel_would_have_made() {
    let path: PathBuf = std::env::temp_dir().join(format!("table86-stack-{}", std::process::id()));
    std::fs::write(&path, program()).expect("file");
    let mut permissions = std::fs::metadata(&path).expect("there").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(&path, permissions).expect("permissions");
    for arguments in
        [&[][..], &["one"], &["one", "", "two words", "a longer one, which moves all that is below"]]
    {
        compare(&path, arguments);
    }
    let _ = std::fs::remove_file(&path);
}
