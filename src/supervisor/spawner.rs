//! Starting agents, and closing them.

// In the order of the data flow: a module imports only from modules above it.
mod error;

mod handle;

mod stdio;

mod options;

mod launch;

mod spawn;

pub use error::SpawnError;
pub use handle::{AgentHandle, CloseError, SignalError};
pub use options::SpawnerOptions;
pub use spawn::Spawner;
pub use stdio::AgentStdio;
