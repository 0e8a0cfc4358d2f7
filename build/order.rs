//! Where functions stand in the program: those that each run uses come first, side by side.
//!
//! The kernel maps the program in windows of 64 KiB around each page that is touched. Scattered over five MiB, the start alone
//! would touch nearly all of them, and a small program would take two MiB more.

use crate::build::emit::handlers::COMMON_SECTION;
use std::path::Path;

/// The linker's arguments that put the functions of `list` (`build/startup.txt`) first; the script goes to `out`. None if another
/// linker than the usual ones is asked for, which may not know such scripts.
pub fn arguments(list: &str, out: &Path) -> std::io::Result<Option<String>> {
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let other =
        std::env::var_os("RUSTC_LINKER").is_some() || flags.contains("linker") || flags.contains("fuse-ld");
    if other {
        return Ok(None);
    }
    let path = out.join("order.ld");
    std::fs::write(&path, script(list))?;
    Ok(Some(format!("-Wl,-T,{}", path.display())))
}

/// A script that adds to the linker's own.
fn script(list: &str) -> String {
    let mut text = "SECTIONS\n{\n  .text.first :\n  {\n".to_owned();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        text += &match line.split_once(':') {
            Some(("libc.a", member)) => format!("    *libc.a:{member}(.text .text.*)\n"),
            Some(_) => continue,
            None => format!("    *(.text.{line} .text.unlikely.{line})\n"),
        };
    }
    text + &format!("    *({COMMON_SECTION})\n  }}\n}}\nINSERT BEFORE .text;\n")
}
