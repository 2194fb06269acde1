//! Building blocks of programs on top of ports: actors, supervisors, services, replicas, timers and
//! topics.
//!
//! Everything here uses only the public interface of the crate; each file could be part of a
//! program. Chapter 6 of the tutorial (`docs/tutorial.md`) introduces them.

pub mod actor;
pub mod replica;
pub mod service;
pub mod supervisor;
pub mod timer;
pub mod topic;

/// Why an actor, or the start of a child, failed: any error, or a text.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
