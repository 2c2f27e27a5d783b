//! What is done about the conversations of a page: nothing where they are here as they
//! are listed; the others are fetched and taken in.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use shared::call::ArrivedBy;
use shared::completeness::{RunError, Standing};
use shared::conversation::Fetched;
use shared::ingest::{Arrival, Taken};
use shared::listing::Listed;
use shared::store::calls::{CallRecord, Head, Version};

use crate::provider::Trouble;
use crate::run::{CONCURRENCY, Stop, Work, stop, told};
use crate::walk::Met;

/// What was done about an entry of the listing.
struct Settled {
    entry: Listed,
    /// `None`: it is gone.
    standing: Option<Standing>,
    fetched: bool,
    taken: Option<Taken>,
    trouble: Option<Trouble>,
}

impl Work<'_> {
    /// Takes in what is missing of a page. What fails has a second chance.
    pub async fn settle(&mut self, fresh: Vec<Listed>, met: &mut Met) -> Result<(), Stop> {
        let is_last_chance = !self.session()?.is_patient();
        let failed = self.settle_all(fresh, met, is_last_chance).await?;
        self.settle_all(failed, met, true).await?;
        Ok(())
    }

    /// The entries that are worth another try.
    async fn settle_all(
        &mut self,
        entries: Vec<Listed>,
        met: &mut Met,
        is_last_chance: bool,
    ) -> Result<Vec<Listed>, Stop> {
        let known: Vec<_> = entries
            .into_iter()
            .map(|entry| {
                let held = met.held(&entry.id);
                (entry, held)
            })
            .collect();
        let mut done = Vec::new();
        let mut stopped = None;
        {
            let (work, is_stopping) = (&*self, &AtomicBool::new(false));
            let settling = stream::iter(known).map(|(entry, held)| async move {
                if is_stopping.load(Ordering::Relaxed) {
                    return Err(Stop::OutOfTime);
                }
                work.settle_one(entry, held).await
            });
            // What is being written when the run stops is written to its end.
            let mut settling = settling.buffer_unordered(CONCURRENCY);
            while let Some(settled) = settling.next().await {
                match settled {
                    Ok(settled) => done.push(settled),
                    Err(stop) => {
                        is_stopping.store(true, Ordering::Relaxed);
                        stopped = stopped.or(Some(stop));
                    }
                }
            }
        }
        let mut failed = Vec::new();
        for settled in done {
            failed.extend(self.note(settled, met, is_last_chance));
        }
        match stopped {
            Some(stop) => Err(stop),
            None => Ok(failed),
        }
    }

    /// Notes what was done about an entry; gives it back where that is to be tried again.
    fn note(&mut self, settled: Settled, met: &mut Met, is_last_chance: bool) -> Option<Listed> {
        let Settled {
            entry,
            standing,
            fetched,
            taken,
            trouble,
        } = settled;
        if let Some(trouble) = trouble {
            if !is_last_chance {
                return Some(entry);
            }
            tracing::warn!(call_id = %entry.id, ?trouble, "a conversation could not be fetched");
            self.run.tell(RunError {
                conversation_id: Some(entry.id.clone()),
                ..told(&trouble)
            });
        }
        self.run.fetched += u64::from(fetched);
        self.run.gone += u64::from(standing.is_none());
        match taken {
            Some(Taken::Stored) => self.run.stored += 1,
            Some(Taken::Updated) => self.run.updated += 1,
            Some(Taken::Duplicate | Taken::Older | Taken::Erased) | None => {}
        }
        met.note(&entry, standing);
        None
    }

    /// Takes one conversation in, where that is needed.
    async fn settle_one(&self, entry: Listed, held: Option<CallRecord>) -> Result<Settled, Stop> {
        let settled = |standing| Settled {
            standing: Some(standing),
            fetched: false,
            taken: None,
            trouble: None,
            entry: entry.clone(),
        };
        if let Some(record) = &held {
            if record.call.id.is_erased() {
                return Ok(settled(Standing::Held(record.arrived_by)));
            }
            let was_proven = self.unproven_from.is_some_and(|from| record.updated_at < from);
            if was_proven && !entry.contradicts(&record.call) {
                return Ok(settled(Standing::Held(record.arrived_by)));
            }
        }
        // The index may lag, and does not have all that a head has.
        let head = self.sync.calls.head(&entry.id).await?;
        let arrived_by = head.as_ref().map(|head| head.record.arrived_by);
        let is_here = match &head {
            Some(head) => self.is_as_listed(&entry, head) && self.is_whole(head).await?,
            None => false,
        };
        if is_here || !entry.is_final {
            return Ok(settled(arrived_by.map_or(Standing::Unfinished, Standing::Held)));
        }
        self.take_in(settled(Standing::Missing), arrived_by).await
    }

    /// Whether what is here is what fetching it would bring.
    fn is_as_listed(&self, entry: &Listed, head: &Head) -> bool {
        let agent_id = entry.agent_id.as_deref().unwrap_or_default();
        // What the provider may have kept less of is not brought up to date.
        let may_say_less = self.zero_retention(agent_id) != Some(false);
        let was_fetched = head.listed_as == Some(entry.fingerprint());
        may_say_less || was_fetched || !entry.contradicts(&head.record.call)
    }

    /// Whether a call was written to its end: a delivery that broke off may have left
    /// its head alone, and be repeated by nobody.
    async fn is_whole(&self, head: &Head) -> Result<bool, Stop> {
        let (calls, call, now) = (&self.sync.calls, &head.record.call, self.stopwatch.now());
        let (has_body, is_in_lists) = tokio::try_join!(
            calls.has_body(&call.id, &head.version.sha256, now),
            calls.lists_month_of(call.started_at),
        )?;
        Ok((has_body || !calls.keeps_body(head, now)) && is_in_lists)
    }

    async fn take_in(&self, mut settled: Settled, arrived_by: Option<ArrivedBy>) -> Result<Settled, Stop> {
        let entry = &settled.entry;
        let asked_at = self.stopwatch.now();
        let read = |body: Vec<u8>| {
            let fetched = Fetched::read(&body, entry.started_at, self.sync.country)?;
            if fetched.call.id == entry.id {
                Ok((body, fetched))
            } else {
                Err("another_conversation")
            }
        };
        let (body, fetched) = match self.session()?.conversation(&entry.id, read).await {
            Ok(fetched) => fetched,
            Err(Trouble::Gone) => {
                settled.standing = arrived_by.map(Standing::Held);
                return Ok(settled);
            }
            Err(trouble @ (Trouble::OutOfTime | Trouble::Held | Trouble::KeyRefused(401))) => {
                return Err(stop(trouble));
            }
            Err(trouble) => {
                settled.standing = Some(arrived_by.map_or(Standing::Missing, Standing::Held));
                settled.trouble = Some(match trouble {
                    // The key works, but not for this one.
                    Trouble::KeyRefused(status) => Trouble::Refused(status),
                    other => other,
                });
                return Ok(settled);
            }
        };
        settled.fetched = true;
        if !fetched.is_final {
            settled.standing = Some(arrived_by.map_or(Standing::Unfinished, Standing::Held));
            return Ok(settled);
        }
        let agent_id = fetched.call.agent_id.as_deref().unwrap_or_default();
        let may_say_less = fetched.is_remnant || self.zero_retention(agent_id) != Some(false);
        let arrival = Arrival {
            version: Version {
                // What was delivered, before or after, says more.
                at: if may_say_less {
                    fetched.call.started_at
                } else {
                    asked_at
                },
                sha256: Sha256::digest(&body).into(),
            },
            call: fetched.call,
            body: &body,
            by: ArrivedBy::Sync,
            at: asked_at,
            body_came_at: asked_at,
            read_again: false,
            listed_as: Some(entry.fingerprint()),
        };
        let taken = self.sync.ingest.take_in(&arrival, |_| async {}).await?;
        let arrived_by = match (arrived_by, taken) {
            (Some(before), _) => before,
            (None, Taken::Stored) => ArrivedBy::Sync,
            // A delivery came in between, or an erasure.
            (None, Taken::Updated | Taken::Duplicate | Taken::Older | Taken::Erased) => ArrivedBy::Webhook,
        };
        settled.standing = Some(Standing::Held(arrived_by));
        settled.taken = Some(taken);
        Ok(settled)
    }
}
