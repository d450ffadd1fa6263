//! Waiting for the end of an agent.
