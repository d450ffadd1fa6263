//! The integration tests: one binary, a module per topic.

mod backoff;
mod child;
mod clock;
mod conformance;
mod determinism;
mod faults;
mod follow;
mod imports;
mod killed;
mod leaks;
mod orphans;
mod policy;
mod properties;
mod restart_loop;
mod rules;
mod scenarios;
mod shortage;
mod sim;
mod spawner;
mod stub;
mod supervisor;
mod supervisor_group;
mod supervisor_lock;
mod supervisor_probe;
mod surroundings;
#[path = "../../fixtures/sweeper.rs"]
mod sweeper;
mod timeline;
mod unmodified;
mod watcher;
