//! Where the library finds the program, and what the program says of itself.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use agent_stub::script::TABLE;
use rstest::rstest;

use crate::support::program;

/// Set in the process that only says what the library finds.
const ASK: &str = "STUB_TEST_ASK_FOR_PATH";

#[test]
fn says_what_is_found_when_run_again() {
    if std::env::var_os(ASK).is_some() {
        match agent_stub::path() {
            Ok(path) => println!("found {}", path.display()),
            Err(error) => println!("found error {error}"),
        }
    }
}

/// The arguments with which this program says what it finds.
const SAY: [&str; 3] = [
    "--exact",
    "--nocapture",
    "program::says_what_is_found_when_run_again",
];

/// What a process says that it finds.
#[track_caller]
fn said(command: &mut Command) -> String {
    let output = command.env(ASK, "").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.split_once("found "));
    line.unwrap_or_else(|| panic!("{text}")).1.to_owned()
}

/// What a process with this override finds.
#[track_caller]
fn found(overridden: &Path) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    said(command.args(SAY).env("SUPERVISE_AGENT_STUB", overridden))
}

/// What is found where the built program's folder is mounted noexec, nothing can be written beside this
/// program, and the temporary folder is mounted with these options. In mounts of its own: None where this
/// user may have none.
fn found_among_mounts(folder: &Path, options: &str) -> Option<String> {
    let exe = std::env::current_exe().unwrap();
    let built = agent_stub::path().unwrap().parent().unwrap();
    let own = std::fs::metadata("/proc/self").unwrap().uid();
    let mounts = |script: &str| {
        let mut command = Command::new("unshare");
        if own != 0 {
            command.arg("--map-root-user");
        }
        command.args(["--mount", "sh", "-c", script, "sh", options]);
        command.args([folder, built, exe.parent().unwrap(), &exe]);
        command.env_remove("SUPERVISE_AGENT_STUB");
        command.env("TMPDIR", folder);
        command
    };
    let put = "mount -t tmpfs -o \"$1\" tmpfs \"$2\" &&
        mount --bind \"$3\" \"$3\" && mount -o remount,bind,noexec \"$3\" &&
        mount --bind \"$4\" \"$4\" && mount -o remount,bind,ro \"$4\"";
    if !mounts(put).status().is_ok_and(|status| status.success()) {
        return None;
    }
    let say = format!("{put} && shift 4 && exec \"$@\"");
    Some(said(mounts(&say).args(SAY)))
}

#[test]
fn a_built_program_that_may_not_be_run_where_it_is_is_written_where_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let Some(found) = found_among_mounts(folder.path(), "mode=700") else {
        return;
    };
    let begin = folder.path().join("supervise-agent-stub-");
    assert!(found.starts_with(begin.to_str().unwrap()), "{found}");
}

#[test]
fn where_no_program_may_be_run_the_error_says_so_and_what_helps() {
    let folder = tempfile::tempdir().unwrap();
    let Some(found) = found_among_mounts(folder.path(), "noexec") else {
        return;
    };
    let begin = folder.path().join("supervise-agent-stub-");
    let begin = format!("error cannot run the agent stub from {}", begin.display());
    assert!(found.starts_with(&begin), "{found}");
    for word in ["noexec", "TMPDIR", "SUPERVISE_AGENT_STUB"] {
        assert!(found.contains(word), "{word}: {found}");
    }
}

#[test]
fn an_override_that_can_be_run_is_taken_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("another-stub");
    std::os::unix::fs::symlink(agent_stub::path().unwrap(), &link).unwrap();
    assert_eq!(found(&link), link.display().to_string());
}

#[test]
fn an_override_that_cannot_be_run_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "not a program").unwrap();
    let missing = directory.path().join("missing");
    for (path, cause) in [
        (missing.as_path(), "No such file or directory (os error 2)"),
        (&file, "it is no file that can be run"),
        (directory.path(), "it is no file that can be run"),
        (Path::new(""), "No such file or directory (os error 2)"),
    ] {
        let error = format!(
            "error cannot use SUPERVISE_AGENT_STUB={}: {cause}",
            path.display()
        );
        assert_eq!(found(path), error);
    }
}

#[rstest]
fn help_shows_the_options_and_every_statement(#[values("--help", "-h")] option: &str) {
    let output = program().args(["--fd", "999", option]).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("agent-stub: "));
    assert!(text.ends_with(TABLE), "{text}");
    for option in [
        "--script",
        "--control",
        "--fd",
        "--clock",
        "--id",
        "--lifetime",
    ] {
        assert!(text.contains(&format!("\n  {option} ")), "{option}");
    }
}

#[rstest]
fn says_its_version(#[values("--version", "-V")] option: &str) {
    let output = program().arg(option).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, format!("agent-stub {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_installed_program_is_the_carried_one() {
    for path in [
        Path::new(env!("CARGO_BIN_EXE_agent-stub")),
        agent_stub::path().unwrap(),
    ] {
        let output = Command::new(path)
            .args(["--script", "write \"x\"; die SIGABRT"])
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"x");
        assert_eq!(crate::support::ended(output.status), "die SIGABRT");
    }
}
