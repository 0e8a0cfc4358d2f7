//! The command line of qemu-i386, for binfmt_misc and for scripts written for it.

use super::run::Request;
use super::{Failure, OWN_ERROR, values};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use table86::kernel::strace::Settings;

const HELP: &str = "\
Runs an i386 program; called by a name with i386 in it, Table86 takes qemu-i386's options.

  -L DIR        look up absolute paths under DIR first
  -E NAME=VALUE set an environment variable (several with commas between)
  -U NAME       leave an environment variable away (several with commas between)
  -0 ARGV0      the program's argv[0]
  -s SIZE       size of the stack
  -cpu MODEL    the processor that CPUID describes
  -g PORT       wait for gdb on this port, or on a socket of this name
  -strace       show system calls, those of children too
  -h, -version  show this text, the version

`table86 --help` has the other command line.";

/// Parses the arguments behind `argv[0]` and runs the program.
pub(super) fn run(called_as: &OsStr, arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let mut arguments = arguments.collect::<Vec<_>>().into_iter();
    let name = PathBuf::from(called_as);
    let name = name.file_name().unwrap_or_default().display().to_string();
    let bad = |text: String| Failure::new(OWN_ERROR, format!("{name}: {text}; try -h"));
    let mut request = Request { host_path: true, ..Request::default() };
    if let Some(prefix) = std::env::var_os("QEMU_LD_PREFIX") {
        request.kernel.sysroot = Some(prefix.into());
    }
    let mut argv0 = None;
    let program = loop {
        let Some(argument) = arguments.next() else { return Err(bad("no program given".to_owned())) };
        let Some(option) = argument.as_bytes().strip_prefix(b"-").filter(|option| !option.is_empty()) else {
            break argument;
        };
        let option = String::from_utf8_lossy(option.strip_prefix(b"-").unwrap_or(option)).into_owned();
        let mut value = || arguments.next().ok_or_else(|| bad(format!("option -{option} needs a value")));
        match option.as_str() {
            "h" | "help" => {
                println!("{HELP}");
                return Ok(());
            }
            "version" => {
                println!("{name} (Table86) {}", env!("CARGO_PKG_VERSION"));
                return Ok(());
            }
            "L" => request.kernel.sysroot = Some(value()?.into()),
            "E" => {
                for text in split(&value()?) {
                    let pair = values::assignment(text).map_err(|error| bad(format!("-E: {error}")))?;
                    request.set.push(pair);
                }
            }
            "U" => request.unset.extend(split(&value()?)),
            "0" => argv0 = Some(value()?),
            "s" => {
                let text = value()?;
                let bytes = values::memory_size(&text.to_string_lossy())
                    .map_err(|error| bad(format!("-s: {error}")))?;
                request.loader.stack_bytes = Some(u32::try_from(bytes).unwrap_or(u32::MAX));
            }
            "cpu" => request.kernel.cpu = Some(value()?.to_string_lossy().into_owned()),
            "g" => {
                let text = value()?;
                let Ok(address) = text.to_string_lossy().parse();
                request.gdb = Some(address);
            }
            "strace" => request.kernel.strace = Some(Settings { follow: true, ..Settings::default() }),
            "" => break value()?,
            _ => return Err(bad(format!("unknown option {}", argument.display()))),
        }
    };
    let mut argv: Vec<OsString> = arguments.collect();
    if table86::loader::keeps_argv0() && !argv.is_empty() {
        // binfmt_misc with flag P: what follows the path is all that the program is to get.
    } else {
        argv.insert(0, program.clone());
    }
    if let Some(argv0) = argv0 {
        argv[0] = argv0;
    }
    request.program = program;
    request.argv = argv;
    request.execute()
}

/// The parts of a list with commas.
fn split(text: &OsStr) -> Vec<OsString> {
    text.as_bytes().split(|&byte| byte == b',').map(os_string).collect()
}

fn os_string(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}
