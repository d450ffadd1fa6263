//! Where /proc cannot be read.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rstest::rstest;
use supervise_harness::{Script, Signal, Sim, SimFailure, Timeline};
use tokio::process::Command;
use tokio::time::timeout;

use super::{assert_contains, seconds, short, stuck};
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

/// Whether this process holds open what the kernel says of that one.
fn holds_stat_of(pid: u32) -> bool {
    let name = std::path::PathBuf::from(format!("/proc/{pid}/stat"));
    let mut links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    links.any(|link| std::fs::read_link(link.path()).is_ok_and(|path| path == name))
}

/// An agent that is told to end and does not within the grace. Also whether the sim holds open what the
/// kernel says of it.
fn escalation() -> (String, bool) {
    wait_for_the_last_sim();
    let mut is_held = false;
    let timeline = Sim::new().run(async |sim| {
        let script = Script::new()
            .on(Signal::TERM, Script::new().run_for(seconds(30)).exit(0))
            .stay();
        let worker = sim.agent("worker", script);
        let mut child = Command::from(worker.command()).spawn().unwrap();
        let run = worker.started().await;
        is_held = holds_stat_of(run.pid());
        // real-time: none; by the sim's clock, and the timeline has it.
        tokio::time::sleep(seconds(60)).await;
        let pid = nix::unistd::Pid::from_raw(run.pid().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
        if timeout(seconds(10), child.wait()).await.is_err() {
            child.kill().await.unwrap();
        }
    });
    (timeline.to_string(), is_held)
}

#[test]
fn what_the_kernel_says_of_an_agent_is_held_open_only_where_many_descriptors_are_left() {
    child::run(
        "faults::blind::what_the_kernel_says_of_an_agent_is_held_open_only_where_many_descriptors_are_left",
        || {
            limit_descriptors(1024);
            let (expected, is_held) = escalation();
            assert!(is_held);
            let taken: Vec<_> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
            assert_eq!(escalation(), (expected.clone(), false));
            drop(taken);
            let lines: Vec<_> = expected.lines().skip(1).collect();
            assert_eq!(
                lines,
                [
                    "+0.000  worker#1  start",
                    "+60.000 worker#1  signal   SIGTERM count=1",
                    "+10.000 worker#1  exit     signal=SIGKILL",
                    "+0.000  worker#1  reap",
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
#[case::to_keep_one_for_its_pidfd(1, "a control connection cannot be accepted")]
#[case::to_look_at_it(2, "cannot be listed: /proc/")]
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

/// So many agents at once that are children of tokio's, where this process may have so many descriptors.
fn agents_within(limit: u64, agents: usize) -> Result<Timeline, SimFailure> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    limit_descriptors(limit);
    let result = Sim::new().try_run(async |sim| {
        let workers = (0..agents).map(|n| {
            let script = Script::new().run_for(seconds(1)).exit(0);
            Command::from(sim.agent(&format!("worker{n}"), script).command())
                .spawn()
                .unwrap()
        });
        for mut worker in workers.collect::<Vec<_>>() {
            assert!(worker.wait().await.unwrap().success());
        }
    });
    limit_descriptors(soft);
    result
}

/// 1024 is what most shells give.
#[test]
fn three_hundred_agents_work_with_1024_descriptors() {
    child::run(
        "faults::blind::three_hundred_agents_work_with_1024_descriptors",
        || {
            let timeline = agents_within(1024, 300).unwrap_or_else(|failure| panic!("{failure}"));
            assert!(timeline.findings().is_empty(), "{timeline}");
            let all = (0..300).map(|n| format!("worker{n}"));
            assert!(all.map(|name| timeline.starts(&name)).eq([1; 300]));
        },
    );
}

#[test]
fn too_few_descriptors_for_all_agents_are_said_with_the_number_that_would_do() {
    child::run(
        "faults::blind::too_few_descriptors_for_all_agents_are_said_with_the_number_that_would_do",
        || {
            let text = stuck(agents_within(200, 100));
            let first = "the sim is stuck: an agent has waited for 2s of real time to be let in\n";
            assert!(text.starts_with(first), "{text}");
            let number = text.split("run it under `ulimit -n ").nth(1).unwrap();
            let number = number.split('`').next().unwrap().parse().unwrap();
            assert!((300..=1024).contains(&number), "{text}");
            // That is enough.
            agents_within(number, 100).unwrap_or_else(|failure| panic!("{failure}"));
            assert_contains(
                &text,
                "its limit on open files is 200, and 100 agents need about",
            );
            let lost = "the connection of agent";
            assert!(!text.contains(lost), "{text}");
        },
    );
}
