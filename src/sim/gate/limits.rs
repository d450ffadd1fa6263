//! How long the gate waits, for whom and for what.

use std::time::Duration;

/// real-time: how long the gate holds the runtime for something that is at work and is no agent. An agent comes to rest
/// by itself. Anything else may not, and it may wait for something that only a task can do.
pub(super) const PATIENCE: Duration = Duration::from_millis(1);

/// real-time: how long time stands still for a zombie that tokio, or a thread of unknown origin, may be about to reap.
pub(super) const REAPING: Duration = Duration::from_millis(100);

/// real-time: how long time stands still for another thread's child that still runs this program: a spawn returns
/// before its exec is done.
pub(super) const EXEC: Duration = Duration::from_secs(1);

/// How long the end of an exec takes at most, in time on a processor.
pub(super) const CLOSING: Duration = Duration::from_micros(500);

/// How long a fork takes at most, in time on a processor.
pub(super) const FORK: Duration = Duration::from_micros(300);

/// real-time: how long a process that has said hello waits to be taken in while another process is at work that may
/// begin before it.
pub(super) const WELCOME: Duration = Duration::from_millis(20);

/// real-time: how long a process that has connected counts as about to say hello, which holds up everything. It may
/// never say hello.
pub(super) const HELLO: Duration = Duration::from_millis(20);

/// real-time: how long an agent that is due waits for something that is no agent and is at work.
pub(super) const OTHERS: Duration = Duration::from_millis(20);

/// real-time: how long the gate holds the runtime at most while some process that is no agent always goes on.
pub(super) const GOING_ON: Duration = Duration::from_millis(100);

/// real-time: how long the gate waits for news of the processes before it looks at them again.
pub(super) const LOOK: Duration = Duration::from_micros(200);

/// real-time: how long the gate looks without a pause at an agent that is about to rest.
pub(super) const SOON: Duration = Duration::from_micros(100);

/// real-time: how long the end of the body waits for an agent or a thread that does not come to rest.
pub(super) const ENDING: Duration = Duration::from_secs(1);
