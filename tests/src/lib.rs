//! The stories of the product, told through the real binaries behind the local
//! gateway. One module for each story; nothing here knows the product's code.

#![cfg(test)]

mod support;

mod access;
mod assigning;
mod attributing;
mod browsing;
mod budgets;
mod campaigns;
mod chaos;
mod chromium;
mod costs;
mod deciding;
mod demonstrating;
mod deployed;
mod documenting;
mod durability;
#[cfg(feature = "sam")]
mod emulated;
mod erasing;
mod examining;
mod exporting;
mod failing_store;
mod finding;
mod floods;
mod large_bodies;
mod layers;
mod limiting;
mod listing;
mod local_stack;
mod logging;
mod measuring;
mod permitting;
mod provider;
mod reattributing;
mod receiving;
mod refusing;
mod repeating;
mod replaying;
mod reporting;
mod restoring;
mod retaining;
mod signing_in;
mod syncing;
mod tidy;
#[cfg(feature = "sam")]
mod transformed;
mod visiting;
