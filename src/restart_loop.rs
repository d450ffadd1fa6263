//! Starting until a start succeeds.
