//! The one way in: webhook and sync take calls in by this path, and nothing
//! else writes the facts of a call.

use jiff::Timestamp;

use crate::attribution::{Candidates, attribute};
use crate::call::{ArrivedBy, Call, CallId};
use crate::decision::Decisions;
use crate::error::Error;
use crate::store::calls::{CallRecord, CallStore, Head, Presence, Version, Written};
use crate::store::campaigns::CampaignStore;
use crate::store::deliveries::DeliveryResult;
use crate::store::{WRITE_ATTEMPTS, pause_before};

/// One version of the facts of a call, with the body that told them.
#[derive(Debug, Clone)]
pub struct Arrival<'a> {
    /// The facts.
    pub call: Call,
    /// Which version they are.
    pub version: Version,
    /// The body, as received.
    pub body: &'a [u8],
    /// Which way it came.
    pub by: ArrivedBy,
    /// When it came.
    pub at: Timestamp,
    /// When the body came, for the first time where it is read again.
    pub body_came_at: Timestamp,
    /// Whether it is a body that may be here already, read again: facts that the
    /// same body told otherwise to other code or settings are then replaced.
    pub read_again: bool,
    /// What the provider's listing said of it when it was fetched for that; kept with
    /// the head, so that the same words have it fetched only once.
    pub listed_as: Option<String>,
}

/// What an arrival came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The call is new.
    Stored,
    /// The call has newer facts.
    Updated,
    /// These bytes were here before; the call does not change.
    Duplicate,
    /// Newer facts are here already; the body is kept.
    Older,
    /// The call was erased; nothing of this is kept.
    Erased,
}

impl Taken {
    /// As the delivery log tells it, and why where that needs saying.
    #[must_use]
    pub fn result(self) -> (DeliveryResult, Option<String>) {
        match self {
            Self::Stored => (DeliveryResult::Stored, None),
            Self::Updated => (DeliveryResult::Updated, None),
            Self::Duplicate => (DeliveryResult::Duplicate, None),
            Self::Older => (DeliveryResult::Ignored, Some("older_version".to_owned())),
            Self::Erased => (DeliveryResult::Ignored, Some("erased".to_owned())),
        }
    }
}

/// What an arrival would come to.
#[derive(Debug, Clone)]
pub struct Foreseen {
    /// In a word.
    pub taken: Taken,
    /// The head as it is; `None` where there is no such call.
    pub before: Option<Head>,
    /// The head as it would be.
    pub after: Option<Head>,
}

/// What has to be written for an arrival.
struct Plan {
    taken: Taken,
    /// The head as it was read.
    before: Option<Head>,
    head: Option<Head>,
    /// Whether the body is to be written; of an erased call, to be taken back.
    body: bool,
    month: bool,
}

/// Takes calls in.
#[derive(Debug, Clone)]
pub struct Ingest {
    calls: CallStore,
    campaigns: CampaignStore,
}

impl Ingest {
    /// Into these stores.
    #[must_use]
    pub fn new(calls: CallStore, campaigns: CampaignStore) -> Self {
        Self { calls, campaigns }
    }

    /// Takes an arrival in; when this returns, it is durable.
    ///
    /// Two sequential round trips to the store: everything is read at once,
    /// then everything is written at once (by sync, the head last), `alongside` with it, which is told
    /// what the arrival comes to. Where somebody else wrote the head in between,
    /// both are done again, so `alongside` may run more than once.
    ///
    /// Nothing is written in a transaction. An arrival is a [`Taken::Duplicate`]
    /// only where its body is there whole and its call as well, so a write that
    /// broke off half-way is completed by the next attempt.
    ///
    /// # Errors
    /// When the store fails; the arrival is then to be sent again.
    pub async fn take_in<A: Future<Output = ()>>(
        &self,
        arrival: &Arrival<'_>,
        alongside: impl Fn(Taken) -> A,
    ) -> Result<Taken, Error> {
        // Whether these bytes were here before this arrival, not only before its last round.
        let mut was_here = None;
        for attempt in 0..WRITE_ATTEMPTS {
            pause_before(attempt).await;
            let plan = self.plan(arrival, &mut was_here).await?;
            if plan.taken == Taken::Erased && (attempt > 0 || plan.body) {
                // An attempt before this one did not know.
                self.take_body_back(arrival).await?;
            }
            let (written, ()) = tokio::join!(self.carry_out(arrival, &plan), alongside(plan.taken));
            match written? {
                // No head was in the way of a body alone.
                Written::Done
                    if plan.body && plan.head.is_none() && self.was_erased(&arrival.call.id).await? =>
                {
                    self.take_body_back(arrival).await?;
                    alongside(Taken::Erased).await;
                    return Ok(Taken::Erased);
                }
                Written::Done => return Ok(plan.taken),
                Written::Conflict => {}
            }
        }
        Err(Error::unavailable(
            format!("taking in call {}", arrival.call.id),
            std::io::Error::other("others kept writing the same call"),
        ))
    }

    /// Whether the call of a conversation was erased, so that nothing about it is kept.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn was_erased(&self, id: &CallId) -> Result<bool, Error> {
        self.calls.was_erased(id).await
    }

    /// What an arrival would come to, without taking it in.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn foresee(&self, arrival: &Arrival<'_>) -> Result<Foreseen, Error> {
        let plan = self.plan(arrival, &mut None).await?;
        Ok(Foreseen {
            taken: plan.taken,
            after: plan.head.or_else(|| plan.before.clone()),
            before: plan.before,
        })
    }

    async fn take_body_back(&self, arrival: &Arrival<'_>) -> Result<(), Error> {
        let Arrival {
            call,
            version,
            body,
            at,
            ..
        } = arrival;
        self.calls
            .take_body_back(&call.id, &version.sha256, body, *at)
            .await
    }

    async fn plan(&self, arrival: &Arrival<'_>, was_here: &mut Option<bool>) -> Result<Plan, Error> {
        let Arrival { call, version, .. } = arrival;
        let (presence, has_body, lists_month, candidates) = tokio::try_join!(
            self.calls.presence(&call.id),
            self.calls.has_body(&call.id, &version.sha256, arrival.at),
            self.calls.lists_month_of(call.started_at),
            self.campaigns.candidates(call),
        )?;
        let head = match presence {
            Presence::Erased => {
                return Ok(Plan {
                    taken: Taken::Erased,
                    before: None,
                    head: None,
                    body: has_body,
                    month: false,
                });
            }
            Presence::Here(head) => Some(*head),
            Presence::New => None,
        };
        let was_here = *was_here.get_or_insert(has_body);
        let before = head.clone();
        let tells_otherwise = |head: &Head| {
            arrival.read_again && head.version.sha256 == version.sha256 && head.record.call != *call
        };
        let taken = match &head {
            None => Taken::Stored,
            Some(head) if tells_otherwise(head) => Taken::Updated,
            // Without its body, the write of these facts broke off half-way.
            Some(head) if head.version.sha256 == version.sha256 && !has_body => Taken::Stored,
            Some(head) if head.version.sha256 == version.sha256 => Taken::Duplicate,
            Some(head) if head.version < *version => Taken::Updated,
            Some(_) if was_here => Taken::Duplicate,
            Some(_) => Taken::Older,
        };
        let head = match head {
            Some(head) if tells_otherwise(&head) => {
                let version = head.version;
                let head = new_head(arrival, Some(head), &candidates);
                Some(Head { version, ..head })
            }
            // Nothing new, but what it was fetched for is to be known.
            Some(head) if head.version >= *version => {
                let listed_as = arrival.listed_as.clone();
                let is_news = listed_as.is_some() && listed_as != head.listed_as;
                is_news.then(|| Head {
                    listed_as,
                    revision: head.revision + 1,
                    ..head
                })
            }
            // The same facts, said again later: only their place in time moves.
            Some(head) if head.version.sha256 == version.sha256 => Some(Head {
                version: *version,
                listed_as: arrival.listed_as.clone().or(head.listed_as),
                revision: head.revision + 1,
                ..head
            }),
            older => Some(new_head(arrival, older, &candidates)),
        };
        Ok(Plan {
            taken,
            before,
            head,
            body: !has_body,
            month: !lists_month,
        })
    }

    async fn carry_out(&self, arrival: &Arrival<'_>, plan: &Plan) -> Result<Written, Error> {
        let id = &arrival.call.id;
        let body = async {
            if plan.body && plan.taken != Taken::Erased {
                let sha256 = &arrival.version.sha256;
                self.calls
                    .put_body(id, sha256, arrival.body, arrival.body_came_at)
                    .await?;
            }
            Ok(())
        };
        let month = async {
            if plan.month {
                self.calls.list_month_of(arrival.call.started_at).await?;
            }
            Ok(())
        };
        let head = async {
            match &plan.head {
                Some(head) => self.calls.put_head(head).await,
                None => Ok(Written::Done),
            }
        };
        match arrival.by {
            // What breaks off half-way is repeated by the sender.
            ArrivedBy::Webhook => {
                let (head, (), ()) = tokio::try_join!(head, body, month)?;
                Ok(head)
            }
            // Nobody repeats it where its head says that it is here.
            ArrivedBy::Sync => {
                tokio::try_join!(body, month)?;
                head.await
            }
        }
    }
}

/// The head with an arrival's facts, and the rules asked again. What people
/// decided stays.
#[must_use]
pub fn new_head(arrival: &Arrival<'_>, old: Option<Head>, candidates: &Candidates) -> Head {
    let attribution = attribute(&arrival.call, candidates);
    let (revision, decisions, arrived_by, received_at, listed_before) = match old {
        Some(Head {
            record,
            revision,
            listed_as,
            ..
        }) => (
            revision + 1,
            record.decisions,
            record.arrived_by,
            record.received_at,
            listed_as,
        ),
        None => (1, Decisions::default(), arrival.by, arrival.at, None),
    };
    Head {
        record: CallRecord {
            call: arrival.call.clone(),
            rule_result: attribution.rule_result(arrival.at),
            decisions,
            arrived_by,
            received_at,
            updated_at: arrival.at,
        },
        evidence: attribution.evidence().cloned(),
        candidates: attribution.candidates().to_vec(),
        reattributed_by: None,
        listed_as: arrival.listed_as.clone().or(listed_before),
        version: arrival.version,
        revision,
    }
}
