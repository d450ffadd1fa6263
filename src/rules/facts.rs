//! What the harness saw besides the timeline.

use std::collections::BTreeMap;
use std::ffi::OsString;

use agent_stub::{Hygiene, Signal};

/// What the harness saw besides the timeline.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Facts {
    /// What each run inherited, by the number of the run.
    pub hygiene: BTreeMap<u32, Hygiene>,
    /// The process group and the session of the subject, if the subject runs in the test's own
    /// process.
    pub own_group: Option<(u32, u32)>,
    /// The content of the service's output file.
    pub output: Option<Vec<u8>>,
    /// How many descriptors each restart left open in the subject's process. Only those count that
    /// stayed open to the end.
    pub descriptors: Vec<usize>,
    /// The environment of the subject's process, if the subject runs in the test's own process.
    pub environment: Vec<(OsString, OsString)>,
    /// Processes that the subject must not touch, by name, and whether each was left as it should
    /// be.
    pub bystanders: Vec<(String, bool)>,
    /// Signals that the subject sent to the process id of a process that had been reaped, or to the
    /// process group of that id. Each comes with the number of the run that had the id, if it was a
    /// run. `None` if the harness did not look.
    pub strays: Option<Vec<(Signal, Option<u32>)>>,
    /// Which thread of the subject's process started the first run; `None` if the harness did not
    /// look.
    pub starter: Option<StartedBy>,
    /// Other findings of a rule's case, by the name of the fact.
    pub numbers: BTreeMap<&'static str, u64>,
}

/// Which thread started a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartedBy {
    /// The thread that the subject runs on. It ends with the subject.
    Own,
    /// A thread that has ended since.
    Ended,
    /// Another thread, which has not ended.
    Other,
}
