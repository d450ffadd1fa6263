//! Compiles the stub by calling rustc, so that the library can carry it as a path and as bytes.
//! Cargo does not hand the program of a dependency to the crate that depends on it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// The variable that a user sets who wants no program to be built.
const SKIP: &str = "SUPERVISE_AGENT_STUB_SKIP_BUILD";

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-env-changed={SKIP}");
    println!("cargo::rerun-if-env-changed=DOCS_RS");
    // On other systems compiling the library fails with an error that says why. A second error from
    // here would hide that one.
    if variable("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }
    let program = PathBuf::from(variable("OUT_DIR")).join("agent-stub");
    println!("cargo::rustc-env=AGENT_STUB_PROGRAM={}", program.display());
    if env::var_os("DOCS_RS").is_some() || env::var_os(SKIP).is_some() {
        write(&program, &[]);
        return;
    }
    // A static program without relocation starts fastest. Not every target can link one.
    let kinds: [&[&str]; 3] = [
        &[
            "-C",
            "target-feature=+crt-static",
            "-C",
            "relocation-model=static",
        ],
        &["-C", "target-feature=+crt-static"],
        &[],
    ];
    let mut errors = String::new();
    for kind in kinds {
        match compile(&program, kind) {
            Ok(()) => return,
            Err(error) => errors.push_str(&error),
        }
    }
    fail(&format!(
        "cannot build the agent stub with rustc, neither static nor dynamic; set {SKIP}=1 to build without it\n{errors}"
    ));
}

fn compile(program: &Path, kind: &[&str]) -> Result<(), String> {
    let mut command = Command::new(variable("RUSTC"));
    command
        .args([
            "--edition=2024",
            "--crate-name=agent_stub",
            "--crate-type=bin",
            "--cap-lints=allow",
        ])
        .args([
            "-C",
            "opt-level=s",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
            "-C",
            "codegen-units=1",
        ])
        .arg("--target")
        .arg(variable("TARGET"))
        .args(kind)
        .arg("-o")
        .arg(program)
        .arg(Path::new("src").join("main.rs"));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("linker=");
        option.push(linker);
        command.arg("-C").arg(option);
    }
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}\n"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}\n{}\n",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}

fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| fail(&format!("cargo has not set {name}")))
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes)
        .unwrap_or_else(|error| fail(&format!("write {}: {error}", path.display())));
}

fn fail(error: &str) -> ! {
    eprintln!("{error}");
    exit(1);
}
