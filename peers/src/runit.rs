//! runit: `runsv` with a service directory, told what to do by `sv`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use supervise_harness::conformance::{Session, Subject, SubjectError};
use supervise_harness::rules::{
    DelayCurve, Environment, OwnGroup, Profile, Rest, Service, Setting, StopReturn, StopScope, Time,
};
use supervise_harness::{RestartPolicy, Signal};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// runit's `runsv`, one for each service.
#[derive(Clone, Debug)]
pub struct Runit {
    /// Where `runsv` and `sv` are.
    programs: PathBuf,
}

/// A running `runsv`, and its service directory.
#[derive(Debug)]
pub struct RunitSession {
    runsv: Child,
    sv: PathBuf,
    directory: TempDir,
}

impl Runit {
    /// The one in that folder, which has `runsv` and `sv`.
    ///
    /// # Errors
    ///
    /// Where one of them is missing.
    pub fn in_folder(programs: impl Into<PathBuf>) -> io::Result<Runit> {
        let programs = programs.into();
        for name in ["runsv", "sv"] {
            fs::metadata(programs.join(name))?;
        }
        Ok(Runit { programs })
    }

    /// The one in `PATH`; `None` where there is none.
    #[must_use]
    pub fn find() -> Option<Runit> {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find_map(|folder| Runit::in_folder(folder).ok())
    }
}

impl Subject for Runit {
    type Session = RunitSession;

    fn profile(&self) -> Profile {
        let mut profile = Profile::new("runit 2.1.2");
        profile.time = Time::Real {
            unit: Duration::from_millis(100),
            tolerance: Duration::from_millis(500),
        };
        profile.policy = Setting::Fixed(RestartPolicy::Always);
        // runsv(8): it waits a second where the service ran for less.
        profile.delays = Setting::Fixed(DelayCurve::constant(Duration::from_secs(1)));
        profile.stop_signal = Setting::Fixed(Signal::TERM);
        // sv(8): down waits for nothing by itself; `-w` waits for so many seconds.
        profile.stop = Some(StopReturn::Reaped);
        profile.stop_scope = Some(StopScope::Process);
        profile.own_group = Some(OwnGroup::None);
        profile.start = true;
        profile.restart = true;
        profile.environment = Some(Environment::Inherited);
        profile.output = true;
        profile
    }

    async fn start(&self, service: &Service) -> Result<RunitSession, SubjectError> {
        let directory = tempfile::tempdir()?;
        let run = directory.path().join("run");
        fs::write(&run, script(service).into_vec())?;
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755))?;
        let runsv = Command::new(self.programs.join("runsv"))
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let session = RunitSession {
            runsv,
            sv: self.programs.join("sv"),
            directory,
        };
        // It makes the pipe that it is controlled by, and is not there before.
        session.wait_for_control().await;
        Ok(session)
    }
}

/// The run script: the shell replaces itself with the service.
fn script(service: &Service) -> OsString {
    let mut text = OsString::from("#!/bin/sh\n");
    if let Some(directory) = &service.current_dir {
        text.push("cd ");
        text.push(quoted(directory.as_os_str().as_bytes()));
        text.push(" || exit 111\n");
    }
    for (key, value) in &service.env {
        text.push("export ");
        text.push(key);
        text.push("=");
        text.push(quoted(value.as_bytes()));
        text.push("\n");
    }
    text.push("exec ");
    text.push(quoted(service.program.as_os_str().as_bytes()));
    for argument in &service.args {
        text.push(" ");
        text.push(quoted(argument.as_bytes()));
    }
    if let Some(output) = &service.output {
        text.push(" >>");
        text.push(quoted(output.as_os_str().as_bytes()));
        text.push(" 2>&1");
    }
    text.push("\n");
    text
}

/// For the shell.
fn quoted(text: &[u8]) -> OsString {
    let mut quoted = vec![b'\''];
    for byte in text {
        match byte {
            b'\'' => quoted.extend(b"'\\''"),
            other => quoted.push(*other),
        }
    }
    quoted.push(b'\'');
    OsString::from_vec(quoted)
}

impl RunitSession {
    fn path(&self) -> &Path {
        self.directory.path()
    }

    async fn wait_for_control(&self) {
        // real-time: runsv says nothing when it is there.
        while !self.path().join("supervise/ok").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn sv(&self, command: &str) -> Result<(), SubjectError> {
        let output = Command::new(&self.sv)
            .args(["-w", "60", command])
            .arg(self.path())
            .stdin(Stdio::null())
            .output()
            .await?;
        if output.status.success() {
            Ok(())
        } else {
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Err(SubjectError::new(format!("sv {command}: {said}")))
        }
    }
}

impl Drop for RunitSession {
    fn drop(&mut self) {
        // It is killed with the child's handle; what it ran belongs to the sim.
        let _ = self.runsv.start_kill();
    }
}

impl Session for RunitSession {
    async fn stop(&self) -> Result<(), SubjectError> {
        self.sv("stop").await
    }

    async fn outcome(&self) -> Rest {
        std::future::pending().await
    }

    async fn restart(&self) -> Result<(), SubjectError> {
        self.sv("restart").await
    }

    async fn start(&self) -> Result<(), SubjectError> {
        self.sv("start").await
    }
}
