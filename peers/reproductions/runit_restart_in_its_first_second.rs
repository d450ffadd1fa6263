//! runit 2.1.2: within the second in which a service was started, `sv restart` says "ok" before
//! anything was restarted.
//!
//! No rule is about this. It is the reason why the adapter waits for another second before it
//! restarts. sv(8) says: "restart: Send the commands term, cont, and up to the service, and wait up
//! to 7 seconds for the service to restart. Then report the status or timeout."
//!
//! `sv` looks whether the service was started in the second of the command or later. If the service
//! was started in that second, but before the command, this is true already. The one exception is a
//! runsv that is so fast that the status says "got TERM" when `sv` looks first. The service here
//! ignores TERM, so nothing ever restarts it.
//!
//! It needs `runsv` and `sv` in PATH, and takes 2 s. It says:
//!
//! ```text
//! sv restart: ok: run: service: (pid 4711) 0s
//! sv status, 1 s later: run: service: (pid 4711) 1s, got TERM
//! expected: `sv restart` waits for another process, and says "timeout"
//! happened: it says "ok", and the process is the same
//! ```

use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A signal that the shell ignores stays ignored in the program that replaces the shell.
const RUN: &str = "#!/bin/sh
trap '' TERM
exec sleep 60
";

/// How often to try: runsv may once be faster than `sv`, or the second may once be over.
const TRIES: u32 = 5;

/// Runs `sv` and returns what it says.
fn sv(command: &str, service: &Path) -> Result<String, Box<dyn Error>> {
    let output = Command::new("sv").arg(command).arg(service).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    // The folder has a different name each time.
    Ok(said.trim().replace(&*service.to_string_lossy(), "service"))
}

/// Restarts a service that has just been started. Returns whether `sv` says "ok" and nothing was
/// restarted.
fn shows() -> Result<bool, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let service = folder.path();
    fs::write(service.join("run"), RUN)?;
    fs::set_permissions(service.join("run"), Permissions::from_mode(0o755))?;
    // real-time: the service is started at the beginning of a second.
    let parts = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    thread::sleep(Duration::from_secs(1) - Duration::from_nanos(parts.into()));
    let mut runsv = Command::new("runsv").arg(service).spawn()?;

    // real-time: only runsv's own files say when the service is up.
    let pid = || fs::read_to_string(service.join("supervise/pid")).unwrap_or_default();
    while pid().is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    // The shell must have the time to ignore the signal first.
    thread::sleep(Duration::from_millis(100));
    let before = pid();
    let said = sv("restart", service)?;
    println!("sv restart: {said}");
    thread::sleep(Duration::from_secs(1));
    println!("sv status, 1 s later: {}", sv("status", service)?);
    let shows = said.starts_with("ok: run:") && pid() == before;
    sv("exit", service)?;
    sv("kill", service)?;
    runsv.wait()?;
    Ok(shows)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut is_shown = false;
    for _ in 0..TRIES {
        is_shown = shows()?;
        if is_shown {
            break;
        }
    }
    println!("expected: `sv restart` waits for another process, and says \"timeout\"");
    if is_shown {
        println!("happened: it says \"ok\", and the process is the same");
        return Ok(ExitCode::SUCCESS);
    }
    println!("happened: just that");
    Ok(ExitCode::FAILURE)
}
