//! How the programs are linked.

fn main() {
    // The places that a position-independent program has corrected at its start, as a bit map in place of a table of
    // 24 octets each: three quarters of a megabyte that every daemon would map. glibc 2.36 and later read it.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    println!("cargo:rerun-if-changed=build.rs");
}
