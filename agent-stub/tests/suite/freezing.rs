//! Freezing, thawing, and the guard of a frozen stub.

use agent_stub::Signal;
use rstest::rstest;

use crate::support::{BOUND, Pidfd, Stub, Told, ended, program, told};

/// The state letter of a process, as in proc(5). None where there is none.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Waits until the process is stopped.
#[track_caller]
pub(crate) fn wait_until_stopped(pid: u32) {
    // real-time: nothing tells of a stop but looking, since a stub says that it freezes before.
    let deadline = std::time::Instant::now() + BOUND;
    while state(pid) != Some('T') {
        assert!(std::time::Instant::now() < deadline, "{pid} does not stop");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn a_frozen_stub_is_guarded_whatever_its_environment_says() {
    let mut start =
        crate::support::Start::new(Told::Inherited).args(["--clock", "real", "--script", "freeze"]);
    start
        .command
        .env("SUPERVISE_AGENT_FD", "-1")
        .env("SUPERVISE_AGENT_CLOCK", "none");
    let mut stub = start.spawn();
    stub.expect(&["freezing"]);
    drop(stub.control);
    assert_eq!(ended(stub.process.end()), "die SIGKILL");
}

/// The processes that guard this one.
pub(crate) fn guards(pid: u32) -> Vec<u32> {
    let wanted = format!("--guard\0{pid}\0");
    crate::survivors::processes_with(&wanted)
}

#[rstest]
fn stops_itself_and_goes_on_at_sigcont(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let mut stub = told(how, "write \"up\\n\"; freeze; exit 3");
    stub.read_until("up\n");
    wait_until_stopped(stub.pid());
    stub.signal(Signal::CONT);
    assert_eq!(ended(stub.end()), "exit 3");
    if let Some(control) = &mut stub.control {
        control.expect(&["wrote stdout 3", "freezing", "thawed", "exiting 3"]);
    }
}

#[test]
fn answers_nothing_while_frozen_and_everything_once_thawed() {
    let mut stub = Stub::script("on SIGTERM count; freeze; stay");
    stub.expect(&["freezing"]);
    wait_until_stopped(stub.process.pid());
    stub.process.signal(Signal::TERM);
    stub.order("ping 1");
    stub.process.signal(Signal::CONT);
    stub.expect(&["thawed", "got SIGTERM 1", "pong 1"]);
}

#[test]
fn the_guard_of_a_frozen_stub_is_gone_after_the_thaw() {
    let mut stub = Stub::script("freeze; stay");
    stub.expect(&["freezing"]);
    let pid = stub.process.pid();
    wait_until_stopped(pid);
    let [guard] = guards(pid)[..] else {
        panic!("expected one guard, got {:?}", guards(pid))
    };
    stub.process.signal(Signal::CONT);
    stub.expect(&["thawed"]);
    stub.ping();
    assert!(Pidfd::open(guard).is_none(), "the guard is still there");
}

#[test]
fn the_guard_of_a_frozen_stub_ends_with_it() {
    let mut stub = Stub::script("freeze; stay");
    stub.expect(&["freezing"]);
    let pid = stub.process.pid();
    wait_until_stopped(pid);
    let guards: Vec<Pidfd> = guards(pid).into_iter().filter_map(Pidfd::open).collect();
    assert_eq!(guards.len(), 1);
    stub.process.signal(Signal::KILL);
    assert_eq!(ended(stub.process.end()), "die SIGKILL");
    assert!(guards[0].ends_within(BOUND), "the guard is still there");
}

#[rstest]
fn a_frozen_stub_is_killed_when_its_control_ends(
    #[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let mut stub = told(how, "on SIGHUP ignore; on SIGTERM ignore; freeze; exit 3");
    wait_until_stopped(stub.pid());
    stub.control = None;
    assert_eq!(ended(stub.end()), "die SIGKILL");
}

#[test]
fn a_frozen_stub_is_killed_at_the_end_of_its_lifetime() {
    // real-time: the lifetime is one of real time.
    let mut command = program();
    command.args(["--lifetime", "80ms", "--script", "freeze; exit 3"]);
    let mut stub = crate::support::Owned(command.spawn().unwrap());
    assert_eq!(ended(stub.end()), "die SIGKILL");
}
