//! What the functions share: the domain, the store, and what every function needs.
//!
//! The domain modules know no HTTP, no AWS, no environment and no clock.

pub mod api;
pub mod attribution;
pub mod calendar;
pub mod call;
pub mod campaign;
pub mod completeness;
pub mod contacts;
pub mod conversation;
pub mod conversion;
pub mod decide;
pub mod decision;
pub mod delivery;
pub mod details;
pub mod erasure;
pub mod error;
pub mod export;
pub mod http;
pub mod identity;
pub mod ingest;
mod lenient;
pub mod listing;
pub mod metrics;
pub mod phone_number;
pub mod query;
pub mod replay;
pub mod report;
pub mod runtime;
pub mod secrets;
pub mod store;
mod time_id;
