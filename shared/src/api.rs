//! The HTTP contract as types: what requests bring, what answers show, and the
//! document that is made of them.

pub mod calls;
pub mod campaigns;
pub mod decisions;
pub mod deliveries;
pub mod document;
pub mod reports;
