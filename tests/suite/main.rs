//! The integration tests: one binary, a module per topic.

mod backoff;
mod child;
mod clock;
mod policy;
mod properties;
mod restart_loop;
mod spawner;
mod stub;
mod supervisor;
mod watcher;
