//! Orphans: what comes to a subreaper, and what it leaves alone.

use std::num::NonZeroU32;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::prctl::get_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use supervise_harness::supervisor::{
    Orphans, Probe, RestartPolicy, RestartTracker, Supervisor, SupervisorEvent,
};

use crate::child;

/// Being a subreaper is the whole process's.
fn alone(name: &str, body: impl AsyncFnOnce()) {
    child::run(&format!("orphans::{name}"), || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(body());
    });
}

/// Waits until the process is no zombie any more.
pub(crate) async fn reaped(pid: u32) {
    let there = format!("/proc/{pid}");
    while std::path::Path::new(&there).exists() {
        // real-time: nobody says that somebody else has reaped something.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until the process is a zombie.
async fn ended(pid: u32) {
    while !is_zombie(pid) {
        // real-time: of a child nobody else may be told.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.contains(") Z ")
}

/// An orphan that was killed: started by a shell, which prints its number and is gone.
pub(crate) fn orphan(script: &str) -> u32 {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let pid: i32 = text.trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    pid.unsigned_abs()
}

/// Of a double fork: in a session that it does not lead.
pub(crate) const DAEMON: &str = "setsid sh -c 'sleep 5 >/dev/null 2>&1 & echo $!'";

/// In a session that it leads.
const LEADER: &str = "setsid sleep 5 >/dev/null 2>&1 & echo $!";

#[test]
fn a_process_is_a_subreaper_until_it_is_dropped() {
    alone("a_process_is_a_subreaper_until_it_is_dropped", async || {
        assert!(!get_child_subreaper().unwrap());
        let orphans = Orphans::adopt().unwrap();
        assert!(get_child_subreaper().unwrap());
        drop(orphans);
        assert!(!get_child_subreaper().unwrap());
    });
}

#[test]
fn it_needs_a_runtime() {
    assert!(Orphans::adopt().is_err());
}

#[test]
fn a_daemon_is_reaped() {
    alone("a_daemon_is_reaped", async || {
        let _orphans = Orphans::adopt().unwrap();
        reaped(orphan(DAEMON)).await;
    });
}

#[test]
fn what_an_agent_leaves_in_its_group_is_reaped() {
    alone("what_an_agent_leaves_in_its_group_is_reaped", async || {
        let orphans = Orphans::adopt().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let spawner = supervise_harness::supervisor::SpawnerOptions::new()
            .agent_path("/bin/sh")
            .args(["-c", "sleep 5 & echo $! > $0"])
            .arg(&path)
            .build()
            .unwrap();
        let never = RestartTracker::builder().policy(RestartPolicy::Never);
        let (supervisor, _events) = Supervisor::builder(spawner, "worker")
            .tracker(never.build().unwrap())
            .orphans(&orphans)
            .start()
            .unwrap();
        supervisor.wait().await.unwrap();
        let pid = std::fs::read_to_string(path).unwrap();
        // The group was killed.
        reaped(pid.trim().parse().unwrap()).await;
    });
}

/// They may be anybody's, unless the process says that it has no others.
#[test]
fn a_leader_is_reaped_only_where_all_are_adopted() {
    alone(
        "a_leader_is_reaped_only_where_all_are_adopted",
        async || {
            let orphans = Orphans::adopt().unwrap();
            let left = orphan(LEADER);
            ended(left).await;
            // What proves to be an orphan and ends later is reaped: so it was looked at.
            reaped(orphan(DAEMON)).await;
            assert!(is_zombie(left));
            drop(orphans);
            let _orphans = Orphans::adopt_all().unwrap();
            reaped(orphan(LEADER)).await;
            // It was there before.
            assert!(is_zombie(left));
        },
    );
}

/// Of every kind of child that this process starts itself, the status is its own.
#[test]
fn what_the_process_has_started_is_left_alone() {
    alone("what_the_process_has_started_is_left_alone", async || {
        let mut before = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let _orphans = Orphans::adopt().unwrap();
        let mut plain = Command::new("sh").args(["-c", "exit 4"]).spawn().unwrap();
        let mut command = Command::new("sh");
        let mut group = command
            .args(["-c", "exit 5"])
            .process_group(0)
            .spawn()
            .unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "exit 6"]);
        // SAFETY: between fork and exec it makes one system call, and nothing else.
        unsafe {
            command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?));
        }
        let mut session = command.spawn().unwrap();
        let mut thread = std::thread::spawn(|| Command::new("sh").args(["-c", "exit 8"]).spawn())
            .join()
            .unwrap()
            .unwrap();
        for child in [&before, &plain, &group, &session, &thread] {
            ended(child.id()).await;
        }
        // It ends after all of these and is reaped: so they were looked at.
        reaped(orphan(DAEMON)).await;
        let codes = [
            &mut before,
            &mut plain,
            &mut group,
            &mut session,
            &mut thread,
        ]
        .map(|child| child.wait().unwrap().code());
        assert_eq!(codes, [3, 4, 5, 6, 8].map(Some));
    });
}

#[test]
fn the_agents_statuses_are_their_supervisors_where_all_are_adopted() {
    let name = "the_agents_statuses_are_their_supervisors_where_all_are_adopted";
    alone(name, async || {
        let orphans = Orphans::adopt_all().unwrap();
        for code in 1..=50 {
            let spawner = supervise_harness::supervisor::SpawnerOptions::new()
                .agent_path("/bin/sh")
                .args(["-c".to_owned(), format!("sleep 5 & exit {code}")])
                .build()
                .unwrap();
            let never = RestartTracker::builder().policy(RestartPolicy::Never);
            let (supervisor, _events) = Supervisor::builder(spawner, "worker")
                .tracker(never.build().unwrap())
                .orphans(&orphans)
                .start()
                .unwrap();
            let outcome = supervisor.wait().await.unwrap();
            let expected = format!("exit code {code}");
            assert!(outcome.to_string().contains(&expected), "{outcome}");
        }
    });
}

#[test]
fn the_probes_statuses_are_their_supervisors_where_all_are_adopted() {
    child::run(
        "orphans::the_probes_statuses_are_their_supervisors_where_all_are_adopted",
        || {
            // On a thread of its own it looks whenever something has ended, also before the supervisor.
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .unwrap();
            let inside = runtime.enter();
            let orphans = Orphans::adopt_all().unwrap();
            drop(inside);
            let other = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            other.block_on(async {
                let spawner = supervise_harness::supervisor::SpawnerOptions::new()
                    .agent_path("/bin/sleep")
                    .args(["1000"])
                    .build()
                    .unwrap();
                let probe = Probe::new("/bin/sh")
                    .args(["-c", "exit 7"])
                    .every(Duration::from_millis(1))
                    .timeout(Duration::from_secs(60))
                    .failures(NonZeroU32::new(50).unwrap());
                let never = RestartTracker::builder().policy(RestartPolicy::Never);
                let (_supervisor, mut events) = Supervisor::builder(spawner, "worker")
                    .tracker(never.build().unwrap())
                    .probe(probe)
                    .orphans(&orphans)
                    .start()
                    .unwrap();
                let mut failed = 0;
                while let Some((_, event)) = events.next().await {
                    match event {
                        SupervisorEvent::ProbeFailed { failure, .. } => {
                            assert_eq!(failure.to_string(), "exit code 7");
                            failed += 1;
                        }
                        SupervisorEvent::Resting(_) => break,
                        _ => {}
                    }
                }
                assert_eq!(failed, 50);
            });
        },
    );
}
