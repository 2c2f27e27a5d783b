//! One run: compare what the provider lists with what is here, take in what is
//! missing, and leave the rest to the next run.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use shared::completeness::{
    Compared, LedgerRow, Open, Pass, Progress, Run, RunError, Trigger, day_of, first_instant, start_of_day,
};
use shared::error::Error;
use shared::ingest::Ingest;
use shared::metrics::{
    CALLS_FOUND_BY_SYNC, CALLS_MISSING, HOURS_BY_SYNC_ONLY, HOURS_SINCE_COMPARED, Metrics, WEBHOOKS_DISABLED,
};
use shared::phone_number::Country;
use shared::runtime::{aws, default_country, setting};
use shared::secrets::SecretCache;
use shared::store::calls::{CallFilter, CallStore};
use shared::store::campaigns::CampaignStore;
use shared::store::deliveries::DeliveryStore;
use shared::store::sync::{AgentSettings, SyncState, SyncStore};
use url::Url;

use crate::provider::{Provider, Session, Trouble};
use crate::silence::sync_only_since;
use crate::walk::{Met, Tallies};

/// Requests to the provider at the same time.
pub const CONCURRENCY: usize = 5;
/// How long the settings of an agent are not asked for again.
const AGENT_FRESH: SignedDuration = SignedDuration::from_hours(24);
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
    pub calls: CallStore,
    pub ingest: Ingest,
    deliveries: DeliveryStore,
    provider: Provider,
    api_key: SecretCache,
    pub country: Option<Country>,
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
pub enum Stop {
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
        let calls = calls.keeping_bodies(setting("BODY_RETENTION_DAYS")?);
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
        let Some(known) = self.api_key.current(now).await else {
            let cause = std::io::Error::other("the secret store is out of reach");
            return Err(Error::unavailable("fetching the API key", cause));
        };
        let key = known.current.map(|key| key.trim().to_owned());
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
            // What waits for the metric is not to take silence for failure.
            self.metrics.report(now, &[(HOURS_SINCE_COMPARED, 0.0)]);
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
            unproven_from: state
                .progress
                .as_ref()
                .and_then(|progress| Some(progress.compared?.until)),
            before: state.progress.clone(),
            progress: state.progress.unwrap_or_else(|| Progress::new(now)),
            run,
            agents: HashMap::new(),
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
                // It holds for longer than that; where another takes over, saving fails.
                Err(error) => tracing::warn!(%error, "the lease was not renewed"),
            }
        }
    }
}

/// A run at work.
pub struct Work<'a> {
    pub sync: &'a Sync,
    /// `None` where the key can't even be sent.
    session: Option<Session<'a>>,
    owner: &'a str,
    pub stopwatch: Stopwatch,
    /// When the progress was saved last.
    saved: Instant,
    /// What changed since then may have been written in part; `None`: everything.
    pub unproven_from: Option<Timestamp>,
    /// What the run before left.
    before: Option<Progress>,
    progress: Progress,
    pub run: Run,
    agents: HashMap<String, AgentSettings>,
}

/// Keeps what is left of a walk.
type Keep = fn(&mut Progress, Option<Pass>);

impl Work<'_> {
    async fn everything(&mut self) -> Result<(), Stop> {
        self.agents = self.sync.store.agents().await?;
        let now = self.run.started_at;
        let recent = self.progress.begin(now, self.sync.window, self.sync.first_days);
        let until = recent.to;
        let (since, any_by_sync) = (recent.since, self.walk_recent(recent).await?);
        if until < now {
            // An earlier run left what it had begun with; there is more since then.
            let rest = Pass::new(start_of_day(until), now);
            self.progress.recent = Some(Pass { since, ..rest });
        }
        self.look_at_the_webhook(any_by_sync).await?;
        while let Some(day) = self.progress.due(now) {
            self.walk_day(day).await?;
        }
        if let Some(rest) = self.progress.recent.take() {
            self.walk_recent(rest).await?;
        }
        Ok(())
    }

    /// Compares the recent window, or what is left of it; whether any call of it came by sync.
    async fn walk_recent(&mut self, pass: Pass) -> Result<bool, Stop> {
        let (from, until) = (pass.since, pass.to);
        self.walk(pass, |progress, left| progress.recent = left).await?;
        let rows = self.sync.store.ledger(from, day_of(until)).await?;
        let open = Open::of(rows.iter().map(|row| &row.tally));
        self.progress.compared = Some(Compared { from, until, open });
        Ok(rows.iter().any(|row| row.tally.by_sync > 0))
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
        let gone_before = self.run.gone;
        let tallies = self.walk(pass, |progress, left| progress.day = left).await?;
        let any_gone = self.run.gone > gone_before;
        let (open, now) = (Open::of(tallies.values()), self.run.started_at);
        self.progress.looked_at(day, open, any_gone, now);
        Ok(())
    }

    /// Compares what is left of a window, and writes what it came to into the ledger.
    /// What is left of it is kept until it is done.
    async fn walk(&mut self, pass: Pass, keep: Keep) -> Result<Tallies, Stop> {
        let mut met = Met::new(self.sync.calls.erasure_key().await?);
        keep(&mut self.progress, Some(pass.clone()));
        match self.walk_pages(&pass, &mut met, keep).await {
            Ok(()) => {}
            // What was kept last stands.
            Err(stop @ (Stop::Failed(_) | Stop::LeaseLost | Stop::KeyRefused(_))) => return Err(stop),
            Err(stop @ (Stop::OutOfTime | Stop::Provider(_))) => {
                self.put_aside(&pass, &met, keep).await?;
                return Err(stop);
            }
        }
        let unlisted = met.unlisted_agents().map(str::to_owned).collect();
        self.learn_agents(unlisted).await?;
        let tallies = met.tallies(&pass, pass.from);
        self.write_ledger(day_of(pass.from), pass.last_day(), &tallies)
            .await?;
        keep(&mut self.progress, None);
        Ok(tallies)
    }

    /// Writes what is whole of a walk that is not at its end, and keeps the rest.
    async fn put_aside(&mut self, pass: &Pass, met: &Met, keep: Keep) -> Result<(), Stop> {
        let (left, whole) = met.left_of(pass);
        if let Ok(first) = left.last_day().tomorrow() {
            self.write_ledger(first, pass.last_day(), &whole).await?;
        }
        keep(&mut self.progress, Some(left));
        Ok(())
    }

    /// Writes the rows of these days that changed; of a day alone, all of them, since
    /// it may be the last time that it is looked at.
    async fn write_ledger(&self, first: Date, last: Date, tallies: &Tallies) -> Result<(), Stop> {
        if last < first {
            return Ok(());
        }
        let known = self.sync.store.ledger(first, last).await?;
        let known: BTreeMap<_, _> = known
            .into_iter()
            .map(|row| (row.agent_day.clone(), row))
            .collect();
        let agent_days: BTreeSet<_> = known.keys().chain(tallies.keys()).collect();
        let rows = agent_days.into_iter().map(|agent_day| LedgerRow {
            agent_day: agent_day.clone(),
            // One that is gone altogether is told of with zeros.
            tally: tallies.get(agent_day).copied().unwrap_or_default(),
            is_checkable: self.zero_retention(&agent_day.agent_id) != Some(true),
            checked_at: self.run.started_at,
        });
        let says_more = |row: &LedgerRow| {
            let before = known.get(&row.agent_day);
            let is_other =
                |before: &LedgerRow| before.tally != row.tally || before.is_checkable != row.is_checkable;
            first == last || before.is_none_or(is_other)
        };
        let changed = rows.filter(says_more).collect();
        Ok(self.sync.store.put_rows(changed).await?)
    }

    async fn walk_pages(&mut self, pass: &Pass, met: &mut Met, keep: Keep) -> Result<(), Stop> {
        // Everything that is here and began from this instant on is known.
        let mut known_from = pass.before;
        let mut cursor: Option<String> = None;
        let mut cursors = HashSet::new();
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
            let Some(next) = page.next_cursor else {
                return Ok(());
            };
            if !cursors.insert(next.clone()) {
                let message = "the listing leads in a circle: the next run tries again".to_owned();
                return Err(Stop::Provider(error("provider_unreadable", message)));
            }
            cursor = Some(next);
            if self.saved.elapsed() >= SAVE_EVERY {
                self.put_aside(pass, met, keep).await?;
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
            let zero_retention = match answer {
                Ok(zero_retention) => Some(zero_retention),
                Err(trouble @ (Trouble::OutOfTime | Trouble::Held | Trouble::KeyRefused(401))) => {
                    return Err(stop(trouble));
                }
                Err(Trouble::Gone) => self.zero_retention(&id),
                Err(trouble) => {
                    tracing::warn!(agent_id = id, ?trouble, "the settings of an agent can't be read");
                    self.run.tell(agents_unreadable());
                    self.zero_retention(&id)
                }
            };
            let settings = AgentSettings {
                zero_retention,
                checked_at: now,
            };
            self.sync.store.put_agent(&id, &settings).await?;
            self.agents.insert(id, settings);
        }
        Ok(())
    }

    /// Whether the provider keeps nothing of an agent's conversations; `None` where it
    /// does not tell.
    pub fn zero_retention(&self, agent_id: &str) -> Option<bool> {
        self.agents.get(agent_id)?.zero_retention
    }

    /// Looks whether calls come by sync only, and how the webhook is at the provider.
    async fn look_at_the_webhook(&mut self, any_by_sync: bool) -> Result<(), Stop> {
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

    pub fn session(&self) -> Result<&Session<'_>, Stop> {
        let unusable = || Stop::KeyRefused(key_refused("it holds characters that no key has"));
        self.session.as_ref().ok_or_else(unusable)
    }

    /// Saves what the run came to, gives the lease back, and says so.
    async fn end(mut self, stopped: Option<Stop>) -> Result<Begun, Error> {
        let store = &self.sync.store;
        let now = self.stopwatch.now();
        let mut failed = None;
        match stopped {
            None => {}
            Some(Stop::OutOfTime) if self.run.listed > 0 => {}
            Some(Stop::OutOfTime) => {
                let message =
                    "ElevenLabs did not answer within the time of the run: the next run tries again";
                self.run.tell(error("provider_unavailable", message.to_owned()));
            }
            Some(Stop::LeaseLost) => return Ok(Begun::Busy),
            Some(Stop::KeyRefused(error)) => {
                self.run.tell(error);
                // Nothing was compared, and nothing will be at once.
                let watching_since = self.progress.watching_since;
                self.progress = self
                    .before
                    .take()
                    .unwrap_or_else(|| Progress::new(watching_since));
            }
            Some(Stop::Provider(error)) => self.run.tell(error),
            Some(Stop::Failed(why)) => {
                let message = "storing failed: the next run goes on, the logs tell why".to_owned();
                self.run.tell(error("store_unavailable", message));
                failed = Some(why);
            }
        }
        for error in &self.run.errors {
            tracing::error!(code = error.code, "sync met an error");
        }
        let open = self.progress.open();
        (self.run.missing, self.run.unfinished) = (open.missing, open.unfinished);
        self.run.requests = self.session.as_ref().map_or(0, Session::requests);
        self.run.finished_at = Some(now);
        self.report(now);
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

    fn report(&self, now: Timestamp) {
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
        // To the hundredth.
        let hours_since =
            |then: Timestamp| (now.duration_since(then).as_secs_f64().max(0.0) / 36.0).round() / 100.0;
        let progress = &self.progress;
        let compared_until = progress.compared.map(|compared| compared.until);
        let webhooks = progress.webhooks.as_deref().unwrap_or_default();
        let all_disabled = webhooks.iter().all(|webhook| webhook.is_disabled);
        let disabled = if all_disabled { webhooks.len() } else { 0 };
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let metrics = [
            (CALLS_FOUND_BY_SYNC, stored as f64),
            (CALLS_MISSING, missing as f64),
            (
                HOURS_SINCE_COMPARED,
                hours_since(compared_until.unwrap_or(progress.watching_since)),
            ),
            (
                HOURS_BY_SYNC_ONLY,
                progress.sync_only_since.map_or(0.0, hours_since),
            ),
            (WEBHOOKS_DISABLED, disabled as f64),
        ];
        self.sync.metrics.report(now, &metrics);
    }
}

/// What ends a run for some trouble with the provider.
pub fn stop(trouble: Trouble) -> Stop {
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

fn agents_unreadable() -> RunError {
    let message = "the API key can't read the settings of some agent: whether ElevenLabs keeps its conversations is not \
                   known, so what was delivered is not brought up to date; let the key read agents";
    error("agents_unreadable", message.to_owned())
}

fn key_refused(why: &str) -> RunError {
    let message = format!(
        "ElevenLabs does not accept the API key ({why}): store one that may read conversations in the secret \
         ElevenLabsApiKey, it counts after a minute"
    );
    error("api_key_refused", message)
}

/// A trouble in words for people.
pub fn told(trouble: &Trouble) -> RunError {
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
        Trouble::Held => error(
            "provider_unavailable",
            "ElevenLabs asks to wait for longer than a run lasts: the next run tries again".to_owned(),
        ),
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
