//! The contacts of campaigns.
//!
//! An item lies under its number, where deliveries look for it, and is listed
//! under its campaign by an index over [`SHARDS`] keys, so that 10,000 contacts
//! of one campaign do not heat one of them.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem, Update};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{CampaignStore, MAX_CONTACT_CAMPAIGNS, WRITE_ATTEMPTS, busy, key, pause_before};
use crate::campaign::{CampaignId, Contact};
use crate::error::Error;
use crate::identity::Identity;
use crate::phone_number::PhoneNumber;
use crate::store::{Page, cursor, failure, from_item, text, to_item};

const BY_CONTACT_SHARD: &str = "by-contact-shard";
const COUNT_SK: &str = "contacts";
/// Keys over which the contacts of one campaign are spread.
const SHARDS: u8 = 8;
/// DynamoDB's limit on a transaction, less the count of contacts.
const CHUNK: usize = 99;

/// What adding contacts came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Added {
    /// New ones.
    pub added: usize,
    /// Known ones, whose time changed.
    pub updated: usize,
    /// Known ones that are as they were.
    pub unchanged: usize,
}

impl CampaignStore {
    /// Adds contacts to a campaign, each number at most once. What was added
    /// when this fails stays; adding the same again completes it.
    ///
    /// # Errors
    /// Not found where there is no such campaign; when the store fails.
    pub async fn add_contacts(&self, campaign_id: &CampaignId, contacts: &[Contact]) -> Result<Added, Error> {
        self.campaign_item(campaign_id).await?;
        let mut sum = Added::default();
        // One after the other: all of them count on the same item.
        for chunk in contacts.chunks(CHUNK) {
            let added = self.add_chunk(campaign_id, chunk).await?;
            sum.added += added.added;
            sum.updated += added.updated;
            sum.unchanged += added.unchanged;
        }
        Ok(sum)
    }

    async fn add_chunk(&self, campaign_id: &CampaignId, chunk: &[Contact]) -> Result<Added, Error> {
        for attempt in 0..WRITE_ATTEMPTS {
            pause_before(attempt).await;
            let keys = chunk
                .iter()
                .map(|contact| contact_key(&contact.number, campaign_id));
            let mut known = HashMap::new();
            for item in self.get_all(keys.collect(), true).await? {
                let item: ContactItem = from_item("a contact", item)?;
                known.insert(item.number.clone(), (item.from, item.to));
            }
            let mut added = Added::default();
            let mut writes = Vec::new();
            for contact in chunk {
                let condition = match known.get(&contact.number) {
                    Some(span) if *span == (contact.from, contact.to) => {
                        added.unchanged += 1;
                        continue;
                    }
                    Some(_) => {
                        added.updated += 1;
                        "attribute_exists(pk)"
                    }
                    None => {
                        added.added += 1;
                        "attribute_not_exists(pk)"
                    }
                };
                let put = Put::builder()
                    .table_name(&self.table)
                    .set_item(Some(to_item("a contact", &ContactItem::new(contact))?))
                    .condition_expression(condition)
                    .build()
                    .map_err(|error| Error::internal("describing a write", error))?;
                writes.push(TransactWriteItem::builder().put(put).build());
            }
            if writes.is_empty() {
                return Ok(added);
            }
            if added.added > 0 {
                writes.push(self.count(campaign_id, i64::try_from(added.added).unwrap_or(i64::MAX))?);
            }
            if self.transact("adding contacts", writes).await? {
                return Ok(added);
            }
        }
        Err(busy("this campaign"))
    }

    fn count(&self, campaign_id: &CampaignId, more: i64) -> Result<TransactWriteItem, Error> {
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(campaign_id.as_str(), COUNT_SK)))
            .update_expression("ADD contact_count :more")
            .expression_attribute_values(":more", AttributeValue::N(more.to_string()))
            .build()
            .map_err(|error| Error::internal("describing a write", error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    /// A contact of a campaign.
    ///
    /// # Errors
    /// Not found where the campaign has no such contact.
    pub async fn contact(&self, campaign_id: &CampaignId, number: &PhoneNumber) -> Result<Contact, Error> {
        let item = self.get_one(&contact_pk(number), campaign_id.as_str()).await?;
        let item = item.ok_or(NO_CONTACT)?;
        Ok(from_item::<ContactItem>("a contact", item)?.into_contact())
    }

    /// A page of the contacts of a campaign, in no order that means anything.
    ///
    /// # Errors
    /// When the cursor is not of this list, there is no such campaign, or the
    /// store fails.
    pub async fn contacts(
        &self,
        campaign_id: &CampaignId,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<Contact>, Error> {
        let list = format!("contacts of {campaign_id}");
        let position = cursor.map(|cursor| cursor::decode(&list, cursor)).transpose()?;
        let (shard, after) = match &position {
            Some(position) => place_of(position).ok_or_else(cursor::invalid)?,
            None => (0, None),
        };
        let (_, mut items) = tokio::try_join!(
            self.campaign_item(campaign_id),
            self.contacts_of_shard(campaign_id, shard, after, limit + 1),
        )?;
        // One shard fills the page of a long list; those of a short one are asked all at once.
        let wanted = limit + 1 - items.len();
        if wanted > 0 {
            let rest =
                (shard + 1..SHARDS).map(|shard| self.contacts_of_shard(campaign_id, shard, None, wanted));
            items.extend(try_join_all(rest).await?.into_iter().flatten());
        }
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| more);
        let next_cursor =
            last.map(|last| cursor::encode(&list, &format!("{}#{}", shard_of(&last.number), last.number)));
        Ok(Page {
            entries: items.into_iter().map(ContactItem::into_contact).collect(),
            next_cursor,
        })
    }

    /// The first contacts of a shard after a number, at most so many.
    async fn contacts_of_shard(
        &self,
        campaign_id: &CampaignId,
        shard: u8,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<ContactItem>, Error> {
        let mut query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(BY_CONTACT_SHARD)
            .expression_attribute_values(":shard", text(shard_key(campaign_id, shard)))
            .limit(i32::try_from(most).unwrap_or(i32::MAX));
        query = match after {
            Some(number) => query
                .key_condition_expression("contact_shard = :shard AND #number > :number")
                .expression_attribute_names("#number", "number")
                .expression_attribute_values(":number", text(number)),
            None => query.key_condition_expression("contact_shard = :shard"),
        };
        let mut found = query.into_paginator().items().send();
        let mut items = Vec::new();
        while items.len() < most
            && let Some(item) = found.next().await
        {
            let item = item.map_err(|error| failure("listing contacts", error))?;
            items.push(from_item("a contact", item)?);
        }
        Ok(items)
    }

    /// Removes contacts of a campaign, those that it has; how many these were.
    ///
    /// # Errors
    /// When the store fails; what was removed by then is gone.
    pub async fn remove_contacts(
        &self,
        campaign_id: &CampaignId,
        numbers: &[PhoneNumber],
    ) -> Result<usize, Error> {
        let mut removed = 0;
        for chunk in numbers.chunks(CHUNK) {
            removed += self.remove_chunk(campaign_id, chunk).await?;
        }
        Ok(removed)
    }

    async fn remove_chunk(&self, campaign_id: &CampaignId, chunk: &[PhoneNumber]) -> Result<usize, Error> {
        for attempt in 0..WRITE_ATTEMPTS {
            pause_before(attempt).await;
            let keys = chunk.iter().map(|number| contact_key(number, campaign_id));
            let known = self.get_all(keys.collect(), true).await?;
            if known.is_empty() {
                return Ok(0);
            }
            let removed = known.len();
            let mut writes = Vec::with_capacity(removed + 1);
            for item in known {
                let item: ContactItem = from_item("a contact", item)?;
                let delete = Delete::builder()
                    .table_name(&self.table)
                    .set_key(Some(contact_key(&item.number, campaign_id)))
                    .condition_expression("attribute_exists(pk)")
                    .build()
                    .map_err(|error| Error::internal("describing a write", error))?;
                writes.push(TransactWriteItem::builder().delete(delete).build());
            }
            let less = -i64::try_from(removed).unwrap_or(i64::MAX);
            writes.push(self.count(campaign_id, less)?);
            if self.transact("removing contacts", writes).await? {
                return Ok(removed);
            }
        }
        Err(busy("this campaign"))
    }

    /// How many campaigns have a number among their contacts.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn count_campaigns_of(&self, number: &PhoneNumber) -> Result<usize, Error> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :number")
            .expression_attribute_values(":number", text(contact_pk(number)))
            .projection_expression("sk");
        let items = query.into_paginator().items().send();
        let items = items.collect::<Result<Vec<super::Item>, _>>().await;
        items
            .map(|items| items.len())
            .map_err(|error| failure("counting the campaigns of a contact", error))
    }

    /// Removes a number from the contacts of all campaigns; how many these were.
    ///
    /// # Errors
    /// When the store fails; what was removed by then is gone.
    pub async fn remove_contact_everywhere(&self, number: &PhoneNumber) -> Result<usize, Error> {
        let mut removed = 0;
        loop {
            let contacts = self.contacts_of(number).await?;
            if contacts.is_empty() {
                return Ok(removed);
            }
            for contact in contacts {
                let number = std::slice::from_ref(number);
                removed += self.remove_contacts(&contact.campaign_id, number).await?;
            }
        }
    }

    /// How many contacts campaigns have; those that never had any are left out.
    pub(super) async fn contact_counts(
        &self,
        ids: Vec<CampaignId>,
    ) -> Result<HashMap<CampaignId, u64>, Error> {
        let keys = ids.iter().map(|id| key(id.as_str(), COUNT_SK)).collect();
        let items = self.get_all(keys, true).await?.into_iter();
        items
            .map(|item| {
                let item: CountItem = from_item("a count of contacts", item)?;
                Ok((item.pk, item.contact_count))
            })
            .collect()
    }

    /// Who reached out to a number, as last written.
    pub(super) async fn contacts_of(&self, number: &PhoneNumber) -> Result<Vec<Contact>, Error> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :number")
            .expression_attribute_values(":number", text(contact_pk(number)))
            .consistent_read(true)
            // The newest campaigns first, as their ids sort by time.
            .scan_index_forward(false)
            .limit(MAX_CONTACT_CAMPAIGNS)
            .send()
            .await
            .map_err(|error| failure("reading the campaigns of a contact", error))?;
        let items = answer.items.unwrap_or_default().into_iter();
        items
            .map(|item| Ok(from_item::<ContactItem>("a contact", item)?.into_contact()))
            .collect()
    }
}

const NO_CONTACT: Error = Error::NotFound {
    message: "the campaign has no such contact: check the number",
};

fn contact_pk(number: &PhoneNumber) -> String {
    format!("contact#{number}")
}

fn contact_key(number: &PhoneNumber, campaign_id: &CampaignId) -> super::Item {
    key(&contact_pk(number), campaign_id.as_str())
}

fn shard_of(number: &PhoneNumber) -> u8 {
    Sha256::digest(number.as_str())[0] % SHARDS
}

/// The shard and the number of a cursor's position, after which a list goes on.
fn place_of(position: &str) -> Option<(u8, Option<&str>)> {
    let (shard, number) = position.split_once('#')?;
    let shard = shard.parse().ok().filter(|shard| *shard < SHARDS)?;
    (!number.is_empty()).then_some((shard, Some(number)))
}

fn shard_key(campaign_id: &CampaignId, shard: u8) -> String {
    format!("{campaign_id}#{shard}")
}

#[derive(Deserialize)]
struct CountItem {
    pk: CampaignId,
    contact_count: u64,
}

#[derive(Serialize, Deserialize)]
struct ContactItem {
    pk: String,
    sk: CampaignId,
    contact_shard: String,
    number: PhoneNumber,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<Timestamp>,
    by: Identity,
    at: Timestamp,
}

impl ContactItem {
    fn new(contact: &Contact) -> Self {
        Self {
            pk: contact_pk(&contact.number),
            sk: contact.campaign_id.clone(),
            contact_shard: shard_key(&contact.campaign_id, shard_of(&contact.number)),
            number: contact.number.clone(),
            from: contact.from,
            to: contact.to,
            by: contact.by.clone(),
            at: contact.at,
        }
    }

    fn into_contact(self) -> Contact {
        Contact {
            campaign_id: self.sk,
            number: self.number,
            from: self.from,
            to: self.to,
            by: self.by,
            at: self.at,
        }
    }
}
