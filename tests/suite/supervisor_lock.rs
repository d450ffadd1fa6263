//! The lock that says in whose hands a service is.

use std::fs::File;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use supervise_harness::supervisor::{
    Supervisor, SupervisorBuilder, SupervisorError, SupervisorGroup,
};
use supervise_harness::{Script, Sim, SimHandle};

/// A supervisor of an agent of that name, with that lock.
fn builder(sim: &SimHandle, name: &str, lock: &Path) -> SupervisorBuilder {
    let agent = sim.agent(name, Script::new());
    Supervisor::builder(agent.spawner_options().build().unwrap(), name).lock(lock)
}

fn holder(error: &SupervisorError) -> Option<u32> {
    match error {
        SupervisorError::Locked { holder, .. } => *holder,
        other => panic!("{other}"),
    }
}

#[test]
fn a_second_supervisor_is_refused_until_the_first_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    Sim::new().run(async |sim| {
        let (first, _events) = builder(&sim, "first", &lock).start().unwrap();
        let run = sim.agent("first", Script::new()).started().await;
        let refused = builder(&sim, "second", &lock).start().unwrap_err();
        assert_eq!(holder(&refused), Some(std::process::id()));
        assert_eq!(
            refused.to_string(),
            format!(
                "{} is locked by process {}: the service is in other hands",
                lock.display(),
                std::process::id()
            )
        );
        // Nothing was started, and the first goes on.
        assert!(run.is_alive());
        // A supervisor that rests has its service in its hands.
        first.stop().await.unwrap();
        assert!(builder(&sim, "second", &lock).start().is_err());
        drop(first);
        // Its task ends when it gets a turn, and what another test forks has the lock until its exec.
        let (second, _events) = loop {
            match builder(&sim, "second", &lock).start() {
                Ok(started) => break started,
                Err(error) => drop(holder(&error)),
            }
            tokio::task::yield_now().await;
        };
        sim.agent("second", Script::new()).started().await;
        second.stop().await.unwrap();
    });
}

#[test]
fn an_agent_inherits_the_lock_as_descriptor_4_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    Sim::new().run(async |sim| {
        let (supervisor, _events) = builder(&sim, "worker", &lock).start().unwrap();
        let run = sim.agent("worker", Script::new()).started().await;
        let hygiene = run.hygiene().await.unwrap();
        let numbers: Vec<u32> = hygiene.descriptors.into_keys().collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        supervisor.stop().await.unwrap();
    });
}

#[test]
fn what_outlives_its_supervisor_has_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    Sim::builder()
        .allow_leaks()
        .build()
        .unwrap()
        .run(async |sim| {
            // A descendant out of reach: it is as good as an agent whose supervisor was killed.
            let script = Script::new().start(
                "left",
                supervise_harness::stub::script::Placement::OwnSession,
                Script::new(),
            );
            let agent = sim.agent("worker", script);
            let options = agent.spawner_options().build().unwrap();
            let worker = Supervisor::builder(options, "worker").lock(&lock);
            let (supervisor, _events) = worker.start().unwrap();
            let run = agent.started().await;
            run.hygiene().await.unwrap();
            supervisor.stop().await.unwrap();
            drop(supervisor);
            tokio::task::yield_now().await;
            let refused = builder(&sim, "next", &lock).start().unwrap_err();
            // Neither the supervisor nor the agent has it any more, and the file names no other.
            assert_eq!(holder(&refused), None);
            assert_eq!(
                refused.to_string(),
                format!(
                    "{} is locked: the service is in other hands",
                    lock.display()
                )
            );
        });
}

#[test]
fn a_lock_that_cannot_be_made_is_another_error() {
    Sim::new().run(async |sim| {
        let path = Path::new("/nowhere/lock");
        let error = builder(&sim, "worker", path).start().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot take the lock /nowhere/lock: No such file or directory (os error 2)"
        );
    });
}

#[test]
fn a_group_whose_child_is_locked_starts_nothing_and_keeps_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let (free, taken) = (folder.path().join("free"), folder.path().join("taken"));
    let other = File::create(&taken).unwrap();
    let _other = Flock::lock(other, FlockArg::LockExclusive).unwrap();
    Sim::new().run(async |sim| {
        let group = SupervisorGroup::builder()
            .child(builder(&sim, "first", &free))
            .child(builder(&sim, "second", &taken));
        assert_eq!(holder(&group.start().unwrap_err()), None);
        assert_eq!(sim.agent("first", Script::new()).runs(), 0);
        // What another test forks has it until its exec.
        Flock::lock(File::open(&free).unwrap(), FlockArg::LockExclusive).unwrap();
    });
}
