//! Compiles what `routectl guest` loads into User-Mode Linux.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// See there.
const REGISTERS: &str = "preload/registers.rs";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={REGISTERS}");
    let library = PathBuf::from(variable("OUT_DIR")).join("registers.so");
    let target = variable("TARGET");
    if target.starts_with("x86_64-") && target.contains("linux") {
        compile(&target, &library);
    } else {
        // User-Mode Linux is of x86 alone.
        std::fs::write(&library, []).expect("OUT_DIR to be writable");
    }
}

fn compile(target: &str, library: &Path) {
    let mut compiler = Command::new(variable("RUSTC"));
    compiler.args(["--crate-name", "registers", "--crate-type", "cdylib", "--edition", "2024"]);
    compiler.args(["--target", target, "-C", "opt-level=s", "-C", "panic=abort", "-C", "strip=symbols"]);
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        compiler.arg("-C").arg(format!("linker={linker}"));
    }
    let status = compiler.arg("-o").arg(library).arg(REGISTERS).status().expect("the compiler to run");
    assert!(status.success(), "{REGISTERS} does not compile");
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}
