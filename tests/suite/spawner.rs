//! The integration tests of `spawner`.

mod close;
mod errors;
pub(crate) mod tools;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Write, pipe};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, Signal as NixSignal, signal};
use nix::sys::wait::waitpid;
use nix::unistd::getpgid;
use supervise_harness::Signal;
use supervise_harness::supervisor::{AgentStdio, SpawnError, SpawnerOptions};

use super::child;
use tools::{
    descriptors, end_input, has_child, line, open_count, pid_of, place, read_to_end, runtime, sh,
    sleeper, spawn, without,
};

#[test]
fn descriptor_3_is_a_live_socket_in_both_directions() {
    let agent = spawn(sh("read line <&3; echo \"got $line\" >&3; cat <&3 >&3"));
    agent.socket().unwrap().write_all(b"it\nand more").unwrap();
    assert_eq!(line(&agent), "got it");
    end_input(&agent);
    assert_eq!(line(&agent), "and more");
}

#[test]
fn the_agents_end_is_the_sockets_end() {
    let agent = spawn(sh("exit 0"));
    assert_eq!(line(&agent), "");
}

#[test]
fn nothing_else_is_inherited() {
    child::run("spawner::nothing_else_is_inherited", || {
        let file = File::open("/dev/null").unwrap();
        // Not close-on-exec, low and high.
        let leaks: Vec<OwnedFd> = [4, 5, 60, 700]
            .into_iter()
            .map(|least| {
                // SAFETY: the descriptor is new and nobody else's.
                unsafe { OwnedFd::from_raw_fd(libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, least)) }
            })
            .collect();
        let found = descriptors(SpawnerOptions::new());
        drop(leaks);
        assert_eq!(
            found.keys().copied().collect::<Vec<_>>(),
            [0, 1, 2, 3],
            "{found:?}"
        );
    });
}

#[test]
fn a_working_directory_is_the_agents_and_its_path_is_this_processs() {
    let dir = tempfile::TempDir::new().unwrap();
    let here = std::env::current_dir().unwrap();
    let up = "../".repeat(here.components().count() - 1);
    for path in [format!("{up}bin/sh"), "/bin/sh".to_owned(), "sh".to_owned()] {
        let options = SpawnerOptions::new()
            .agent_path(path)
            .args(["-c", "pwd -P >&3"])
            .current_dir(dir.path());
        let agent = spawn(options);
        let expected = dir.path().canonicalize().unwrap();
        assert_eq!(line(&agent), expected.to_str().unwrap());
    }
}

#[test]
fn the_streams_are_dev_null_unless_told() {
    let found = descriptors(SpawnerOptions::new());
    for stream in 0..3 {
        assert_eq!(found[&stream].to_str(), Some("/dev/null"));
    }
}

#[test]
fn inherited_streams_are_this_processs() {
    let found = descriptors(
        SpawnerOptions::new()
            .stdin(AgentStdio::Inherit)
            .stdout(AgentStdio::Inherit)
            .stderr(AgentStdio::Inherit),
    );
    for stream in 0..3 {
        let own = std::fs::read_link(format!("/proc/self/fd/{stream}")).unwrap();
        assert_eq!(found[&stream], own);
    }
}

#[test]
fn works_whichever_of_the_parents_streams_are_closed() {
    child::run(
        "spawner::works_whichever_of_the_parents_streams_are_closed",
        || {
            for set in 0_u8..16 {
                let closed: Vec<_> = (0..4).filter(|fd| set & (1 << fd) != 0).collect();
                let found = without(&closed, || descriptors(SpawnerOptions::new()));
                assert_eq!(found.len(), 4, "{closed:?} closed: {found:?}");

                let inherit = SpawnerOptions::new()
                    .stdin(AgentStdio::Inherit)
                    .stdout(AgentStdio::Inherit)
                    .stderr(AgentStdio::Inherit);
                let found = without(&closed, || descriptors(inherit));
                let expected: Vec<_> = (0..4)
                    .filter(|fd| *fd == 3 || !closed.contains(fd))
                    .collect();
                let found: Vec<_> = found.into_keys().collect();
                assert_eq!(found, expected, "{closed:?} closed and inherited");
            }
        },
    );
}

#[test]
fn a_stream_may_be_given_as_any_descriptor() {
    child::run("spawner::a_stream_may_be_given_as_any_descriptor", || {
        let orders = [
            [0, 1, 2],
            [1, 0, 3],
            [2, 3, 0],
            [3, 2, 1],
            [1, 2, 0],
            [20, 3, 0],
        ];
        for [input, output, error] in orders {
            without(&[0, 1, 2, 3], || {
                // The pipes first stand above the range, so that every place in it is free.
                let (read_in, write_in) =
                    pipe().map(|(r, w)| (place(r, 40), place(w, 41))).unwrap();
                let (read_out, write_out) =
                    pipe().map(|(r, w)| (place(r, 42), place(w, 43))).unwrap();
                let (read_err, write_err) =
                    pipe().map(|(r, w)| (place(r, 44), place(w, 45))).unwrap();
                let agent = spawn(
                    sh("echo \"out $(cat)\"; echo err >&2; readlink /proc/$$/fd/3 >&3")
                        .stdin(place(read_in, input))
                        .stdout(place(write_out, output))
                        .stderr(place(write_err, error)),
                );
                File::from(write_in).write_all(b"in").unwrap();
                assert_eq!(read_to_end(File::from(read_out)), "out in\n");
                assert_eq!(read_to_end(File::from(read_err)), "err\n");
                assert!(line(&agent).starts_with("socket:"));
            });
        }
    });
}

#[test]
fn the_environment_is_the_parents_the_extras_and_the_agents_names() {
    let (reader, writer) = pipe().unwrap();
    let agent = spawn(
        SpawnerOptions::new()
            .agent_path("/usr/bin/env")
            .runtime_dir("/run/tested")
            .env("TESTED", "first")
            .env("TESTED", "a=b\nc")
            .env("SUPERVISE_AGENT_ID", "not this")
            .env("SUPERVISE_AGENT_FD", "7")
            .arg("-0")
            .stdout(writer),
    );
    let text = read_to_end(reader);
    let found: BTreeMap<_, _> = text
        .split_terminator('\0')
        .map(|entry| entry.split_once('=').unwrap())
        .collect();
    assert_eq!(found["SUPERVISE_AGENT_ID"], "tested");
    assert_eq!(found["SUPERVISE_AGENT_FD"], "3");
    assert_eq!(found["SUPERVISE_AGENT_RUNTIME_DIR"], "/run/tested");
    assert_eq!(found["TESTED"], "a=b\nc");
    assert_eq!(found["PATH"], std::env::var("PATH").unwrap());
    drop(agent);
}

#[test]
fn without_a_runtime_dir_there_is_no_entry_not_even_an_inherited_one() {
    if !child::is_child(
        "spawner::without_a_runtime_dir_there_is_no_entry_not_even_an_inherited_one",
    ) {
        let status = child::command(
            "spawner::without_a_runtime_dir_there_is_no_entry_not_even_an_inherited_one",
        )
        .env("SUPERVISE_AGENT_RUNTIME_DIR", "/run/outer")
        .output()
        .unwrap()
        .status;
        assert!(status.success());
        return;
    }
    let agent = spawn(sh("echo \"${SUPERVISE_AGENT_RUNTIME_DIR-none}\" >&3"));
    assert_eq!(line(&agent), "none");
}

#[test]
fn no_signal_is_blocked_or_ignored() {
    child::run("spawner::no_signal_is_blocked_or_ignored", || {
        SigSet::all().thread_block().unwrap();
        for ignored in [NixSignal::SIGINT, NixSignal::SIGTERM, NixSignal::SIGPIPE] {
            // SAFETY: ignoring a signal runs no code.
            unsafe { signal(ignored, SigHandler::SigIgn) }.unwrap();
        }
        let (reader, writer) = pipe().unwrap();
        let agent = spawn(
            SpawnerOptions::new()
                .agent_path("/bin/cat")
                .arg("/proc/self/status")
                .stdout(writer),
        );
        let text = read_to_end(reader);
        for name in ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"] {
            let mask = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"))
                .unwrap();
            assert_eq!(mask, "0000000000000000", "{name}");
        }
        drop(agent);
    });
}

#[test]
fn the_agent_leads_a_group_of_its_own() {
    let agent = spawn(sleeper());
    assert_eq!(getpgid(Some(pid_of(&agent))), Ok(pid_of(&agent)));
}

#[test]
fn a_relative_path_is_taken_from_the_current_directory() {
    child::run(
        "spawner::a_relative_path_is_taken_from_the_current_directory",
        || {
            std::env::set_current_dir("/usr").unwrap();
            let agent = spawn(SpawnerOptions::new().agent_path("bin/true"));
            assert_eq!(line(&agent), "");
        },
    );
}

#[test]
fn a_bare_name_is_looked_up_in_path_and_stays_argument_0() {
    let agent = spawn(
        SpawnerOptions::new()
            .agent_path("sh")
            .args(["-c", "tr '\\0' ' ' </proc/$$/cmdline >&3"]),
    );
    assert!(line(&agent).starts_with("sh -c "));
}

#[test]
fn a_bare_name_is_not_looked_up_in_the_current_directory() {
    child::run(
        "spawner::a_bare_name_is_not_looked_up_in_the_current_directory",
        || {
            std::env::set_current_dir("/bin").unwrap();
            // SAFETY: no other thread of this process reads the environment.
            unsafe { std::env::set_var("PATH", ":.:bin:/dev") };
            let spawner = SpawnerOptions::new().agent_path("true").build().unwrap();
            let error = spawner.spawn("tested").unwrap_err();
            assert!(matches!(error, SpawnError::NotInPath { .. }), "{error}");
        },
    );
}

#[test]
fn dropping_kills_the_group_and_reaps() {
    let (reader, writer) = pipe().unwrap();
    let agent = spawn(sh("trap '' TERM HUP; sleep 60 & echo ready >&3; wait; wait").stdout(writer));
    assert_eq!(line(&agent), "ready");
    let (pid, watcher) = (pid_of(&agent), agent.watcher());
    drop(agent);
    assert_eq!(waitpid(pid, None), Err(nix::Error::ECHILD), "reaped");
    assert_eq!(read_to_end(reader), "", "the descendant is gone");
    let end = runtime().block_on(watcher.wait()).unwrap();
    assert_eq!(end.signal(), Some(Signal::KILL));
}

#[test]
fn dropping_after_the_end_kills_what_is_left_of_the_group() {
    let (reader, writer) = pipe().unwrap();
    let agent = spawn(sh("sleep 60 & exit 4").stdout(writer));
    let end = runtime().block_on(agent.watcher().wait()).unwrap();
    assert_eq!(end.exit_code(), 4);
    drop(agent);
    assert_eq!(read_to_end(reader), "");
}

#[test]
fn nothing_is_left_after_a_hundred_lives() {
    child::run("spawner::nothing_is_left_after_a_hundred_lives", || {
        let runtime = runtime();
        let spawner = sh("exit 0").build().unwrap();
        let before = open_count();
        for life in 0..100 {
            let agent = spawner.spawn("tested").unwrap();
            match life % 3 {
                0 => drop(agent),
                1 => drop(runtime.block_on(agent.close()).unwrap()),
                _ => drop(runtime.block_on(agent.watcher().wait())),
            }
        }
        assert_eq!(open_count(), before);
        assert!(!has_child());
    });
}

#[test]
fn the_handle_is_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let spawner = sleeper().build().unwrap();
    let agent = spawner.spawn("tested").unwrap();
    shared(&spawner);
    shared(&agent);
    shared(&agent.watcher());
    assert_eq!(agent.agent_id(), "tested");
}

#[test]
fn the_socket_can_be_taken_once() {
    let mut agent = spawn(sleeper());
    assert!(agent.take_socket().is_some());
    assert!(agent.take_socket().is_none());
    assert!(agent.socket().is_none());
}
