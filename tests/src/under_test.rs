//! The node and the tool under test: the same entry points as `holdfast` and `holdfast-server`, built with the tests so that
//! they can start it as a real process.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    holdfast_tools::main()
}
