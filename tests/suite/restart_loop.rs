//! The integration tests of `restart_loop`.
