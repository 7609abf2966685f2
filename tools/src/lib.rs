//! The holdfast command, as a library so that the tests run the very same entry point.
/// Entry point of the `holdfast` command.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
