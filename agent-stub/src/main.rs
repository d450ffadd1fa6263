//! The controllable child process of `supervise-harness`. `agent-stub --help` says what it can do.
//!
//! The library's build script compiles this file with rustc, as a crate of its own. So the modules
//! that this program shares with the library are compiled once more here.

// The runtime of a plain Rust `main` would change what this process inherited before our code could
// look at it: it ignores SIGPIPE and opens standard streams that were closed.
#![no_main]
// This program uses only a part of the shared modules; the library uses the rest.
#![allow(dead_code, unreachable_pub)]

// A module imports only from modules above it.
mod signal;

mod quoted;

mod variables;

mod limits;

mod script;

mod line;

mod hygiene;

mod protocol;

mod sys;

mod complaint;

mod inherited;

mod connection;

mod options;

mod descendant;

mod watch;

mod writing;

mod frame;

mod agent;

mod trapped;

mod perform;

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

use complaint::complain;
use options::Request;

/// The exit code for bad options, for a script that cannot be parsed, and for a control connection
/// that cannot be made: EX_USAGE of sysexits(3).
const USAGE: i32 = 64;

/// The entry point, which the C library calls.
///
/// # Safety
///
/// `argv` is a C program's argument vector: `argc` pointers to strings that nobody changes or
/// frees.
// SAFETY: there is one `main` in a program, and this is it.
#[unsafe(no_mangle)]
unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let inherited = inherited::Inherited::take();
    // SAFETY: both arguments are what the C library passed to `main`.
    let args = unsafe { arguments(argc, argv) };
    match options::read(args.into_iter().skip(1), std::env::vars_os()) {
        Ok(Request::Help) => tell(&help()),
        Ok(Request::Version) => tell(concat!("agent-stub ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Request::Run(options)) => match options.guarded {
            Some(frozen) => {
                descendant::guard(frozen, options.lifetime);
                0
            }
            None => agent::Agent::new(*options, inherited)
                .map_or_else(|error| usage(&error), agent::Agent::live),
        },
        Err(error) => usage(&error.to_string()),
    }
}

/// Returns the arguments, the program's name first. std cannot give them here: it gets them from
/// its own `main`, or from a C library that passes them to initialisers, which musl does not.
///
/// # Safety
///
/// As for [`main`].
unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    let count = usize::try_from(argc).unwrap_or(0);
    (0..count)
        .map(|n| {
            // SAFETY: the vector has `argc` elements, each a string that ends with a NUL byte.
            let argument = unsafe { CStr::from_ptr(*argv.add(n)) };
            OsStr::from_bytes(argument.to_bytes()).to_owned()
        })
        .collect()
}

fn usage(error: &str) -> c_int {
    complain(error);
    USAGE
}

/// Writes the text to standard output. Returns the exit code: 0, or 1 if a write fails.
fn tell(text: &str) -> c_int {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match sys::write_to(1, rest) {
            Ok(written) => rest = &rest[written..],
            Err(_) => return 1,
        }
    }
    0
}

fn help() -> String {
    format!("{}\n{}", include_str!("help.txt"), script::TABLE)
}
