//! The process whose power is cut: recovers the directory it is given, then writes until it is killed, printing a line for
//! everything it knows to be durable. With a second argument, `starts`, it only opens the directory again and again.
//!
//! With POWER_CUT_SKIP_SYNC set to `<call>:<text>`, calls of fdatasync, fsync or both (`sync`) are skipped for files whose path
//! contains that text, in this process and by this program alone: that is how the test shows that it would notice.

#![expect(
    unsafe_code,
    reason = "defines fsync and fdatasync for this one test program, so that a sabotage needs no code in the product"
)]

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use holdfast_tests::durable_world::{Ack, World, start_for_ever};

struct Skip {
    fdatasync: bool,
    fsync: bool,
    text: String,
}

static SKIP: OnceLock<Skip> = OnceLock::new();

fn skip_of(setting: &str) -> Option<Skip> {
    let (call, text) = setting.split_once(':')?;
    let (fdatasync, fsync) = (call != "fsync", call != "fdatasync");
    Some(Skip { fdatasync, fsync, text: text.to_owned() })
}

fn sync(descriptor: libc::c_int, call: libc::c_long, is_skipped: impl Fn(&Skip) -> bool) -> libc::c_int {
    let path = || std::fs::read_link(format!("/proc/self/fd/{descriptor}")).unwrap_or_default();
    if SKIP.get().is_some_and(|skip| is_skipped(skip) && path().to_string_lossy().contains(&skip.text)) {
        return 0;
    }
    // SAFETY: the kernel takes any number for a descriptor and touches no memory of ours.
    unsafe { libc::syscall(call, descriptor) as libc::c_int }
}

/// The C library's fdatasync, replaced in this program.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(descriptor: libc::c_int) -> libc::c_int {
    sync(descriptor, libc::SYS_fdatasync, |skip| skip.fdatasync)
}

/// The C library's fsync, replaced in this program.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(descriptor: libc::c_int) -> libc::c_int {
    sync(descriptor, libc::SYS_fsync, |skip| skip.fsync)
}

fn main() -> ExitCode {
    let Some(root) = std::env::args_os().nth(1) else {
        eprintln!("which directory?");
        return ExitCode::FAILURE;
    };
    if let Ok(setting) = std::env::var("POWER_CUT_SKIP_SYNC") {
        let Some(skip) = skip_of(&setting) else {
            eprintln!("POWER_CUT_SKIP_SYNC is <call>:<text>");
            return ExitCode::FAILURE;
        };
        SKIP.get_or_init(|| skip);
    }
    let on_ack = |ack: Ack| {
        // One write(2) for a line; a reader that is gone ends the program.
        let line = format!("{ack}\n");
        if std::io::stdout().lock().write_all(line.as_bytes()).is_err() {
            std::process::exit(1);
        }
    };
    let root = Path::new(&root);
    let outcome = if std::env::args().nth(2).is_some_and(|mode| mode == "starts") {
        start_for_ever(root, on_ack)
    } else {
        World::recover(root).and_then(|world| world.write_for_ever(on_ack))
    };
    if let Err(error) = outcome {
        eprintln!("power-cut-writer: {error:#}");
    }
    ExitCode::FAILURE
}
