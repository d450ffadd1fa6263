//! The integration tests of `leaks`.
