//! What happened, in order.
