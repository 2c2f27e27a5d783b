//! One run: compare what the provider lists with what is here, take in what is
//! missing, and leave the rest to the next run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use shared::call::ArrivedBy;
use shared::completeness::{
    Compared, LedgerRow, Pass, Progress, Run, RunError, Standing, Trigger, day_of, first_instant,
};
use shared::conversation::Fetched;
use shared::error::Error;
use shared::ingest::{Arrival, Ingest, Taken};
use shared::listing::Listed;
use shared::metrics::{
    CALLS_FOUND_BY_SYNC, CALLS_MISSING, HOURS_BY_SYNC_ONLY, Metrics, SYNC_RUNS_FAILED, WEBHOOKS_DISABLED,
};
use shared::phone_number::Country;
use shared::runtime::{aws, default_country, setting};
use shared::secrets::SecretCache;
use shared::store::calls::{CallFilter, CallRecord, CallStore, Version};
use shared::store::campaigns::CampaignStore;
use shared::store::deliveries::DeliveryStore;
use shared::store::sync::{AgentSettings, SyncState, SyncStore};
use url::Url;

use crate::provider::{Provider, Session, Trouble};
use crate::silence::sync_only_since;
use crate::walk::{Met, Tallies};

/// Conversations that are fetched and taken in at the same time.
const CONCURRENCY: usize = 5;
/// How long the settings of an agent are not asked for again.
const AGENT_FRESH: SignedDuration = SignedDuration::from_hours(24);
/// Conversations that may fail before a run gives up: then it is not they.
const MOST_FAILURES: u64 = 20;
/// How often a run saves how far it has come, and renews its lease: well within
/// [`LEASE`](shared::store::sync::LEASE).
const SAVE_EVERY: Duration = Duration::from_secs(15);

/// The product's time in a run: the time of the request, and what has passed since.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    started_at: Timestamp,
    began: Instant,
}

impl Stopwatch {
    /// Begins at an instant.
    pub fn start(started_at: Timestamp) -> Self {
        Self {
            started_at,
            began: Instant::now(),
        }
    }

    /// The time now, to the millisecond as all times of ours.
    pub fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or_default();
        self.started_at + SignedDuration::from_millis(elapsed)
    }
}

/// Compares and takes in.
pub struct Sync {
    pub store: SyncStore,
    calls: CallStore,
    ingest: Ingest,
    deliveries: DeliveryStore,
    provider: Provider,
    api_key: SecretCache,
    country: Option<Country>,
    metrics: Metrics,
    /// How far back every run looks.
    window: SignedDuration,
    /// How many days back the first run looks.
    first_days: u32,
}

/// What became of a run.
pub enum Begun {
    /// It did what it could, and this is known now.
    Ended(Box<SyncState>),
    /// There is no API key.
    NotConfigured,
    /// Another run is under way.
    Busy,
}

/// Why a run ends before its work does.
enum Stop {
    /// Its time is over.
    OutOfTime,
    /// Another run took over.
    LeaseLost,
    /// The key is not accepted.
    KeyRefused(RunError),
    /// The provider does not answer as it should.
    Provider(RunError),
    /// Something of ours failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Sync {
    pub async fn from_environment() -> Result<Self, lambda_http::Error> {
        let aws = aws().await;
        let dynamodb = aws_sdk_dynamodb::Client::new(&aws);
        let calls = CallStore::new(dynamodb.clone(), setting("CALLS_TABLE")?);
        let campaigns = CampaignStore::new(dynamodb.clone(), setting("CAMPAIGNS_TABLE")?);
        Ok(Self {
            store: SyncStore::new(dynamodb.clone(), setting("SYNC_TABLE")?),
            ingest: Ingest::new(calls.clone(), campaigns),
            calls,
            deliveries: DeliveryStore::new(dynamodb, setting("DELIVERIES_TABLE")?),
            provider: Provider::new(setting::<Url>("ELEVENLABS_API_URL")?)?,
            api_key: SecretCache::new(
                aws_sdk_secretsmanager::Client::new(&aws),
                setting("API_KEY_SECRET_ID")?,
            ),
            country: default_country(),
            metrics: Metrics::new(setting("AWS_LAMBDA_FUNCTION_NAME")?),
            window: SignedDuration::from_hours(setting("WINDOW_HOURS")?),
            first_days: setting("FIRST_RUN_DAYS")?,
        })
    }

    /// Whether there is an API key.
    ///
    /// # Errors
    /// When that can't be found out.
    pub async fn is_configured(&self, now: Timestamp) -> Result<bool, Error> {
        Ok(self.api_key(now).await?.is_some())
    }

    async fn api_key(&self, now: Timestamp) -> Result<Option<String>, Error> {
        let Some(known) = self.api_key.get(now).await else {
            let cause = std::io::Error::other("the secret store is out of reach");
            return Err(Error::unavailable("fetching the API key", cause));
        };
        let key = known.values.first().map(|key| key.trim().to_owned());
        Ok(key.filter(|key| !key.is_empty()))
    }

    /// Runs for as long as the budget lasts, unless another run is under way.
    ///
    /// # Errors
    /// When something of ours fails: the next run goes on.
    pub async fn run(
        &self,
        trigger: Trigger,
        owner: &str,
        stopwatch: Stopwatch,
        budget: Duration,
    ) -> Result<Begun, Error> {
        let now = stopwatch.started_at;
        let Some(key) = self.api_key(now).await? else {
            return Ok(Begun::NotConfigured);
        };
        let run = Run::new(trigger, now);
        let Some(state) = self.store.begin(owner, &run, now).await? else {
            return Ok(Begun::Busy);
        };
        let deadline = tokio::time::Instant::now() + budget;
        let mut work = Work {
            sync: self,
            session: self.provider.session(&key, deadline),
            owner,
            stopwatch,
            saved: Instant::now(),
            before: state.progress.clone(),
            progress: state.progress.unwrap_or_else(|| Progress::new(now)),
            run,
            agents: HashMap::new(),
            failures: 0,
        };
        let stopped = tokio::select! {
            done = work.everything() => done.err(),
            lost = self.keep_lease(owner, stopwatch) => Some(lost),
        };
        work.end(stopped).await
    }

    /// Renews the lease for as long as it is held.
    async fn keep_lease(&self, owner: &str, stopwatch: Stopwatch) -> Stop {
        loop {
            tokio::time::sleep(SAVE_EVERY).await;
            match self.store.renew(owner, stopwatch.now()).await {
                Ok(true) => {}
                Ok(false) => return Stop::LeaseLost,
                Err(error) => return Stop::Failed(error),
            }
        }
    }
}

/// A run at work.
struct Work<'a> {
    sync: &'a Sync,
    /// `None` where the key can't even be sent.
    session: Option<Session<'a>>,
    owner: &'a str,
    stopwatch: Stopwatch,
    /// When the progress was saved last.
    saved: Instant,
    /// What the run before left.
    before: Option<Progress>,
    progress: Progress,
    run: Run,
    agents: HashMap<String, AgentSettings>,
    /// Conversations that could not be taken in.
    failures: u64,
}

/// What was done about an entry of the listing.
struct Settled {
    entry: Listed,
    standing: Option<Standing>,
    fetched: bool,
    taken: Option<Taken>,
    trouble: Option<Trouble>,
}

impl Work<'_> {
    async fn everything(&mut self) -> Result<(), Stop> {
        self.agents = self.sync.store.agents().await?;
        let now = self.run.started_at;
        loop {
            let recent = self.progress.begin(now, self.sync.window, self.sync.first_days);
            let (from, until) = (day_of(recent.from), recent.to);
            let recent = self.walk(recent, |progress, left| progress.recent = left).await?;
            self.progress.compared = Some(Compared { from, until });
            // What an earlier run left ends where that one began.
            if until >= now {
                self.look_at_the_webhook(&recent).await?;
                break;
            }
        }
        while let Some(day) = self.progress.due(now) {
            self.walk_day(day).await?;
        }
        Ok(())
    }

    /// Compares a day before the recent window.
    async fn walk_day(&mut self, day: Date) -> Result<(), Stop> {
        let interrupted = self.progress.day.take().filter(|pass| day_of(pass.from) == day);
        let whole = || {
            let (from, to) = (first_instant(day)?, first_instant(day.tomorrow().ok()?)?);
            Some(Pass::new(from, to))
        };
        let Some(pass) = interrupted.or_else(whole) else {
            self.progress.unsettled.remove(&day);
            return Ok(());
        };
        let tallies = self.walk(pass, |progress, left| progress.day = left).await?;
        let is_unsettled = tallies.values().any(|tally| tally.is_unsettled());
        self.progress.looked_at(day, is_unsettled, self.run.started_at);
        Ok(())
    }

    /// Compares a window, and writes what it came to into the ledger. Where it is
    /// stopped, `keep` keeps what is left.
    async fn walk(
        &mut self,
        pass: Pass,
        keep: impl Fn(&mut Progress, Option<Pass>),
    ) -> Result<Tallies, Stop> {
        let mut met = Met::default();
        let walked = async {
            self.walk_pages(&pass, &mut met, &keep).await?;
            let unlisted = met.unlisted_agents().map(str::to_owned).collect();
            self.learn_agents(unlisted).await?;
            let tallies = met.tallies(&pass, pass.from);
            self.write_ledger(&pass, &tallies).await?;
            Ok(tallies)
        };
        let walked = walked.await;
        keep(&mut self.progress, walked.is_err().then(|| met.left_of(&pass)));
        for tally in walked.iter().flat_map(|tallies: &Tallies| tallies.values()) {
            self.run.missing += tally.missing;
            self.run.unfinished += tally.unfinished;
        }
        walked
    }

    /// Writes the rows that changed.
    async fn write_ledger(&self, pass: &Pass, tallies: &Tallies) -> Result<(), Stop> {
        let last = pass.to - SignedDuration::from_millis(1);
        let known = self.sync.store.ledger(day_of(pass.from), day_of(last)).await?;
        let known: BTreeMap<_, _> = known
            .into_iter()
            .map(|row| (row.agent_day.clone(), row))
            .collect();
        let agent_days: BTreeSet<_> = known.keys().chain(tallies.keys()).collect();
        let rows = agent_days.into_iter().map(|agent_day| LedgerRow {
            agent_day: agent_day.clone(),
            // One that is gone altogether is told of with zeros.
            tally: tallies.get(agent_day).copied().unwrap_or_default(),
            is_checkable: !self.has_zero_retention(&agent_day.agent_id),
            checked_at: self.run.started_at,
        });
        let says_more = |row: &LedgerRow| {
            let before = known.get(&row.agent_day);
            before.is_none_or(|before| before.tally != row.tally || before.is_checkable != row.is_checkable)
        };
        let changed = rows.filter(says_more).collect();
        Ok(self.sync.store.put_rows(changed).await?)
    }

    async fn walk_pages(
        &mut self,
        pass: &Pass,
        met: &mut Met,
        keep: &impl Fn(&mut Progress, Option<Pass>),
    ) -> Result<(), Stop> {
        // Everything that is here and began from this instant on is known.
        let mut known_from = pass.before;
        let mut cursor: Option<String> = None;
        loop {
            let session = self.session()?;
            let page = session.list(pass.from, pass.before, cursor.as_deref()).await;
            let page = page.map_err(stop)?;
            if page.unreadable > 0 {
                let message = format!(
                    "{} entries of the listing have no id or no start",
                    page.unreadable
                );
                self.run.tell(error("provider_unreadable", message));
            }
            let fresh = met.fresh(page.entries, pass);
            self.run.listed += fresh.len() as u64;
            let earliest = fresh.iter().map(|entry| entry.started_at).min();
            let down_to = match &page.next_cursor {
                None => pass.from,
                Some(_) => earliest.map_or(known_from, |earliest| earliest.min(known_from)),
            };
            self.learn_held(met, down_to, known_from).await?;
            known_from = down_to;
            let agents = fresh.iter().filter_map(|entry| entry.agent_id.clone());
            self.learn_agents(agents.collect()).await?;
            self.settle(fresh, met).await?;
            if let Some(earliest) = earliest {
                met.settle_to(earliest);
            }
            match page.next_cursor {
                None => return Ok(()),
                // A listing that leads in a circle would have no end.
                next if next == cursor => {
                    let message = "the listing gives the same cursor again".to_owned();
                    return Err(Stop::Provider(error("provider_unreadable", message)));
                }
                next => cursor = next,
            }
            if self.saved.elapsed() >= SAVE_EVERY {
                keep(&mut self.progress, Some(met.left_of(pass)));
                self.save().await?;
            }
        }
    }

    async fn save(&mut self) -> Result<(), Stop> {
        let store = &self.sync.store;
        let now = self.stopwatch.now();
        if !store.save(self.owner, &self.progress, &self.run, now).await? {
            return Err(Stop::LeaseLost);
        }
        self.saved = Instant::now();
        Ok(())
    }

    /// Learns which calls are here that began in a window.
    async fn learn_held(&self, met: &mut Met, from: Timestamp, to: Timestamp) -> Result<(), Stop> {
        if from >= to {
            return Ok(());
        }
        let filter = CallFilter {
            from: Some(from),
            to: Some(to),
            ..CallFilter::default()
        };
        let calls = &self.sync.calls;
        calls
            .for_each(&filter, usize::MAX, |record| met.hold(record))
            .await?;
        Ok(())
    }

    /// Learns whether the provider keeps the conversations of these agents.
    async fn learn_agents(&mut self, ids: Vec<String>) -> Result<(), Stop> {
        let now = self.run.started_at;
        let is_known = |id: &String| {
            let known = self.agents.get(id);
            known.is_some_and(|known| now.duration_since(known.checked_at) < AGENT_FRESH)
        };
        let unknown: BTreeSet<String> = ids.into_iter().filter(|id| !is_known(id)).collect();
        let session = self.session()?;
        let asked: Vec<(String, Result<bool, Trouble>)> = stream::iter(unknown)
            .map(|id| async move {
                let answer = session.has_zero_retention(&id).await;
                (id, answer)
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        for (id, answer) in asked {
            let before = self.agents.get(&id).is_some_and(|known| known.zero_retention);
            let zero_retention = match &answer {
                Ok(zero_retention) => *zero_retention,
                Err(Trouble::OutOfTime) => return Err(Stop::OutOfTime),
                // Then it is as it was known to be, until somebody asks again.
                Err(_) => before,
            };
            let settings = AgentSettings {
                zero_retention,
                checked_at: now,
            };
            match answer {
                Ok(_) | Err(Trouble::Gone) => self.sync.store.put_agent(&id, &settings).await?,
                Err(trouble) => {
                    tracing::warn!(agent_id = id, ?trouble, "the settings of an agent can't be read");
                }
            }
            self.agents.insert(id, settings);
        }
        Ok(())
    }

    fn has_zero_retention(&self, agent_id: &str) -> bool {
        self.agents
            .get(agent_id)
            .is_some_and(|known| known.zero_retention)
    }

    /// Takes in what is missing of a page. What fails has a second chance.
    async fn settle(&mut self, fresh: Vec<Listed>, met: &mut Met) -> Result<(), Stop> {
        let failed = self.settle_all(fresh, met, false).await?;
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
        let mut stopped = Ok(());
        {
            let work = &*self;
            let mut settling = stream::iter(known)
                .map(|(entry, held)| work.settle_one(entry, held))
                .buffer_unordered(CONCURRENCY);
            while let Some(settled) = settling.next().await {
                match settled {
                    Ok(settled) => done.push(settled),
                    Err(stop) => {
                        stopped = Err(stop);
                        break;
                    }
                }
            }
        }
        let mut failed = Vec::new();
        for settled in done {
            failed.extend(self.note(settled, met, is_last_chance)?);
        }
        stopped.map(|()| failed)
    }

    /// Notes what was done about an entry; gives it back where that is to be tried again.
    fn note(
        &mut self,
        settled: Settled,
        met: &mut Met,
        is_last_chance: bool,
    ) -> Result<Option<Listed>, Stop> {
        let Settled {
            entry,
            standing,
            fetched,
            taken,
            trouble,
        } = settled;
        if let Some(trouble) = trouble {
            if !is_last_chance {
                return Ok(Some(entry));
            }
            tracing::warn!(call_id = %entry.id, ?trouble, "a conversation could not be fetched");
            self.run.tell(RunError {
                conversation_id: Some(entry.id.clone()),
                ..told(&trouble)
            });
            self.failures += 1;
            if self.failures > MOST_FAILURES {
                return Err(stop(trouble));
            }
        }
        self.run.fetched += u64::from(fetched);
        self.run.gone += u64::from(standing.is_none());
        match taken {
            Some(Taken::Stored) => self.run.stored += 1,
            Some(Taken::Updated) => self.run.updated += 1,
            Some(Taken::Duplicate | Taken::Older) | None => {}
        }
        met.note(&entry, standing);
        Ok(None)
    }

    /// Takes one conversation in, where that is needed.
    async fn settle_one(&self, entry: Listed, held: Option<CallRecord>) -> Result<Settled, Stop> {
        let mut settled = Settled {
            standing: None,
            fetched: false,
            taken: None,
            trouble: None,
            entry,
        };
        let entry = &settled.entry;
        let mut arrived_by = held.as_ref().map(|record| record.arrived_by);
        let is_as_listed = held.is_some_and(|record| !entry.contradicts(&record.call));
        if !is_as_listed {
            // The index may lag, and does not have all that a head has.
            let head = self.sync.calls.head(&entry.id).await?;
            arrived_by = head.as_ref().map(|head| head.record.arrived_by);
            let fingerprint = entry.fingerprint();
            let is_here = head.is_some_and(|head| {
                // The provider kept less than what was delivered.
                let says_less = self.has_zero_retention(entry.agent_id.as_deref().unwrap_or_default());
                let was_fetched = head.listed_as.as_ref() == Some(&fingerprint);
                says_less || was_fetched || !entry.contradicts(&head.record.call)
            });
            if !is_here && entry.is_final {
                return self.take_in(settled, arrived_by).await;
            }
        }
        settled.standing = Some(arrived_by.map_or(Standing::Unfinished, Standing::Held));
        Ok(settled)
    }

    async fn take_in(&self, mut settled: Settled, arrived_by: Option<ArrivedBy>) -> Result<Settled, Stop> {
        let entry = &settled.entry;
        let asked_at = self.stopwatch.now();
        let read = |body: Vec<u8>| {
            let fetched = Fetched::read(&body, asked_at, self.sync.country)?;
            if fetched.call.id == entry.id {
                Ok((body, fetched))
            } else {
                Err("another_conversation")
            }
        };
        let (body, fetched) = match self.session()?.conversation(&entry.id, read).await {
            Ok(fetched) => fetched,
            Err(trouble @ (Trouble::OutOfTime | Trouble::KeyRefused(401))) => return Err(stop(trouble)),
            Err(Trouble::Gone) => {
                settled.standing = arrived_by.map(Standing::Held);
                return Ok(settled);
            }
            Err(trouble) => {
                settled.standing = Some(arrived_by.map_or(Standing::Missing, Standing::Held));
                settled.trouble = Some(trouble);
                return Ok(settled);
            }
        };
        settled.fetched = true;
        if !fetched.is_final {
            settled.standing = Some(arrived_by.map_or(Standing::Unfinished, Standing::Held));
            return Ok(settled);
        }
        let agent_id = fetched.call.agent_id.as_deref().unwrap_or_default();
        let says_less = fetched.is_remnant || self.has_zero_retention(agent_id);
        let arrival = Arrival {
            version: Version {
                // What was delivered, before or after, says more.
                at: if says_less {
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
            read_again: false,
            listed_as: Some(entry.fingerprint()),
        };
        let taken = self.sync.ingest.take_in(&arrival, |_| async {}).await?;
        let arrived_by = match (arrived_by, taken) {
            (Some(before), _) => before,
            (None, Taken::Stored) => ArrivedBy::Sync,
            // A delivery came in between.
            (None, Taken::Updated | Taken::Duplicate | Taken::Older) => ArrivedBy::Webhook,
        };
        settled.standing = Some(Standing::Held(arrived_by));
        settled.taken = Some(taken);
        Ok(settled)
    }

    /// Looks whether calls come by sync only, and how the webhook is at the provider.
    async fn look_at_the_webhook(&mut self, recent: &Tallies) -> Result<(), Stop> {
        let any_by_sync = recent.values().any(|tally| tally.by_sync > 0);
        if any_by_sync || self.progress.sync_only_since.is_some() {
            self.progress.sync_only_since = sync_only_since(
                &self.sync.calls,
                &self.sync.deliveries,
                self.progress.sync_only_since,
                self.progress.watching_since,
                self.run.started_at,
            )
            .await?;
        }
        self.progress.webhooks = match self.session()?.webhooks().await {
            Ok(webhooks) => Some(webhooks),
            Err(Trouble::OutOfTime) => return Err(Stop::OutOfTime),
            Err(trouble) => {
                // A key that may read conversations need not be an administrator's.
                tracing::info!(?trouble, "the provider does not tell how its webhooks are");
                None
            }
        };
        Ok(())
    }

    fn session(&self) -> Result<&Session<'_>, Stop> {
        let unusable = || Stop::KeyRefused(key_refused("it holds characters that no key has"));
        self.session.as_ref().ok_or_else(unusable)
    }

    /// Saves what the run came to, gives the lease back, and says so.
    async fn end(mut self, stopped: Option<Stop>) -> Result<Begun, Error> {
        let store = &self.sync.store;
        let now = self.stopwatch.now();
        let mut failed = None;
        let mut is_sound = false;
        match stopped {
            None | Some(Stop::OutOfTime) => is_sound = true,
            Some(Stop::LeaseLost) => return Ok(Begun::Busy),
            Some(Stop::KeyRefused(error)) => {
                tracing::error!(code = error.code, "sync could not do its work");
                self.run.tell(error);
                // Nothing was compared, and nothing will be at once.
                let watching_since = self.progress.watching_since;
                self.progress = self
                    .before
                    .take()
                    .unwrap_or_else(|| Progress::new(watching_since));
            }
            Some(Stop::Provider(error)) => {
                tracing::error!(code = error.code, "sync could not do its work");
                self.run.tell(error);
            }
            Some(Stop::Failed(why)) => {
                let message = "storing failed: the next run goes on, the logs tell why".to_owned();
                self.run.tell(error("store_unavailable", message));
                failed = Some(why);
            }
        }
        self.run.requests = self.session.as_ref().map_or(0, Session::requests);
        self.run.finished_at = Some(now);
        self.report(is_sound, now);
        let ended = store.end(self.owner, &self.progress, &self.run).await;
        match failed {
            // Where this failed, too, the lease ends by itself.
            Some(why) => Err(why),
            None if ended? => Ok(Begun::Ended(Box::new(SyncState {
                progress: Some(self.progress),
                last_run: Some(self.run),
                leased_until: None,
            }))),
            None => Ok(Begun::Busy),
        }
    }

    fn report(&self, is_sound: bool, now: Timestamp) {
        let Run {
            listed,
            fetched,
            stored,
            updated,
            missing,
            requests,
            ..
        } = self.run;
        tracing::info!(
            listed,
            fetched,
            stored,
            updated,
            missing,
            requests,
            "a run of sync ended"
        );
        let silence = self.progress.sync_only_since;
        let hours = silence.map_or(0.0, |since| now.duration_since(since).as_secs_f64() / 3600.0);
        let webhooks = self.progress.webhooks.iter().flatten();
        let disabled = webhooks.filter(|webhook| webhook.is_disabled).count();
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let metrics = [
            (CALLS_FOUND_BY_SYNC, stored as f64),
            (CALLS_MISSING, missing as f64),
            (HOURS_BY_SYNC_ONLY, hours.max(0.0)),
            (WEBHOOKS_DISABLED, disabled as f64),
            (SYNC_RUNS_FAILED, f64::from(u8::from(!is_sound))),
        ];
        self.sync.metrics.report(now, &metrics);
    }
}

/// What ends a run for some trouble with the provider.
fn stop(trouble: Trouble) -> Stop {
    match trouble {
        Trouble::OutOfTime => Stop::OutOfTime,
        Trouble::KeyRefused(_) => Stop::KeyRefused(told(&trouble)),
        trouble => Stop::Provider(told(&trouble)),
    }
}

fn error(code: &str, message: String) -> RunError {
    RunError {
        code: code.to_owned(),
        message,
        conversation_id: None,
    }
}

fn key_refused(why: &str) -> RunError {
    let message = format!(
        "ElevenLabs does not accept the API key ({why}): store one that may read conversations in the secret \
         ElevenLabsApiKey, it counts after a minute"
    );
    error("api_key_refused", message)
}

/// A trouble in words for people.
fn told(trouble: &Trouble) -> RunError {
    match trouble {
        Trouble::KeyRefused(status) => key_refused(&format!("it answers {status}")),
        Trouble::Gone => error(
            "provider_refused",
            "ElevenLabs knows no such thing (404): check ElevenLabsApiUrl".to_owned(),
        ),
        Trouble::Refused(status) => error(
            "provider_refused",
            format!("ElevenLabs refused the request ({status})"),
        ),
        Trouble::OutOfTime => error("provider_unavailable", "the time of the run was over".to_owned()),
        Trouble::Unavailable(why) => error(
            "provider_unavailable",
            format!("ElevenLabs is out of reach ({why}): the next run tries again"),
        ),
        Trouble::Unreadable(why) => error(
            "provider_unreadable",
            format!("ElevenLabs answers something that can't be read ({why}): the next run tries again"),
        ),
    }
}
