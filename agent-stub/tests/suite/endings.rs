//! Exits, deaths, staying up.

use std::time::{Duration, Instant};

use agent_stub::Signal;
use rstest::rstest;

use crate::support::{Told, alone, ended, told};

#[rstest]
fn exits_at_once_with_the_code(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values(0, 1, 3, 255)] code: u8,
) {
    let mut stub = told(how, &format!("exit {code}"));
    assert_eq!(ended(stub.end()), format!("exit {code}"));
    if let Some(control) = &mut stub.control {
        control.expect(&[&format!("exiting {code}")]);
        assert_eq!(control.rest_of_reports(), [""; 0]);
    }
}

#[rstest]
fn exits_after_a_time_and_not_before(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    // real-time: `run` by the real clock is what is tested.
    let before = Instant::now();
    let mut stub = told(how, "run 50ms; exit 4");
    assert_eq!(ended(stub.end()), "exit 4");
    assert!(before.elapsed() >= Duration::from_millis(50));
}

#[test]
fn exits_with_0_at_the_end_of_its_script_where_nobody_controls_it() {
    assert_eq!(ended(alone("").end()), "exit 0");
    assert_eq!(ended(alone("# nothing\n;;").end()), "exit 0");
}

#[rstest]
fn dies_by_every_deadly_signal(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    for signal in Signal::all().filter(|signal| signal.is_deadly()) {
        let mut stub = told(how, &format!("die {signal}"));
        assert_eq!(ended(stub.end()), format!("die {signal}"));
        if let Some(control) = &mut stub.control {
            control.expect(&[&format!("dying {signal}")]);
            assert_eq!(control.rest_of_reports(), [""; 0]);
        }
    }
}

#[rstest]
fn dies_by_a_signal_that_it_ignores_traps_or_blocks(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values(
        "on SIGTERM ignore",
        "on SIGTERM count",
        "on SIGTERM { exit 1 }",
        "block SIGTERM"
    )]
    hindrance: &str,
) {
    let mut stub = told(how, &format!("{hindrance}; die SIGTERM"));
    assert_eq!(ended(stub.end()), "die SIGTERM");
}

#[rstest]
fn leaves_a_core_dump_only_when_told(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    use nix::sys::resource::{Resource, setrlimit};
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    for (script, dumped) in [("die SIGSEGV", false), ("die SIGSEGV core", true)] {
        let directory = tempfile::tempdir().unwrap();
        let mut stub = crate::support::told_with(how, script, |command| {
            command.current_dir(directory.path());
            // SAFETY: the closure makes one async-signal-safe call.
            unsafe {
                command.pre_exec(|| Ok(setrlimit(Resource::RLIMIT_CORE, 1 << 20, 1 << 20)?));
            }
        });
        let status = stub.end();
        assert_eq!(ended(status), "die SIGSEGV");
        // Where the system dumps nothing at all, there is nothing to see of `core`.
        if !dumped {
            assert!(!status.core_dumped());
        } else if std::fs::read_to_string("/proc/sys/kernel/core_pattern")
            .unwrap()
            .trim()
            == "core"
        {
            assert!(status.core_dumped());
        }
    }
}

#[rstest]
fn stays_up_until_a_signal_ends_it(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let mut stub = told(how, "write \"up\\n\"; stay; exit 9");
    stub.read_until("up\n");
    stub.signal(Signal::TERM);
    assert_eq!(ended(stub.end()), "die SIGTERM");
}

#[rstest]
fn stays_up_until_an_order_ends_it(
    #[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let mut stub = told(how, "stay; exit 9");
    let control = stub.control.as_mut().unwrap();
    assert_eq!(control.ping(), [""; 0]);
    control.order("do exit 5");
    control.expect(&["exiting 5"]);
    assert_eq!(ended(stub.end()), "exit 5");
}

#[rstest]
fn repeats_a_block_that_often(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let script =
        "repeat 0 { write \"never\" }; repeat 3 { write \"a\"; repeat 2 { write \"b\" } }; exit 0";
    let mut stub = told(how, script);
    assert_eq!(ended(stub.end()), "exit 0");
    assert_eq!(stub.rest(), "abbabbabb");
}

#[rstest]
fn runs_a_block_for_ever(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let mut stub = told(
        how,
        "on SIGUSR1 { exit 6 }; forever { write \"x\"; run 1ms }; exit 9",
    );
    stub.read_until("xxxxxxxx");
    stub.signal(Signal::USR1);
    assert_eq!(ended(stub.end()), "exit 6");
}

#[rstest]
fn runs_a_block_only_in_the_first_runs(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let directory = tempfile::tempdir().unwrap();
    let counter = directory.path().join("runs");
    let script = format!("first 2 \"{}\" {{ exit 1 }}; exit 0", counter.display());
    let codes = [0; 4].map(|_| ended(told(how, &script).end()));
    assert_eq!(codes, ["exit 1", "exit 1", "exit 0", "exit 0"]);
    assert_eq!(std::fs::read_to_string(counter).unwrap(), "4");
}
