//! A fresh process for a test that changes what a whole process shares: limits, descriptors,
//! signal dispositions, its own death.

use std::process::Command;

const MARK: &str = "SUITE_IN_CHILD";

/// A command that runs the test at `path` (as `topic::name`) alone, in a process of its own.
pub(crate) fn command(path: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this test binary"));
    command
        .args(["--exact", path, "--nocapture", "--test-threads=1"])
        .env(MARK, path);
    command
}

/// Has the command run what knows nothing of this process being such a one.
pub(crate) fn forget(command: &mut Command) {
    command.env_remove(MARK);
}

/// Whether this process was started by [`command`] for the test at `path`.
pub(crate) fn is_child(path: &str) -> bool {
    std::env::var(MARK).is_ok_and(|mark| mark == path)
}

/// Runs `body` in a fresh process and passes its failure on.
#[track_caller]
pub(crate) fn run(path: &str, body: impl FnOnce()) {
    if is_child(path) {
        return body();
    }
    let output = command(path)
        .output()
        .expect("start this test binary again");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{path} in its own process: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}
