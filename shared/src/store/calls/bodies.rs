//! The raw bodies of calls.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::{CallStore, Head};
use crate::call::CallId;
use crate::error::Error;
use crate::store::body::{ChunkItem, is_over, pack_body, unpack};
use crate::store::{failure, from_item, text};

impl CallStore {
    /// Whether a body of a call is stored whole.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_body(&self, id: &CallId, sha256: &[u8; 32], now: Timestamp) -> Result<bool, Error> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("call_id", text(id.as_str()))
            .key("part", text(body_part(sha256, 0)))
            .projection_expression("expires_at, chunks")
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| failure(format!("looking for a body of call {id}"), error))?;
        let Some(item) = answer.item else {
            return Ok(false);
        };
        let first: FirstItem = from_item(&format!("a body of call {id}"), item)?;
        Ok(first.chunks.is_some() && !is_over(first.expires_at, now))
    }

    /// Whether the newest body of a call has to be there; not so where it was kept long
    /// enough.
    #[must_use]
    pub fn keeps_body(&self, head: &Head, now: Timestamp) -> bool {
        let end = self.body_retention.end(head.record.received_at);
        end.is_none_or(|end| now < end)
    }

    /// Stores a body whole that came at an instant. Its first chunk goes last and marks it complete, so
    /// that a write that broke off is seen as none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put_body(
        &self,
        id: &CallId,
        sha256: &[u8; 32],
        body: &[u8],
        received_at: Timestamp,
    ) -> Result<(), Error> {
        let end = self.body_retention.end(received_at);
        let mut chunks = pack_body(body)?.into_iter().enumerate();
        let whole = (chunks.len(), body.len());
        let first = chunks.next();
        let mut others = JoinSet::new();
        for (index, chunk) in chunks {
            let (store, id, sha256) = (self.clone(), id.clone(), *sha256);
            others.spawn(async move { store.put_chunk(&id, &sha256, index, chunk, None, end).await });
        }
        while let Some(written) = others.join_next().await {
            written.map_err(|error| Error::internal("storing a body", error))??;
        }
        match first {
            Some((index, chunk)) => self.put_chunk(id, sha256, index, chunk, Some(whole), end).await,
            None => Err(Error::unexpected("a body without a chunk")),
        }
    }

    async fn put_chunk(
        &self,
        id: &CallId,
        sha256: &[u8; 32],
        index: usize,
        packed: Vec<u8>,
        whole: Option<(usize, usize)>,
        end: Option<Timestamp>,
    ) -> Result<(), Error> {
        let mut put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("call_id", text(id.as_str()))
            .item("part", text(body_part(sha256, index)))
            .item("zstd", AttributeValue::B(Blob::new(packed)));
        if let Some((chunks, bytes)) = whole {
            put = put
                .item("chunks", AttributeValue::N(chunks.to_string()))
                .item("bytes", AttributeValue::N(bytes.to_string()));
        }
        if let Some(end) = end {
            put = put.item("expires_at", AttributeValue::N(end.as_second().to_string()));
        }
        put.send()
            .await
            .map_err(|error| failure(format!("writing a body of call {id}"), error))?;
        Ok(())
    }

    /// A body of a call, byte for byte; `None` where it is not stored whole, or not any more.
    ///
    /// # Errors
    /// When the store fails, or what it holds is not what was stored.
    pub async fn body(
        &self,
        id: &CallId,
        sha256: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut items = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("call_id = :id AND begins_with(part, :prefix)")
            .expression_attribute_values(":id", text(id.as_str()))
            .expression_attribute_values(":prefix", text(format!("body#{}#", hex::encode(sha256))))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let what = format!("a body of call {id}");
        let mut chunks: Vec<ChunkItem> = Vec::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(|error| failure(format!("reading {what}"), error))?;
            chunks.push(from_item(&what, item)?);
        }
        // They expire together, and are deleted one by one.
        chunks.retain(|chunk| !is_over(chunk.expires_at, now));
        let Some(&ChunkItem {
            chunks: Some(count),
            bytes: Some(bytes),
            ..
        }) = chunks.first()
        else {
            return Ok(None);
        };
        if count > chunks.len() {
            return Err(Error::unexpected(format!("{what} is not what was stored")));
        }
        // A write that broke off under other code may have left more of them.
        chunks.truncate(count);
        unpack(chunks, bytes).map(Some)
    }
}

/// What the first chunk tells of a body, without the chunk; a mark tells nothing.
#[derive(Deserialize)]
struct FirstItem {
    #[serde(default)]
    chunks: Option<usize>,
    #[serde(default)]
    expires_at: Option<i64>,
}

pub(super) fn body_part(sha256: &[u8; 32], chunk: usize) -> String {
    format!("body#{}#{chunk:03}", hex::encode(sha256))
}
