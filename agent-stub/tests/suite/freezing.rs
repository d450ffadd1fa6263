//! Freezing, thawing, and the guard of a frozen stub.

use crate::support::{BOUND, Pidfd, Stub, Told, ended, told};

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
