//! Turns the tables into code; see `build/`.

#[path = "build/mod.rs"]
mod build;
#[path = "build/order.rs"]
mod order;

use std::path::Path;

fn main() {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    let (root, out) = (Path::new(&root), Path::new(&out));
    for path in ["build.rs", "build", "opcodes", "src/cpu/insn", "src/kernel/syscalls.toml"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for cfg in ["tail_calls", "trap_memory"] {
        println!("cargo::rustc-check-cfg=cfg({cfg})");
    }
    // Sibling calls are only certain in optimised code; otherwise handlers return to a loop.
    if std::env::var("PROFILE").as_deref() == Ok("release") {
        println!("cargo::rustc-cfg=tail_calls");
    }
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("ARCH") == "x86_64"
        && target("OS") == "linux"
        && std::env::var_os("CARGO_FEATURE_PORTABLE").is_none()
    {
        println!("cargo::rustc-cfg=trap_memory");
    }
    let input = build::Input::read(root);
    // Some ten thousand addresses of handlers are in the tables. At a fixed address the linker knows them all; else each start
    // of the program would write every one of them, which costs more than a short program takes.
    if target("OS") == "linux" {
        if target("FEATURE").split(',').any(|feature| feature == "crt-static") {
            println!("cargo::rustc-link-arg-bins=-static");
        }
        println!("cargo::rustc-link-arg-bins=-no-pie");
        // The list is of functions of this target.
        if target("ARCH") == "x86_64" && std::env::var("PROFILE").as_deref() == Ok("release") {
            let list = input.as_ref().map_or("", |input| &input.startup);
            match order::arguments(list, out) {
                Ok(argument) => argument.iter().for_each(|it| println!("cargo::rustc-link-arg-bins={it}")),
                Err(error) => println!("cargo::warning=functions keep the order that they have: {error}"),
            }
        }
    }
    let input = match input {
        Ok(mut input) => {
            if std::env::var("PROFILE").as_deref() != Ok("release") {
                // Enough of each kind to be tested; all of them would take minutes to build for nothing.
                input.hot = build::emit::hot::sample(&input.hot);
            }
            input
        }
        Err(error) => return println!("cargo::error=the tables cannot be read: {error}"),
    };
    match build::generate(&input) {
        Ok(output) => {
            let files = [
                ("forms.rs", &output.forms),
                ("facts.rs", &output.facts),
                ("decode.rs", &output.decode),
                ("handlers.rs", &output.handlers),
                ("features.rs", &output.features),
                ("MAP.txt", &output.map),
                ("syscalls.rs", &output.syscalls),
            ];
            for (name, text) in files {
                std::fs::write(out.join(name), text).expect("OUT_DIR can be written");
            }
        }
        Err(report) => {
            for line in report.render().lines() {
                println!("cargo::error={line}");
            }
        }
    }
}
