//! The node and the tool under test: the same entry points as `holdfast` and `holdfast-server`, built with the tests so that
//! they can start it as a real process.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    if std::env::var_os(holdfast_tests::process::DIE_WITH_STDIN).is_some() {
        std::thread::spawn(|| {
            let end = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            eprintln!("the test process is gone ({end:?}), and so is this node");
            std::process::abort();
        });
    }
    holdfast_tools::main()
}
