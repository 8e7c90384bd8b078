//! The `routectl` program.

fn main() -> std::process::ExitCode {
    routectl::main()
}
