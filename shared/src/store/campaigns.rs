//! The table of campaigns and of what credits calls to them.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `campaigns` | campaign id | a campaign |
//! | campaign id | `numbers` | the numbers that it ever had |
//! | `code#<code>` | `code` | which campaign has the code |
//! | `number#<number>` | `assignments` | all assignments of a tracking number |
//!
//! All assignments of a number are one item, so that moving it is one write and
//! two people cannot give it to two campaigns at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, Put, TransactWriteItem, Update};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Item, Page, WRITE_ATTEMPTS, cursor, failure, from_item, text, to_item};
use crate::campaign::{
    AssignNumber, AssignNumberError, Campaign, CampaignId, CampaignStatus, NumberAssignment, NumberHistory,
};
use crate::error::Error;
use crate::identity::Identity;
use crate::phone_number::PhoneNumber;

const CAMPAIGNS: &str = "campaigns";
const LIST: &str = "campaigns";

/// DynamoDB's limit on keys in one batch.
const BATCH_KEYS: usize = 100;
/// Rounds in which a batch may answer what it left over.
const BATCH_ROUNDS: usize = 10;
/// Numbers that one campaign may ever have had.
const MAX_NUMBERS: usize = 1000;

/// A campaign with its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CampaignRecord {
    /// The campaign.
    pub campaign: Campaign,
    /// Its assignments, by number and then by start.
    pub numbers: Vec<(PhoneNumber, NumberAssignment)>,
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
            let item = Item::from([
                ("pk".to_owned(), text(code_key(code))),
                ("sk".to_owned(), text("code")),
                ("campaign_id".to_owned(), text(campaign.id.as_str())),
            ]);
            writes.push(TransactWriteItem::builder().put(self.new_item(item)?).build());
        }
        let written = self
            .client
            .transact_write_items()
            .set_transact_items(Some(writes))
            .send()
            .await;
        match written {
            Ok(_) => Ok(()),
            Err(error) if was_cancelled(&error, LOST_TO_ANOTHER) => Err(Error::Conflict {
                code: "code_in_use",
                field: Some("code"),
                message: "another campaign has this code: choose another one".to_owned(),
            }),
            Err(error) => Err(transaction_failure("creating a campaign", error)),
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

    /// A campaign with its numbers.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn get(&self, id: &CampaignId) -> Result<CampaignRecord, Error> {
        let item = self.campaign_item(id).await?;
        let mut records = self.with_numbers(vec![item]).await?;
        records.pop().ok_or(Error::NotFound {
            message: "there is no such campaign: check the id",
        })
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
            entries: self.with_numbers(page.entries).await?,
            next_cursor: page.next_cursor,
        })
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

    /// All assignments of a tracking number, as last written.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn number_history(&self, number: &PhoneNumber) -> Result<NumberHistory, Error> {
        Ok(self.number_item(number).await?.assignments)
    }

    /// Gives a tracking number to a campaign from a time to a time.
    ///
    /// # Errors
    /// `number_overlap` where another campaign has it then; not found where
    /// there is no such campaign.
    pub async fn assign_number(
        &self,
        number: &PhoneNumber,
        wanted: AssignNumber,
        now: Timestamp,
    ) -> Result<(), Error> {
        for _ in 0..WRITE_ATTEMPTS {
            let (_, had, mut item) = tokio::try_join!(
                self.campaign_item(&wanted.campaign_id),
                self.numbers_of(vec![wanted.campaign_id.clone()]),
                self.number_item(number),
            )?;
            let had = had.get(&wanted.campaign_id);
            if had.is_some_and(|had| had.len() >= MAX_NUMBERS && !had.contains(number)) {
                return Err(Error::Conflict {
                    code: "too_many_numbers",
                    field: None,
                    message: format!("a campaign can have {MAX_NUMBERS} numbers over time"),
                });
            }
            let assigned = match item.assignments.assign(wanted.clone(), now) {
                Ok(assigned) => assigned,
                Err(error) => return Err(self.explain(error, wanted.take_over).await?),
            };
            if assigned == item.assignments {
                return Ok(());
            }
            item.assignments = assigned;
            item.revision += 1;
            if self.write_assignments(&wanted.campaign_id, number, &item).await? {
                return Ok(());
            }
        }
        Err(Error::Conflict {
            code: "busy",
            field: None,
            message: "this number is being changed by others: try again".to_owned(),
        })
    }

    /// The number's item and its mention in the campaign, both or neither;
    /// false where somebody else was faster.
    async fn write_assignments(
        &self,
        campaign_id: &CampaignId,
        number: &PhoneNumber,
        item: &NumberItem,
    ) -> Result<bool, Error> {
        let incomplete = |error| Error::internal("describing a write", error);
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(to_item("a number", item)?))
            .condition_expression("attribute_not_exists(pk) OR revision = :seen")
            .expression_attribute_values(":seen", AttributeValue::N((item.revision - 1).to_string()))
            .build()
            .map_err(incomplete)?;
        let mention = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(campaign_id.as_str(), NUMBERS_SK)))
            .update_expression("ADD numbers :number")
            .expression_attribute_values(":number", AttributeValue::Ss(vec![number.to_string()]))
            .build()
            .map_err(incomplete)?;
        let written = self
            .client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().put(put).build())
            .transact_items(TransactWriteItem::builder().update(mention).build())
            .send()
            .await;
        match written {
            Ok(_) => Ok(true),
            Err(error) if was_cancelled(&error, LOST_TO_ANOTHER) => Ok(false),
            Err(error) => Err(transaction_failure("assigning a number", error)),
        }
    }

    async fn explain(&self, error: AssignNumberError, take_over: bool) -> Result<Error, Error> {
        Ok(match error {
            AssignNumberError::EndsBeforeStart => Error::invalid("to", "to must be later than from"),
            AssignNumberError::Overlap(other) => {
                let names = self.names([other.campaign_id.clone()]).await?;
                let name = names.get(&other.campaign_id).map_or("", String::as_str);
                let until = other.to.map_or_else(|| "on".to_owned(), |to| format!("to {to}"));
                let mend = if take_over {
                    "it can't be moved before it begins: set \"to\" to that time or earlier"
                } else {
                    "choose another time, or move it with \"move\": true"
                };
                Error::Conflict {
                    code: "number_overlap",
                    field: Some("number"),
                    message: format!(
                        "campaign {} ({name}) has this number from {} {until}: {mend}",
                        other.campaign_id, other.from
                    ),
                }
            }
        })
    }

    async fn campaign_item(&self, id: &CampaignId) -> Result<CampaignItem, Error> {
        match self.get_one(CAMPAIGNS, id.as_str()).await? {
            Some(item) => from_item(&format!("campaign {id}"), item),
            None => Err(Error::NotFound {
                message: "there is no such campaign: check the id",
            }),
        }
    }

    async fn number_item(&self, number: &PhoneNumber) -> Result<NumberItem, Error> {
        let pk = number_key(number);
        match self.get_one(&pk, NUMBER_SK).await? {
            Some(item) => from_item("the assignments of a number", item),
            None => Ok(NumberItem {
                pk,
                sk: NUMBER_SK.to_owned(),
                assignments: NumberHistory::default(),
                revision: 0,
            }),
        }
    }

    async fn with_numbers(&self, items: Vec<CampaignItem>) -> Result<Vec<CampaignRecord>, Error> {
        let had = self
            .numbers_of(items.iter().map(|item| item.sk.clone()).collect())
            .await?;
        let numbers: BTreeSet<&PhoneNumber> = had.values().flatten().collect();
        let keys = numbers
            .iter()
            .map(|number| key(&number_key(number), NUMBER_SK))
            .collect();
        let mut histories = BTreeMap::new();
        for item in self.get_all(keys, true).await? {
            let item: NumberItem = from_item("the assignments of a number", item)?;
            histories.insert(item.pk, item.assignments);
        }
        let assignments_of = |id: &CampaignId| -> Vec<(PhoneNumber, NumberAssignment)> {
            let numbers = had.get(id).into_iter().flatten();
            let histories = numbers.filter_map(|number| Some((number, histories.get(&number_key(number))?)));
            histories
                .flat_map(|(number, history)| {
                    history
                        .of(id)
                        .map(|assignment| (number.clone(), assignment.clone()))
                })
                .collect()
        };
        Ok(items
            .into_iter()
            .map(|item| CampaignRecord {
                numbers: assignments_of(&item.sk),
                campaign: item.into_campaign(),
            })
            .collect())
    }

    /// The numbers that campaigns ever had; those that never had any are left out.
    async fn numbers_of(
        &self,
        ids: Vec<CampaignId>,
    ) -> Result<BTreeMap<CampaignId, BTreeSet<PhoneNumber>>, Error> {
        let keys = ids.iter().map(|id| key(id.as_str(), NUMBERS_SK)).collect();
        let items = self.get_all(keys, true).await?;
        items
            .into_iter()
            .map(|item| {
                let item: NumbersItem = from_item("the numbers of a campaign", item)?;
                Ok((item.pk, item.numbers))
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

    async fn get_all(&self, keys: Vec<Item>, consistent: bool) -> Result<Vec<Item>, Error> {
        let mut found = Vec::new();
        for keys in keys.chunks(BATCH_KEYS) {
            let request = KeysAndAttributes::builder()
                .set_keys(Some(keys.to_vec()))
                .consistent_read(consistent)
                .build()
                .map_err(|error| Error::internal("describing a read", error))?;
            let mut left = HashMap::from([(self.table.clone(), request)]);
            let mut rounds = 0;
            while !left.is_empty() {
                rounds += 1;
                if rounds > BATCH_ROUNDS {
                    return Err(Error::unavailable(
                        "reading campaign data",
                        std::io::Error::other("the store leaves keys unanswered"),
                    ));
                }
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

/// Reasons to cancel a transaction: somebody else wrote first.
const LOST_TO_ANOTHER: &[&str] = &["None", "ConditionalCheckFailed", "TransactionConflict"];
/// Reasons to cancel a transaction: too many requests.
const THROTTLED: &[&str] = &["None", "ProvisionedThroughputExceeded", "ThrottlingError"];

/// Whether a transaction was cancelled for these reasons and no others.
fn was_cancelled(error: &SdkError<TransactWriteItemsError>, reasons: &[&str]) -> bool {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => cancelled
            .cancellation_reasons()
            .iter()
            .all(|reason| reasons.contains(&reason.code().unwrap_or("None"))),
        _ => false,
    }
}

fn transaction_failure(doing: &str, error: SdkError<TransactWriteItemsError>) -> Error {
    if was_cancelled(&error, THROTTLED) {
        Error::unavailable(doing, error)
    } else {
        failure(doing, error)
    }
}

// -------------------------------------------------------------------- keys

const NUMBER_SK: &str = "assignments";
const NUMBERS_SK: &str = "numbers";

fn key(pk: &str, sk: &str) -> Item {
    Item::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
}

fn number_key(number: &PhoneNumber) -> String {
    format!("number#{number}")
}

fn code_key(code: &str) -> String {
    format!("code#{code}")
}

// ------------------------------------------------------------------- items

#[derive(Serialize, Deserialize)]
struct CampaignItem {
    pk: String,
    sk: CampaignId,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    status: CampaignStatus,
    created_at: Timestamp,
    created_by: Identity,
}

#[derive(Deserialize)]
struct NumbersItem {
    pk: CampaignId,
    numbers: BTreeSet<PhoneNumber>,
}

#[derive(Serialize, Deserialize)]
struct NumberItem {
    pk: String,
    sk: String,
    assignments: NumberHistory,
    revision: u64,
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
        }
    }
}
