//! Where /proc cannot be read.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rstest::rstest;
use supervise_harness::{Script, Signal, Sim, Timeline};
use tokio::process::Command;
use tokio::time::timeout;

use super::{assert_contains, lines, seconds, short, stuck};
use crate::child;

/// Lets this process have no descriptor from that one on.
fn limit_descriptors(limit: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
}

/// Leaves this process that many more descriptors, none of which the watchdog has for a moment.
fn leave_descriptors(count: usize) {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    loop {
        let limit = leave_about(count);
        // By their names alone, which takes no descriptor.
        let open: Vec<_> = (0..limit)
            .filter_map(|number| std::fs::read_link(format!("/proc/self/fd/{number}")).ok())
            .collect();
        let own = std::process::id();
        // A sim keeps what the kernel says of the first thread.
        let is_kept = |path: &std::path::PathBuf| {
            !path.starts_with(format!("/proc/{own}/task"))
                || path.ends_with("task")
                || path.ends_with("children")
                || path.ends_with(format!("{own}/stat"))
        };
        if limit - open.len() == count && open.iter().all(is_kept) {
            return;
        }
        limit_descriptors(soft);
    }
}

/// That, but for what others open meanwhile. The limit.
fn leave_about(count: usize) -> usize {
    // The lowest free ones are what is opened next.
    let free: Vec<_> = (0..=count)
        .map(|_| File::open("/dev/null").unwrap())
        .collect();
    let limit = free.last().unwrap().as_raw_fd();
    limit_descriptors(u64::try_from(limit).unwrap());
    usize::try_from(limit).unwrap()
}

/// Waits until nothing is open for the sim before, which the watchdog may look after for a moment longer.
fn wait_for_the_last_sim() {
    let is_of_a_sim = |link: std::fs::DirEntry| {
        std::fs::read_link(link.path()).is_ok_and(|path| path.ends_with("children"))
    };
    while std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .any(is_of_a_sim)
    {
        std::thread::yield_now();
    }
}

/// The descriptor at which this process has what the kernel says of that one.
fn stat_descriptor(pid: u32) -> Option<u64> {
    let name = format!("/proc/{pid}/stat");
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let mut links = links.filter_map(|link| {
        let number = link.file_name().to_str()?.parse().ok()?;
        Some((number, std::fs::read_link(link.path()).ok()?))
    });
    links.find_map(|(number, path)| (path == std::path::Path::new(&name)).then_some(number))
}

/// An agent that is told to end and does not within the grace. With a limit, no descriptor from that
/// one on can be had while the agent comes. Also the one at which the sim then has what the kernel
/// says of the agent.
fn escalation(limit: Option<u64>) -> (Timeline, Option<u64>) {
    wait_for_the_last_sim();
    let mut stat = None;
    let result = Sim::new().try_run(async |sim| {
        let script = Script::new()
            .on(Signal::TERM, Script::new().run_for(seconds(30)).exit(0))
            .stay();
        let worker = sim.agent("worker", script);
        let mut child = Command::from(worker.command()).spawn().unwrap();
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        limit_descriptors(limit.unwrap_or(soft));
        let run = worker.started().await;
        limit_descriptors(soft);
        stat = stat_descriptor(run.pid());
        // real-time: none; by the sim's clock, and the timeline has it.
        tokio::time::sleep(seconds(60)).await;
        let pid = nix::unistd::Pid::from_raw(run.pid().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
        if timeout(seconds(10), child.wait()).await.is_err() {
            child.kill().await.unwrap();
        }
    });
    let timeline = result.unwrap_or_else(|failure| panic!("{failure}\n{:?}", failure.timeline()));
    (timeline, stat)
}

#[test]
fn agents_prove_that_they_wait_where_the_kernel_cannot_be_asked() {
    child::run(
        "faults::blind::agents_prove_that_they_wait_where_the_kernel_cannot_be_asked",
        || {
            // What the process opens once and keeps is open from then on.
            escalation(None);
            let (expected, stat) = escalation(None);
            let expected = expected.to_string();
            let mut last = None;
            for _ in 0..6 {
                let (timeline, none) = escalation(stat);
                assert_eq!((timeline.to_string().as_str(), none), (&*expected, None));
                last = Some(timeline);
            }
            assert!(stat.is_some());
            let lines = lines(&last.unwrap());
            assert_eq!(
                lines[..4],
                [
                    "+0.000 worker#1 start",
                    "+60.000 worker#1 signal SIGTERM count=1",
                    "+10.000 worker#1 exit signal=SIGKILL",
                    "+0.000 worker#1 reap",
                ]
            );
        },
    );
}

#[test]
fn a_sim_without_a_descriptor_cannot_begin_and_says_why() {
    child::run(
        "faults::blind::a_sim_without_a_descriptor_cannot_begin_and_says_why",
        || {
            supervise_harness::stub::path().unwrap();
            let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            for free in 0.. {
                leave_descriptors(free);
                let result = short().try_run(async |_| ());
                limit_descriptors(soft);
                let Err(failure) = result else {
                    assert!(free > 3);
                    break;
                };
                let text = failure.to_string();
                assert!(text.starts_with("the sim cannot begin: the "), "{text}");
                assert_contains(&text, "Too many open files");
            }
        },
    );
}

/// In a mount namespace of its own, with an empty file system over /proc. Who may not have one gets
/// as far without descriptors: nothing in /proc can be read then.
#[test]
fn a_sim_without_proc_cannot_begin_and_says_why() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    child::run(
        "faults::blind::a_sim_without_proc_cannot_begin_and_says_why",
        || {
            // Found through /proc, and kept.
            supervise_harness::stub::path().unwrap();
            let none = None::<&str>;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            let covered = unshare(CloneFlags::CLONE_NEWNS)
                .and_then(|()| mount(none, "/", none, private, none))
                .and_then(|()| mount(Some("none"), "/proc", Some("tmpfs"), MsFlags::empty(), none));
            let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            let why = match covered {
                Ok(()) => "No such file or directory",
                Err(_) => {
                    limit_descriptors(0);
                    "Too many open files"
                }
            };
            let failure = Sim::new().try_run(async |_| ()).unwrap_err();
            limit_descriptors(soft);
            let text = failure.to_string();
            assert_contains(
                &text,
                "the sim cannot begin: the children of this thread cannot be listed: /proc/",
            );
            assert_contains(&text, why);
        },
    );
}

#[rstest]
#[case::to_accept_it(0, "a control connection cannot be accepted")]
#[case::to_look_at_it(1, "cannot be listed: /proc/")]
fn an_agent_for_which_no_descriptor_is_left_is_named(#[case] free: usize, #[case] what: &str) {
    let path = std::thread::current().name().unwrap().to_owned();
    child::run(&path, || {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let result = short().try_run(async |sim| {
            let worker = sim.agent("worker", Script::new().stay());
            let _child = Command::from(worker.command())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            leave_descriptors(free);
            worker.started().await;
        });
        limit_descriptors(soft);
        let text = stuck(result);
        assert_contains(&text, what);
        assert_contains(&text, "Too many open files");
    });
}

#[test]
fn what_holds_a_sim_is_ended_although_no_descriptor_is_left() {
    const PATH: &str = "faults::blind::what_holds_a_sim_is_ended_although_no_descriptor_is_left";
    child::run(PATH, || {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let result = short().try_run(async |_| {
            let mut sleep = std::process::Command::new("/bin/sleep")
                .arg("1000")
                .spawn()
                .unwrap();
            leave_descriptors(0);
            sleep.wait().unwrap();
        });
        limit_descriptors(soft);
        assert_contains(
            &stuck(result),
            "a child that is no agent runs, and time waits for it: sleep",
        );
    });
}

#[test]
fn time_stands_still_where_the_children_of_other_threads_cannot_be_listed() {
    const PATH: &str =
        "faults::blind::time_stands_still_where_the_children_of_other_threads_cannot_be_listed";
    child::run(PATH, || {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let mut has_passed = false;
        // The other thread is the one that waits for this test.
        let result = short().try_run(async |_| {
            leave_descriptors(0);
            // real-time: none; by the sim's clock, which must not get there.
            tokio::time::sleep(seconds(1)).await;
            has_passed = true;
        });
        limit_descriptors(soft);
        assert!(!has_passed);
        assert_contains(
            &stuck(result),
            "the children of other threads cannot be listed: /proc/self/task: Too many open files",
        );
    });
}
