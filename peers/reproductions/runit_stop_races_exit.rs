//! runit 2.1.2: a service that is stopped within the second after it died, and then started, stays
//! down.
//!
//! The rule is `stop-races-exit`. sv(8) says: "start: Same as up, but wait up to 7 seconds for the
//! command to take effect", and "up: If the service is not running, start it."
//!
//! runsv(8) waits a second before it restarts a service that exited immediately. While it waits it
//! reads no command, and the status that it wrote before still wants the service up. So this
//! happens:
//!
//! - `sv stop` sends the command down, finds the service down and returns.
//! - `sv start` finds that the service is wanted up already, and sends nothing.
//! - runsv reads the only command that it was sent: down.
//!
//! It needs `runsv` and `sv` in PATH, and takes about 8 s. It says:
//!
//! ```text
//! the service has died
//! sv stop, 0 s: ok: down: service: 0s, normally up, want up
//! sv start, 7 s: timeout: down: service: 7s, normally up
//! sv status, 0 s: down: service: 7s, normally up
//! sv exit, 0 s:
//! expected: the service is started, and `sv start` says so
//! happened: it stays down
//! ```

use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

/// Dies at once when it is first run, and then stays.
const RUN: &str = "#!/bin/sh
if [ -e second ]; then exec sleep 60; fi
touch second
exit 1
";

/// Runs `sv`, prints what it says and how long it took, and returns whether it succeeded.
fn sv(command: &str, service: &Path) -> Result<bool, Box<dyn Error>> {
    let start = Instant::now();
    let output = Command::new("sv").arg(command).arg(service).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    // The folder has a different name each time.
    let said = said.trim().replace(&*service.to_string_lossy(), "service");
    let seconds = start.elapsed().as_secs();
    println!(
        "{}",
        format!("sv {command}, {seconds} s: {said}").trim_end()
    );
    Ok(output.status.success())
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let service = folder.path();
    fs::write(service.join("run"), RUN)?;
    fs::set_permissions(service.join("run"), Permissions::from_mode(0o755))?;
    let mut runsv = Command::new("runsv").arg(service).spawn()?;

    // real-time: only runsv's own file says when the service has died.
    let stat = service.join("supervise/stat");
    let died = || {
        service.join("second").exists()
            && fs::read_to_string(&stat).is_ok_and(|stat| stat.starts_with("down"))
    };
    while !died() {
        thread::sleep(Duration::from_millis(5));
    }
    println!("the service has died");
    sv("stop", service)?;
    let started = sv("start", service)?;
    sv("status", service)?;
    sv("exit", service)?;
    runsv.wait()?;

    println!("expected: the service is started, and `sv start` says so");
    if started {
        println!("happened: just that");
        return Ok(ExitCode::FAILURE);
    }
    println!("happened: it stays down");
    Ok(ExitCode::SUCCESS)
}
