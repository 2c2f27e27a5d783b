//! The stand-in for AWS: runs what `template.yaml` describes on one machine.
//!
//! It knows the functions only by the template, the Lambda Runtime API and
//! their binaries, and depends on no crate of theirs. [`Stack`] is the door:
//! `cargo local` keeps one running, and every test starts its own.

mod authorizer;
pub mod backup;
pub mod bench;
mod binaries;
pub mod clock;
mod cloudformation;
pub mod conversation;
pub mod demo;
pub mod doctor;
pub mod dynamodb;
mod gateway;
pub mod issuer;
pub mod lambda;
pub mod load;
pub mod logs;
pub mod permissions;
pub mod secrets;
pub mod sender;
mod stack;
pub mod template;

pub use stack::{DEFAULT_WEBHOOK_SECRET, Options, Stack, workspace};
