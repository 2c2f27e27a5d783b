//! Who is let in: where requests come from, sign-in, sessions.

pub mod id_token;
pub mod origin;
pub mod provider;
pub mod seal;
pub mod session;
pub mod sign_in;
