//! Subjects in processes of their own.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::Stdio;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use supervise_harness::conformance::{Apart, Program, Reference, Session, Subject, serve};
use supervise_harness::rules::Service;
use supervise_harness::{Script, Sim};

use crate::child;

/// Our own supervisor, which this binary serves where it is run again for that.
pub(super) fn reference() -> Apart<Reference> {
    Apart::new(Reference::new(), program())
}

fn program() -> Program {
    Program::from(&child::command(SERVES))
}

const SERVES: &str = "conformance::apart::what_runs_a_service_ends_with_its_session";
const IS_KILLED: &str = "conformance::apart::what_runs_a_service_ends_with_whoever_ran_it";

/// A service of that agent.
fn service(agent: &supervise_harness::Agent) -> Service {
    let mut service = Service::new("worker");
    service.program = agent.program().to_owned();
    service.args = agent.args();
    service
}

#[test]
fn what_runs_a_service_ends_with_its_session() {
    if child::is_child(SERVES) {
        return serve(Reference::alone()).unwrap();
    }
    let sim = Sim::builder().real_time().build().unwrap();
    sim.run(async |sim| {
        let worker = sim.agent("worker", Script::new());
        let session = reference().start_apart(&service(&worker)).await.unwrap();
        let run = worker.started().await;
        let process = pidfd(session.process().unwrap());
        assert!(!has_ended(&process, PollTimeout::ZERO));
        drop(session);
        assert!(has_ended(&process, PollTimeout::ZERO));
        run.ended().await;
    });
}

#[test]
fn what_runs_a_service_ends_with_whoever_ran_it() {
    if child::is_child(IS_KILLED) {
        let sim = Sim::builder().real_time().build().unwrap();
        sim.run(async |sim| {
            let worker = sim.agent("worker", Script::new());
            let session = reference().start_apart(&service(&worker)).await.unwrap();
            let run = worker.started().await;
            eprintln!("{}", session.process().unwrap());
            eprintln!("{}", run.pid());
            // Until it is killed.
            std::future::pending::<()>().await;
        });
    }
    let mut command = child::command(IS_KILLED);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut harness = command.spawn().unwrap();
    let mut lines = BufReader::new(harness.stderr.take().unwrap()).lines();
    let mut next = || pidfd(lines.next().unwrap().unwrap().parse().unwrap());
    let (supervisor, service) = (next(), next());
    harness.kill().unwrap();
    harness.wait().unwrap();
    assert!(has_ended(&supervisor, PollTimeout::NONE));
    assert!(has_ended(&service, PollTimeout::NONE));
}

#[test]
fn a_program_that_does_not_serve_is_an_error() {
    let sim = Sim::builder().real_time().build().unwrap();
    sim.run(async |sim| {
        let service = service(&sim.agent("worker", Script::new()));
        for (program, text) in [
            ("true", "its process has ended"),
            ("no-such-program", "no-such-program cannot be run"),
        ] {
            let program = Program::from(&std::process::Command::new(program));
            let error = program.start(&service).await.unwrap_err();
            assert!(error.text().starts_with(text), "{}", error.text());
        }
    });
}

#[test]
fn nobody_serves_whoever_has_not_run_it() {
    // Standard input of the test is no such socket.
    let path = "conformance::apart::nobody_serves_whoever_has_not_run_it";
    if child::is_child(path) {
        assert!(serve(Reference::new()).is_err());
        return;
    }
    let mut command = child::command(path);
    command.stdin(Stdio::null());
    assert!(command.output().unwrap().status.success());
}

fn pidfd(pid: u32) -> OwnedFd {
    let pid = i32::try_from(pid).unwrap();
    // SAFETY: it takes two numbers and touches no memory.
    let fd = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).unwrap();
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the call succeeded: it is open and nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn has_ended(process: &OwnedFd, limit: PollTimeout) -> bool {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, limit).unwrap() > 0
}
