//! The linker options of both programs.

fn main() {
    // Relative relocations as a bit map in place of a table of 24 octets each: that table is three quarters of a
    // megabyte, which every daemon would map. glibc 2.36 and later reads it.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    println!("cargo:rerun-if-changed=../link.rs");
}
