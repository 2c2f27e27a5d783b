//! Bodies as items: compressed, and split where one item can't hold them.

use std::io;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use crate::error::Error;

/// Compressed bytes in one item, under DynamoDB's 400 KB with room for the rest.
const CHUNK_BYTES: usize = 380_000;
/// The largest body that is unpacked again.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Where another level costs more on the processor than it saves at the store, by the table in
/// `docs/PERFORMANCE.md`.
const LEVEL: i32 = 10;
/// The logarithm of how many places zstd remembers. The level's own tables grow with the body, to
/// 16 MB, which costs more to clear and to look into than it saves.
const HASH_LOG: u32 = 17;

/// How long bodies are kept after they came; by default for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BodyRetention(Option<SignedDuration>);

impl BodyRetention {
    /// The first instant at which a body is gone that came at an instant.
    #[must_use]
    pub fn end(self, received_at: Timestamp) -> Option<Timestamp> {
        received_at.checked_add(self.0?).ok()
    }
}

impl FromStr for BodyRetention {
    type Err = String;

    /// Reads a number of days; 0 is for ever.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let days: u16 = text
            .parse()
            .map_err(|_| format!("{text:?} is no number of days"))?;
        Ok(Self(
            (days > 0).then(|| SignedDuration::from_hours(24 * i64::from(days))),
        ))
    }
}

/// Whether time-to-live is over by an instant; DynamoDB deletes days later.
pub(super) fn is_over(expires_at: Option<i64>, now: Timestamp) -> bool {
    expires_at.is_some_and(|expires_at| expires_at <= now.as_second())
}

/// A chunk as stored; the first one of a body tells how many there are.
#[derive(Deserialize)]
pub(super) struct ChunkItem {
    zstd: serde_bytes::ByteBuf,
    #[serde(default)]
    pub(super) expires_at: Option<i64>,
    #[serde(default)]
    pub(super) chunks: Option<usize>,
    #[serde(default)]
    pub(super) bytes: Option<usize>,
}

/// A body compressed, in chunks of which each fits one item; at least one.
///
/// # Errors
/// When there is no memory for it.
pub fn pack_body(body: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let compress = || {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.set_parameter(CParameter::HashLog(HASH_LOG))?;
        compressor.compress(body)
    };
    let packed = compress().map_err(|error: io::Error| Error::internal("compressing a body", error))?;
    Ok(packed.chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect())
}

/// A body of so many bytes from all of its chunks.
pub(super) fn unpack(chunks: Vec<ChunkItem>, bytes: usize) -> Result<Vec<u8>, Error> {
    if bytes > MAX_BYTES {
        return Err(Error::unexpected(format!("a stored body claims {bytes} bytes")));
    }
    let packed: Vec<u8> = chunks
        .into_iter()
        .flat_map(|chunk| chunk.zstd.into_vec())
        .collect();
    zstd::bulk::decompress(&packed, bytes).map_err(|error| Error::internal("unpacking a body", error))
}
