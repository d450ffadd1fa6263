//! runit: `runsv` with a service directory, told what to do by `sv`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use supervise_harness::conformance::{Session, Subject, SubjectError};
use supervise_harness::rules::{
    CrashFate, Daemonizer, DelayCurve, DelayOrigin, Environment, OwnGroup, Profile, Rest, Service,
    Setting, StopReturn, StopScope, Time,
};
use supervise_harness::{RestartPolicy, Signal};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// How long runsv waits.
const DELAY: Duration = Duration::from_secs(1);

/// What a stop is told to wait. `sv` takes whole seconds.
const GRACE: Duration = Duration::from_secs(2);

/// How long what is told may take, in seconds: what `sv` waits unless it is told otherwise.
const PATIENCE: u64 = 7;

/// runit's `runsv`, one for each service.
#[derive(Clone, Debug)]
pub struct Runit {
    /// Where `runsv` and `sv` are.
    programs: PathBuf,
    /// Where the directories of the services are. It is gone with the last of this: a `runsv` writes
    /// to its own until it has ended, which a session does not wait for.
    services: Arc<TempDir>,
}

/// A running `runsv`, and its service directory.
#[derive(Debug)]
pub struct RunitSession {
    runsv: Child,
    sv: PathBuf,
    directory: PathBuf,
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
        Ok(Runit {
            programs,
            services: Arc::new(tempfile::tempdir()?),
        })
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
            // So that a run of one or two of them ends immediately, as runsv has it, and one of
            // five does not.
            unit: Duration::from_millis(400),
            // sv(8) looks every 420 ms whether what it was told has come about, and runsv waits from
            // the end of a run, however long that took.
            tolerance: Duration::from_millis(900),
        };
        // runsv(8): "If ./run exits [..] runsv restarts ./run"; where it cannot start it, too.
        profile.policy = Setting::Fixed(RestartPolicy::Always);
        profile.retries_failed_starts = true;
        // runsv(8): "If ./run [..] exit immediately, runsv waits a second". Immediately is within a
        // second of its start: what ran longer is started at once.
        profile.delays = Setting::Fixed(DelayCurve::constant(DELAY));
        profile.delay_origin = DelayOrigin::LastStart;
        // runsv(8), "d": "send it a TERM signal, and then a CONT signal".
        profile.stop_signal = Setting::Fixed(Signal::TERM);
        profile.wakes_frozen = true;
        // sv(8), "force-stop": it waits for so many seconds, and "on timeout send the service the
        // kill command".
        profile.grace = Setting::Fixed(GRACE);
        profile.stop = Some(StopReturn::Reaped);
        // It is the service, the process that runsv started, that signals are sent to.
        profile.stop_scope = Some(StopScope::Process);
        // runsvdir(8), "-P": only with it is there a group for each runsv, and none for a service.
        profile.own_group = Some(OwnGroup::None);
        // The FAQ: "service daemons must not put themself into the background".
        profile.daemonizer = Some(Daemonizer::Exit);
        profile.start = true;
        profile.restart = true;
        // Of a second stop, of a start during a restart, and of what a run leaves it says nothing.
        // "Clean process state" is the same one at each start, not an empty one: no descriptors, no
        // clears_mask, no resets_dispositions.
        profile.environment = Some(Environment::Inherited);
        // The run script sees to these two.
        profile.current_dir = true;
        profile.output = true;
        profile.own_process = true;
        // Nothing says so, and that is what happens: the service is in its own hands then.
        profile.crash_fate = Some(CrashFate::Survives);
        // "unable to lock supervise/lock: temporarily unavailable". The lock is runsv's alone: one that
        // is begun after a crash starts a second copy, so no no_duplicates.
        profile.refuses_second = true;
        profile
    }

    async fn start(&self, service: &Service) -> Result<RunitSession, SubjectError> {
        let directory = match &service.state {
            Some(state) => state.clone(),
            None => tempfile::tempdir_in(self.services.path())?.keep(),
        };
        let run = directory.join("run");
        // A second runsv finds it there.
        if !run.exists() {
            write_program(&run, &script(service)).await?;
        }
        let mut runsv = Command::new(self.programs.join("runsv"));
        runsv
            .arg(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: between fork and exec it makes one system call, and nothing else.
        unsafe {
            // A test that is killed drops nothing: it ends with the thread that started it.
            runsv.pre_exec(|| Ok(set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?));
        }
        let runsv = runsv.spawn()?;
        let mut session = RunitSession {
            runsv,
            sv: self.programs.join("sv"),
            directory,
        };
        session.wait_for_control().await?;
        Ok(session)
    }

    async fn start_apart(&self, service: &Service) -> Result<RunitSession, SubjectError> {
        self.start(service).await
    }
}

/// Writes it in a process of its own: a descriptor of this one that writes could be in what another
/// thread forks, and what is open for writing cannot be executed.
async fn write_program(path: &Path, text: &OsStr) -> io::Result<()> {
    let status = Command::new("/bin/sh")
        .args(["-c", r#"printf %s "$1" > "$0" && chmod +x "$0""#])
        .args([path.as_os_str(), text])
        .status()
        .await?;
    if status.success() {
        Ok(())
    } else {
        let text = format!("cannot write `{}`: sh: {status}", path.display());
        Err(io::Error::other(text))
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
        &self.directory
    }

    /// Waits until runsv has opened the last of the pipes by which it is controlled, and so has the
    /// lock. Another's may be there from the beginning.
    async fn wait_for_control(&mut self) -> Result<(), SubjectError> {
        // real-time: runsv says nothing when it is there.
        loop {
            if let Some(status) = self.runsv.try_wait()? {
                return Err(SubjectError::new(format!("runsv has ended: {status}")));
            }
            let opened = self.runsv.id().map(|pid| format!("/proc/{pid}/fd"));
            let opened = opened.and_then(|path| fs::read_dir(path).ok());
            let mut opened = opened.into_iter().flatten().flatten();
            let is_ok = |path: PathBuf| path.ends_with("supervise/ok");
            if opened.any(|entry| fs::read_link(entry.path()).is_ok_and(is_ok)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether what was told has come about within so many seconds.
    async fn sv(&self, seconds: u64, command: &str) -> Result<bool, SubjectError> {
        let output = Command::new(&self.sv)
            .args(["-w", &seconds.to_string(), command])
            .arg(self.path())
            .stdin(Stdio::null())
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        // sv(8): the exit code counts services, those that it waited for in vain, too.
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) if said.starts_with("timeout:") || said.starts_with("kill:") => Ok(false),
            _ => Err(SubjectError::new(format!("sv {command}: {said}"))),
        }
    }

    /// Waits until `sv` can tell that the service was restarted: it compares whole seconds. Where the
    /// run began in this one, it says "ok" to a restart before anything has happened
    /// (reproductions/runit_restart_in_its_first_second.rs).
    async fn wait_for_another_second(&self) -> Result<(), SubjectError> {
        // Each is another file, and is empty while the service is down: then there is no such run.
        let pid = fs::File::open(self.path().join("supervise/pid"))?.metadata()?;
        if pid.len() == 0 {
            return Ok(());
        }
        // The clock of files is a few milliseconds behind.
        let begun = pid.modified()? + Duration::from_millis(10);
        let seconds = begun.duration_since(UNIX_EPOCH)?.as_secs();
        let next = UNIX_EPOCH + Duration::from_secs(seconds + 1);
        // real-time: it is the machine's second.
        if let Ok(left) = next.duration_since(SystemTime::now()) {
            tokio::time::sleep(left).await;
        }
        Ok(())
    }

    /// Waits for as long as it takes.
    async fn carried_out(&self, command: &str) -> Result<(), SubjectError> {
        if self.sv(PATIENCE, command).await? {
            Ok(())
        } else {
            let text = format!("sv {command}: not within {PATIENCE} s");
            Err(SubjectError::new(text))
        }
    }
}

impl Drop for RunitSession {
    fn drop(&mut self) {
        // runsv(8), "SIGNALS": on TERM it stops its service, and exits. It would wait for one that
        // does not stop, which is the sim's to end.
        if let Some(pid) = self.runsv.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
    }
}

impl Session for RunitSession {
    async fn stop(&self) -> Result<(), SubjectError> {
        // Where it was killed, `sv` has not waited for its end.
        if self.sv(GRACE.as_secs(), "force-stop").await? {
            return Ok(());
        }
        self.carried_out("down").await
    }

    async fn outcome(&self) -> Rest {
        std::future::pending().await
    }

    async fn restart(&self) -> Result<(), SubjectError> {
        self.wait_for_another_second().await?;
        if self.sv(GRACE.as_secs(), "force-restart").await? {
            return Ok(());
        }
        self.carried_out("start").await
    }

    async fn start(&self) -> Result<(), SubjectError> {
        self.carried_out("start").await
    }

    fn process(&self) -> Option<u32> {
        self.runsv.id()
    }
}
