//! The `routectl` program.

fn main() -> std::process::ExitCode {
    cli::ctl::main()
}
