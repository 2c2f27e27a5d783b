//! The table of campaigns and of what credits calls to them.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `campaigns` | campaign id | a campaign |
//! | `archived` | `campaigns` | the ids of archived campaigns, which every delivery reads |
//! | campaign id | `holdings` | the numbers and agents that it ever had |
//! | campaign id | `contacts` | how many contacts it has |
//! | `code#<code>` | `code` | which campaign has the code |
//! | `number#<number>` | `assignments` | all assignments of a tracking number |
//! | `agent#<agent id>` | `assignments` | all assignments of an agent |
//! | `contact#<number>` | campaign id | a contact |
//!
//! All assignments of a number are one item, so that moving it is one write and
//! two people cannot give it to two campaigns at once. The contacts of a campaign
//! are listed by an index over several keys.

mod assignments;
mod contacts;

pub use contacts::Added;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, Delete, KeysAndAttributes, Put, TransactWriteItem, Update};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::assignments::{ASSIGNMENTS_SK, AssetItem, asset_key};
use super::{
    Item, Page, WRITE_ATTEMPTS, cursor, failure, from_item, pause_before, text, to_item, transaction,
};
use crate::attribution::Candidates;
use crate::call::Call;
use crate::campaign::{Asset, AssignmentHistory, Campaign, CampaignId, CampaignStatus, DatedAssignment};
use crate::error::Error;
use crate::identity::Identity;
use crate::phone_number::PhoneNumber;

const CAMPAIGNS: &str = "campaigns";
const LIST: &str = "campaigns";

/// DynamoDB's limit on keys in one batch.
const BATCH_KEYS: usize = 100;
/// Rounds in which a batch may answer what it left over.
const BATCH_ROUNDS: usize = 10;
/// Numbers, and agents, that one campaign may ever have had.
const MAX_ASSETS: usize = 1000;
/// Campaigns that may be archived: every delivery reads their ids.
const MAX_ARCHIVED: usize = 2000;
/// Campaigns that may have the same contact.
const MAX_CONTACT_CAMPAIGNS: i32 = 100;

/// Campaigns among which people choose, the newest ones: as many as a page can show
/// twice and still be small.
const MAX_CHOICES: i32 = 300;

/// What is said of a campaign that is not there.
pub const NO_CAMPAIGN: Error = Error::NotFound {
    message: "there is no such campaign: check the id",
};

/// A campaign with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CampaignRecord {
    /// The campaign.
    pub campaign: Campaign,
    /// Its assignments, by number or agent and then by start.
    pub assignments: Vec<(Asset, DatedAssignment)>,
    /// How many contacts it has.
    pub contact_count: u64,
}

/// What is to be changed of a campaign.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CampaignChange {
    /// Its name.
    pub name: Option<String>,
    /// Its code; none from now on where `Some(None)`.
    pub code: Option<Option<String>>,
    /// Its status.
    pub status: Option<CampaignStatus>,
}

/// The campaigns in DynamoDB.
#[derive(Debug, Clone)]
pub struct CampaignStore {
    client: Client,
    table: String,
}

impl CampaignStore {
    /// The campaigns in a table.
    #[must_use]
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Makes a campaign.
    ///
    /// # Errors
    /// `code_in_use` where another campaign has the code.
    pub async fn create(&self, campaign: &Campaign) -> Result<(), Error> {
        let item = to_item("a campaign", &CampaignItem::from_campaign(campaign))?;
        let mut writes = vec![TransactWriteItem::builder().put(self.new_item(item)?).build()];
        if let Some(code) = &campaign.code {
            let item = code_item(code, &campaign.id);
            writes.push(TransactWriteItem::builder().put(self.new_item(item)?).build());
        }
        // Nobody else can have the new id, so what was there first is the code.
        if self.transact("creating a campaign", writes).await? {
            Ok(())
        } else {
            Err(code_in_use())
        }
    }

    fn new_item(&self, item: Item) -> Result<Put, Error> {
        Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk)")
            .build()
            .map_err(|error| Error::internal("describing a write", error))
    }

    /// Changes a campaign. What is asked for already changes nothing.
    ///
    /// # Errors
    /// `code_in_use` where another campaign has the code; not found where there
    /// is no such campaign.
    pub async fn change(
        &self,
        id: &CampaignId,
        change: &CampaignChange,
        by: &Identity,
        now: Timestamp,
    ) -> Result<(), Error> {
        for attempt in 0..WRITE_ATTEMPTS {
            pause_before(attempt).await;
            let (old, archived) =
                tokio::try_join!(self.campaign_item(id), self.get_one(ARCHIVED, CAMPAIGNS))?;
            let archived = archived_campaigns(archived)?;
            let mut new = old.clone();
            if let Some(name) = &change.name {
                new.name.clone_from(name);
            }
            if let Some(code) = &change.code {
                new.code.clone_from(code);
            }
            if let Some(status) = change.status {
                new.status = status;
            }
            if new == old {
                return Ok(());
            }
            new.updated_at = now;
            new.updated_by = by.clone();
            new.revision += 1;
            let archives = new.status == CampaignStatus::Archived && old.status != new.status;
            if archives && archived.len() >= MAX_ARCHIVED {
                return Err(Error::Conflict {
                    code: "too_many_archived",
                    field: Some("status"),
                    message: format!("{MAX_ARCHIVED} campaigns can be archived"),
                });
            }
            if new.code != old.code
                && let Some(code) = &new.code
                && owner_of_code(self.get_one(&code_key(code), CODE_SK).await?)?
                    .is_some_and(|owner| owner != *id)
            {
                return Err(code_in_use());
            }
            if self.write_change(&old, &new).await? {
                return Ok(());
            }
        }
        Err(busy("this campaign"))
    }

    /// A changed campaign, its code and its place among the archived, all or
    /// nothing; false where somebody else was faster.
    async fn write_change(&self, old: &CampaignItem, new: &CampaignItem) -> Result<bool, Error> {
        let incomplete = |error| Error::internal("describing a write", error);
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(to_item("a campaign", new)?))
            .condition_expression("revision = :seen")
            .expression_attribute_values(":seen", AttributeValue::N(old.revision.to_string()))
            .build()
            .map_err(incomplete)?;
        let mut writes = vec![TransactWriteItem::builder().put(put).build()];
        if new.code != old.code {
            if let Some(code) = &new.code {
                let put = self.new_item(code_item(code, &new.sk))?;
                writes.push(TransactWriteItem::builder().put(put).build());
            }
            if let Some(code) = &old.code {
                let delete = Delete::builder()
                    .table_name(&self.table)
                    .set_key(Some(key(&code_key(code), CODE_SK)))
                    .build()
                    .map_err(incomplete)?;
                writes.push(TransactWriteItem::builder().delete(delete).build());
            }
        }
        if new.status != old.status {
            let change = match new.status {
                CampaignStatus::Archived => "ADD campaign_ids :id",
                CampaignStatus::Active => "DELETE campaign_ids :id",
            };
            let update = Update::builder()
                .table_name(&self.table)
                .set_key(Some(key(ARCHIVED, CAMPAIGNS)))
                .update_expression(change)
                .expression_attribute_values(":id", AttributeValue::Ss(vec![new.sk.to_string()]))
                .build()
                .map_err(incomplete)?;
            writes.push(TransactWriteItem::builder().update(update).build());
        }
        self.transact("changing a campaign", writes).await
    }

    /// Writes all or nothing; false where somebody else was faster.
    async fn transact(&self, doing: &str, writes: Vec<TransactWriteItem>) -> Result<bool, Error> {
        let written = self
            .client
            .transact_write_items()
            .set_transact_items(Some(writes))
            .send()
            .await;
        match written {
            Ok(_) => Ok(true),
            Err(error) if transaction::was_lost_to_another(&error) => Ok(false),
            Err(error) => Err(transaction::failure(doing, error)),
        }
    }

    /// A campaign with its numbers.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn get(&self, id: &CampaignId) -> Result<CampaignRecord, Error> {
        let item = self.campaign_item(id).await?;
        let mut records = self.with_holdings(vec![item]).await?;
        records.pop().ok_or(NO_CAMPAIGN)
    }

    /// A page of campaigns, the newest first.
    ///
    /// # Errors
    /// When the cursor is not of this list, or the store fails.
    pub async fn list(&self, limit: usize, cursor: Option<&str>) -> Result<Page<CampaignRecord>, Error> {
        let after = cursor.map(|cursor| cursor::decode(LIST, cursor)).transpose()?;
        let mut query = self
            .client
            .query()
            .table_name(&self.table)
            .expression_attribute_values(":campaigns", text(CAMPAIGNS))
            .consistent_read(true)
            .limit(i32::try_from(limit + 1).unwrap_or(i32::MAX))
            .scan_index_forward(false);
        query = match after {
            Some(after) => query
                .key_condition_expression("pk = :campaigns AND sk < :after")
                .expression_attribute_values(":after", text(after)),
            None => query.key_condition_expression("pk = :campaigns"),
        };
        let mut found = query.into_paginator().items().send();
        let mut items = Vec::new();
        while let Some(item) = found.next().await {
            let item = item.map_err(|error| failure("listing campaigns", error))?;
            items.push(from_item::<CampaignItem>("a campaign", item)?);
            if items.len() > limit {
                break;
            }
        }
        let page = Page::cut(items, limit, LIST, |item: &CampaignItem| item.sk.as_str());
        Ok(Page {
            entries: self.with_holdings(page.entries).await?,
            next_cursor: page.next_cursor,
        })
    }

    /// Campaigns without what belongs to them, the newest first: as many as people
    /// can choose from.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn choices(&self) -> Result<Vec<Campaign>, Error> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :campaigns")
            .expression_attribute_values(":campaigns", text(CAMPAIGNS))
            .scan_index_forward(false)
            .limit(MAX_CHOICES);
        let mut found = query.into_paginator().items().send();
        let mut campaigns = Vec::new();
        while let Some(item) = found.next().await {
            let item = item.map_err(|error| failure("listing campaigns", error))?;
            campaigns.push(from_item::<CampaignItem>("a campaign", item)?.into_campaign());
            if campaigns.len() >= MAX_CHOICES as usize {
                break;
            }
        }
        Ok(campaigns)
    }

    /// The names of campaigns; of unknown ones none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn names(
        &self,
        ids: impl IntoIterator<Item = CampaignId>,
    ) -> Result<BTreeMap<CampaignId, String>, Error> {
        let ids: BTreeSet<CampaignId> = ids.into_iter().collect();
        let keys = ids.iter().map(|id| key(CAMPAIGNS, id.as_str())).collect();
        let items = self.get_all(keys, false).await?;
        items
            .into_iter()
            .map(|item| {
                let item: CampaignItem = from_item("a campaign", item)?;
                Ok((item.sk, item.name))
            })
            .collect()
    }

    /// The campaign data that can bear on a call, as last written.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn candidates(&self, call: &Call) -> Result<Candidates, Error> {
        let variables = &call.campaign_variables;
        let named = variables.campaign_id.as_deref();
        let named = named.and_then(|text| CampaignId::try_from(text.to_owned()).ok());
        let assignments = |asset: Option<Asset>| asset.map(|asset| key(&asset_key(&asset), ASSIGNMENTS_SK));
        let keys = [
            Some(key(ARCHIVED, CAMPAIGNS)),
            named.as_ref().map(|id| key(CAMPAIGNS, id.as_str())),
            variables
                .utm_campaign
                .as_deref()
                .map(|code| key(&code_key(code), CODE_SK)),
            assignments(call.tracking_number.clone().map(Asset::Number)),
            assignments(call.agent_id.clone().map(Asset::Agent)),
        ];
        let contacts = async {
            match &call.customer_number {
                Some(number) => self.contacts_of(number).await,
                None => Ok(Vec::new()),
            }
        };
        let (found, contacts) = tokio::try_join!(self.get_each(keys), contacts)?;
        let [archived, campaign, code, number, agent] = found;
        Ok(Candidates {
            archived: archived_campaigns(archived)?,
            by_variable_id: campaign.and(named),
            by_variable_code: owner_of_code(code)?,
            tracking_number: assignment_history(number)?,
            contacts,
            agent: assignment_history(agent)?,
        })
    }

    async fn campaign_item(&self, id: &CampaignId) -> Result<CampaignItem, Error> {
        match self.get_one(CAMPAIGNS, id.as_str()).await? {
            Some(item) => from_item(&format!("campaign {id}"), item),
            None => Err(NO_CAMPAIGN),
        }
    }

    /// Whether there is such a campaign.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn exists(&self, id: &CampaignId) -> Result<bool, Error> {
        Ok(self.get_one(CAMPAIGNS, id.as_str()).await?.is_some())
    }

    async fn with_holdings(&self, items: Vec<CampaignItem>) -> Result<Vec<CampaignRecord>, Error> {
        let ids = || items.iter().map(|item| item.sk.clone()).collect();
        let (mut holdings, counts) = tokio::try_join!(self.holdings_of(ids()), self.contact_counts(ids()))?;
        let assets: BTreeSet<Asset> = holdings.values().flat_map(HoldingsItem::assets).collect();
        let keys = assets
            .iter()
            .map(|asset| key(&asset_key(asset), ASSIGNMENTS_SK))
            .collect();
        let mut histories = BTreeMap::new();
        for item in self.get_all(keys, true).await? {
            let item: AssetItem = from_item("assignments", item)?;
            histories.insert(item.pk, item.assignments);
        }
        let records = items.into_iter().map(|item| {
            let holdings = holdings.remove(&item.sk).unwrap_or_default();
            let mut assignments = Vec::new();
            for asset in holdings.assets() {
                let history = histories.get(&asset_key(&asset)).into_iter();
                let own = history.flat_map(|history| history.of(&item.sk));
                assignments.extend(own.map(|assignment| (asset.clone(), assignment.clone())));
            }
            CampaignRecord {
                contact_count: counts.get(&item.sk).copied().unwrap_or_default(),
                campaign: item.into_campaign(),
                assignments,
            }
        });
        Ok(records.collect())
    }

    /// What campaigns hold; those that never held anything are left out.
    async fn holdings_of(&self, ids: Vec<CampaignId>) -> Result<BTreeMap<CampaignId, HoldingsItem>, Error> {
        let keys = ids.iter().map(|id| key(id.as_str(), HOLDINGS_SK)).collect();
        let items = self.get_all(keys, true).await?;
        items
            .into_iter()
            .map(|item| {
                let item: KeyedHoldings = from_item("the holdings of a campaign", item)?;
                Ok((item.pk, item.holdings))
            })
            .collect()
    }

    async fn get_one(&self, pk: &str, sk: &str) -> Result<Option<Item>, Error> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(pk, sk)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| failure("reading campaign data", error))?;
        Ok(answer.item)
    }

    /// The items of some keys, of which no two are the same, in one request; each in the place of
    /// its key, and none where there is none.
    async fn get_each<const N: usize>(&self, keys: [Option<Item>; N]) -> Result<[Option<Item>; N], Error> {
        let mut found = self
            .get_all(keys.iter().flatten().cloned().collect(), true)
            .await?;
        Ok(keys.map(|key| {
            let key = key?;
            let is_its = |item: &Item| key.iter().all(|(name, value)| item.get(name) == Some(value));
            let place = found.iter().position(is_its)?;
            Some(found.swap_remove(place))
        }))
    }

    async fn get_all(&self, keys: Vec<Item>, consistent: bool) -> Result<Vec<Item>, Error> {
        let mut found = Vec::new();
        for keys in keys.chunks(BATCH_KEYS) {
            let request = KeysAndAttributes::builder()
                .set_keys(Some(keys.to_vec()))
                .consistent_read(consistent)
                .build()
                .map_err(|error| Error::internal("describing a read", error))?;
            let mut left = HashMap::from([(self.table.clone(), request)]);
            let mut round = 0;
            while !left.is_empty() {
                if round == BATCH_ROUNDS {
                    return Err(Error::unavailable(
                        "reading campaign data",
                        std::io::Error::other("the store leaves keys unanswered"),
                    ));
                }
                pause_before(round).await;
                round += 1;
                let answer = self
                    .client
                    .batch_get_item()
                    .set_request_items(Some(left))
                    .send()
                    .await
                    .map_err(|error| failure("reading campaign data", error))?;
                found.extend(answer.responses.unwrap_or_default().into_values().flatten());
                left = answer.unprocessed_keys.unwrap_or_default();
            }
        }
        Ok(found)
    }
}

// -------------------------------------------------------------------- keys

const ARCHIVED: &str = "archived";
const CODE_SK: &str = "code";
const HOLDINGS_SK: &str = "holdings";

fn key(pk: &str, sk: &str) -> Item {
    Item::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
}

fn code_item(code: &str, campaign_id: &CampaignId) -> Item {
    let mut item = key(&code_key(code), CODE_SK);
    item.insert("campaign_id".to_owned(), text(campaign_id.as_str()));
    item
}

fn code_in_use() -> Error {
    Error::Conflict {
        code: "code_in_use",
        field: Some("code"),
        message: "another campaign has this code: choose another one".to_owned(),
    }
}

fn busy(what: &str) -> Error {
    Error::Conflict {
        code: "busy",
        field: None,
        message: format!("{what} is being changed by others: try again"),
    }
}

fn code_key(code: &str) -> String {
    format!("code#{code}")
}

// ------------------------------------------------------------------- items

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct CampaignItem {
    pk: String,
    sk: CampaignId,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    status: CampaignStatus,
    created_at: Timestamp,
    created_by: Identity,
    updated_at: Timestamp,
    updated_by: Identity,
    revision: u64,
}

#[derive(Deserialize)]
struct CodeItem {
    campaign_id: CampaignId,
}

#[derive(Deserialize, Default)]
struct ArchivedItem {
    #[serde(default)]
    campaign_ids: BTreeSet<CampaignId>,
}

fn archived_campaigns(item: Option<Item>) -> Result<BTreeSet<CampaignId>, Error> {
    let item: Option<ArchivedItem> = item
        .map(|item| from_item("the archived campaigns", item))
        .transpose()?;
    Ok(item.unwrap_or_default().campaign_ids)
}

fn owner_of_code(item: Option<Item>) -> Result<Option<CampaignId>, Error> {
    let item: Option<CodeItem> = item.map(|item| from_item("a code", item)).transpose()?;
    Ok(item.map(|item| item.campaign_id))
}

fn assignment_history(item: Option<Item>) -> Result<AssignmentHistory, Error> {
    let item: Option<AssetItem> = item.map(|item| from_item("assignments", item)).transpose()?;
    Ok(item.map(|item| item.assignments).unwrap_or_default())
}

#[derive(Deserialize)]
struct KeyedHoldings {
    pk: CampaignId,
    #[serde(flatten)]
    holdings: HoldingsItem,
}

#[derive(Deserialize, Default)]
struct HoldingsItem {
    #[serde(default)]
    numbers: BTreeSet<PhoneNumber>,
    #[serde(default)]
    agents: BTreeSet<String>,
}

impl HoldingsItem {
    fn assets(&self) -> impl Iterator<Item = Asset> {
        let numbers = self.numbers.iter().cloned().map(Asset::Number);
        numbers.chain(self.agents.iter().cloned().map(Asset::Agent))
    }

    fn is_full_for(&self, asset: &Asset) -> bool {
        match asset {
            Asset::Number(number) => self.numbers.len() >= MAX_ASSETS && !self.numbers.contains(number),
            Asset::Agent(agent_id) => self.agents.len() >= MAX_ASSETS && !self.agents.contains(agent_id),
        }
    }
}

impl CampaignItem {
    fn from_campaign(campaign: &Campaign) -> Self {
        Self {
            pk: CAMPAIGNS.to_owned(),
            sk: campaign.id.clone(),
            name: campaign.name.clone(),
            code: campaign.code.clone(),
            status: campaign.status,
            created_at: campaign.created_at,
            created_by: campaign.created_by.clone(),
            updated_at: campaign.updated_at,
            updated_by: campaign.updated_by.clone(),
            revision: 1,
        }
    }

    fn into_campaign(self) -> Campaign {
        Campaign {
            id: self.sk,
            name: self.name,
            code: self.code,
            status: self.status,
            created_at: self.created_at,
            created_by: self.created_by,
            updated_at: self.updated_at,
            updated_by: self.updated_by,
        }
    }
}
