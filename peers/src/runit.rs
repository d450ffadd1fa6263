//! The adapter for runit: `runsv` with a service directory, which `sv` tells what to do.

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
use supervise_harness::Signal;
use supervise_harness::conformance::{Session, Subject, SubjectError};
use supervise_harness::rules::FailedStarts;
use supervise_harness::rules::Tolerance;
use supervise_harness::rules::{
    CrashFate, Daemonizer, DelayCurve, DelayOrigin, Environment, OwnGroup, Profile, RestReason,
    Service, Setting, StopReturn, StopScope, Time,
};
use supervise_harness::supervisor::RestartPolicy;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// How long runsv waits before it restarts a run that exited immediately.
const DELAY: Duration = Duration::from_secs(1);

/// The grace that `sv` is given for a stop. `sv` takes whole seconds.
const GRACE: Duration = Duration::from_secs(2);

/// How many seconds runsv may take for a command. `sv` waits this long unless it is told otherwise.
const PATIENCE: u64 = 7;

/// runit's `runsv`, one for each service.
#[derive(Clone, Debug)]
pub struct Runit {
    /// The folder that has `runsv` and `sv`.
    programs: PathBuf,
    /// The folder that has the directories of the services. It is removed with the last clone of
    /// this `Runit`, not with a session: a `runsv` writes to its directory until it has ended, and
    /// a session does not wait for that.
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
    /// Uses the `runsv` and `sv` in this folder.
    ///
    /// # Errors
    ///
    /// If one of them is missing, or if no temporary folder can be made.
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

    /// Finds `runsv` and `sv` in `PATH`. Returns `None` if no folder there has both.
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
            // A run of one or two units then ends "immediately", as runsv calls it, and a run of
            // five units does not.
            unit: Duration::from_millis(400),
            // sv(8): `sv` looks every 420 ms whether a command was carried out. And runsv waits
            // from the end of a run, however long the run took.
            tolerance: Tolerance::of(Duration::from_millis(900)),
        };
        // runsv(8): "If ./run exits [..] runsv restarts ./run". It does so, too, if it cannot start
        // ./run.
        profile.restarts.policy = Setting::Fixed(RestartPolicy::Always);
        profile.restarts.failed_starts = FailedStarts::AsCrashes;
        // runsv(8): "If ./run [..] exit immediately, runsv waits a second". Immediately means
        // within a second of the start. What ran longer is started again at once.
        profile.delay.curve = Setting::Fixed(DelayCurve::constant(DELAY));
        profile.delay.origin = DelayOrigin::LastStart;
        // runsv(8), "d": "send it a TERM signal, and then a CONT signal".
        profile.stopping.signal = Setting::Fixed(Signal::TERM);
        profile.stopping.wakes_frozen = true;
        // sv(8), "force-stop": `sv` waits for so many seconds, and "on timeout send the service the
        // kill command".
        profile.stopping.grace = Setting::Fixed(GRACE);
        profile.stopping.returns = Some(StopReturn::Reaped);
        // Signals are sent to the service, which is the process that runsv started.
        profile.stopping.scope = Some(StopScope::Process);
        // runsvdir(8), "-P": only this option makes a process group for each runsv. Nothing makes
        // one for a service.
        profile.child.own_group = Some(OwnGroup::None);
        // The FAQ: "service daemons must not put themself into the background".
        profile.child.daemonizer = Some(Daemonizer::Exit);
        profile.control.start = true;
        profile.control.restart = true;
        // The documentation says nothing of a second stop, of a start during a restart, or of what
        // a run leaves behind. Its "clean process state" is the same state at each start, not an
        // empty one: no descriptors, no clears_mask, no resets_dispositions.
        profile.child.environment = Some(Environment::Inherited);
        // The run script does these two.
        profile.child.current_dir = true;
        profile.child.output = true;
        profile.process.of_its_own = true;
        // The documentation does not say so, but this is what happens: the service runs on without
        // a runsv.
        profile.process.crash_fate = Some(CrashFate::Survives);
        // "unable to lock supervise/lock: temporarily unavailable". But only runsv itself holds the
        // lock. A runsv that is begun after a crash starts a second copy of the service: no
        // no_duplicates.
        profile.process.refuses_second = true;
        profile
    }

    async fn start(&self, service: &Service) -> Result<RunitSession, SubjectError> {
        let directory = match &service.state {
            Some(state) => state.clone(),
            None => tempfile::tempdir_in(self.services.path())?.keep(),
        };
        let run = directory.join("run");
        // A second runsv of this service finds the script there.
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
            // A test that is killed drops no session. So runsv is told to stop when the thread that
            // started it ends.
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

/// Writes the program, and does so in a process of its own. If this process opened the file for
/// writing, a child that another thread forks could hold the descriptor, and a file that is open
/// for writing cannot be executed.
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

/// Makes the run script, whose shell replaces itself with the service.
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

/// Quotes the text for the shell.
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

    /// Waits until this runsv has opened the last of the pipes by which it is controlled. By then
    /// it holds the lock. The pipe itself may have been there from the beginning, made by another
    /// runsv.
    async fn wait_for_control(&mut self) -> Result<(), SubjectError> {
        // real-time: runsv does not say when it is ready.
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

    /// Runs `sv` with the command. Returns whether the command was carried out within so many
    /// seconds.
    async fn sv(&self, seconds: u64, command: &str) -> Result<bool, SubjectError> {
        let output = Command::new(&self.sv)
            .args(["-w", &seconds.to_string(), command])
            .arg(self.path())
            .stdin(Stdio::null())
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        // sv(8): the exit code counts the services that failed. `sv` counts one for which it waited
        // in vain, too.
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) if said.starts_with("timeout:") || said.starts_with("kill:") => Ok(false),
            _ => Err(SubjectError::new(format!("sv {command}: {said}"))),
        }
    }

    /// Waits until the second in which the run began is over. `sv` compares whole seconds: in that
    /// second it says "ok" to a restart before anything has happened
    /// (reproductions/runit_restart_in_its_first_second.rs).
    async fn wait_for_another_second(&self) -> Result<(), SubjectError> {
        // Each run has a new file. It is empty while the service is down; then there is no run to
        // wait for.
        let pid = fs::File::open(self.path().join("supervise/pid"))?.metadata()?;
        if pid.len() == 0 {
            return Ok(());
        }
        // The clock that stamps files is a few milliseconds behind.
        let begun = pid.modified()? + Duration::from_millis(10);
        let seconds = begun.duration_since(UNIX_EPOCH)?.as_secs();
        let next = UNIX_EPOCH + Duration::from_secs(seconds + 1);
        // real-time: `sv` counts the machine's seconds.
        if let Ok(left) = next.duration_since(SystemTime::now()) {
            tokio::time::sleep(left).await;
        }
        Ok(())
    }

    /// Sends the command and waits until it was carried out. Fails if that takes longer than
    /// `PATIENCE`.
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
        // runsv(8), "SIGNALS": on TERM runsv stops its service and exits. If the service does not
        // stop, runsv waits for it, and the sim ends the service.
        if let Some(pid) = self.runsv.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
    }
}

impl Session for RunitSession {
    async fn stop(&self) -> Result<(), SubjectError> {
        // If `sv` had the service killed, it has not waited for the end.
        if self.sv(GRACE.as_secs(), "force-stop").await? {
            return Ok(());
        }
        self.carried_out("down").await
    }

    async fn outcome(&self) -> RestReason {
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
