//! Starting agents.
