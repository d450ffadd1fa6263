//! Where /proc cannot be read.

use std::fs::File;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use supervise_harness::{Script, Signal, Sim, Timeline};
use tokio::process::Command;
use tokio::time::timeout;

use super::{assert_contains, lines, seconds};
use crate::child;

/// The descriptors that a new agent takes before the one that shows what the kernel says of it.
const FREE: usize = 3;

/// Whether this process has what the kernel says of that one open.
fn has_open_stat(pid: u32) -> bool {
    let name = format!("/proc/{pid}/stat");
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    links
        .filter_map(|link| std::fs::read_link(link.path()).ok())
        .any(|path| path == std::path::Path::new(&name))
}

/// An agent that is told to end and does not within the grace. Where `is_blind`, the sim cannot open
/// what the kernel says of it: just the descriptors that come before it are left then.
fn escalation(is_blind: bool) -> Timeline {
    let result = Sim::new().try_run(async |sim| {
        let script = Script::new()
            .on(Signal::TERM, Script::new().run_for(seconds(30)).exit(0))
            .stay();
        let worker = sim.agent("worker", script);
        let mut child = Command::from(worker.command()).spawn().unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        if is_blind {
            // The lowest free ones are what is opened next.
            let free: Vec<_> = (0..FREE)
                .map(|_| File::open("/dev/null").unwrap())
                .collect();
            let last = std::os::fd::AsRawFd::as_raw_fd(free.last().unwrap());
            let limit = u64::try_from(last).unwrap() + 1;
            setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
        }
        let run = worker.started().await;
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        assert_eq!(has_open_stat(run.pid()), !is_blind);
        tokio::time::sleep(seconds(60)).await;
        let pid = nix::unistd::Pid::from_raw(run.pid().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
        if timeout(seconds(10), child.wait()).await.is_err() {
            child.kill().await.unwrap();
        }
    });
    result.unwrap_or_else(|failure| panic!("{failure}\n{:?}", failure.timeline()))
}

#[test]
fn agents_prove_that_they_wait_where_the_kernel_cannot_be_asked() {
    child::run(
        "faults::blind::agents_prove_that_they_wait_where_the_kernel_cannot_be_asked",
        || {
            let expected = escalation(false).to_string();
            for _ in 0..5 {
                assert_eq!(escalation(true).to_string(), expected);
            }
            let lines = lines(&escalation(true));
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

/// In a mount namespace of its own, with an empty file system over /proc. Needs to be root.
#[test]
fn a_sim_without_proc_cannot_begin_and_says_why() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    child::run(
        "faults::blind::a_sim_without_proc_cannot_begin_and_says_why",
        || {
            // Found through /proc, and kept.
            supervise_harness::stub::path().unwrap();
            if unshare(CloneFlags::CLONE_NEWNS).is_err() {
                return;
            }
            let none = None::<&str>;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(none, "/", none, private, none).unwrap();
            mount(Some("none"), "/proc", Some("tmpfs"), MsFlags::empty(), none).unwrap();
            let failure = Sim::new().try_run(async |_| ()).unwrap_err();
            assert_contains(
                &failure.to_string(),
                "the sim cannot begin: the children of this thread cannot be listed: /proc/",
            );
        },
    );
}
