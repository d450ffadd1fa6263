//! The harness's side of an agent.
