//! The numbers and agents of campaigns: who has which from when to when.

use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem, Update};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CampaignStore, HOLDINGS_SK, MAX_ASSETS, WRITE_ATTEMPTS, busy, key, pause_before};
use crate::campaign::{Asset, AssignmentHistory, CampaignId, Wanted, WantedError};
use crate::error::Error;
use crate::identity::Identity;
use crate::store::{from_item, to_item};

/// Assignments that one number or agent may ever have had: one item holds them.
const MAX_ASSIGNMENTS: usize = 500;
pub(super) const ASSIGNMENTS_SK: &str = "assignments";

impl CampaignStore {
    /// Gives a number or an agent to a campaign from a time to a time.
    ///
    /// # Errors
    /// `number_overlap` where another campaign has the number then; not found
    /// where there is no such campaign.
    pub async fn assign(&self, asset: &Asset, wanted: Wanted, now: Timestamp) -> Result<(), Error> {
        let take_over = wanted.take_over;
        let campaign_id = wanted.campaign_id.clone();
        let change = |history: &AssignmentHistory| {
            let assigned = history.assign(wanted.clone(), asset.sharing(), now);
            assigned.map(Some)
        };
        match self.change_assignments(asset, &campaign_id, change).await? {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explain(error, take_over).await?),
        }
    }

    /// Ends now what a campaign has of a number or an agent.
    ///
    /// # Errors
    /// Not found where it does not have it now.
    pub async fn end(
        &self,
        asset: &Asset,
        campaign_id: &CampaignId,
        by: &Identity,
        now: Timestamp,
    ) -> Result<(), Error> {
        let change = |history: &AssignmentHistory| Ok(history.end(campaign_id, by, now));
        self.expect_change(asset, campaign_id, change).await
    }

    /// Removes a wrong assignment, as if it had never been.
    ///
    /// # Errors
    /// Not found where the campaign has none that starts then.
    pub async fn remove(
        &self,
        asset: &Asset,
        campaign_id: &CampaignId,
        from: Timestamp,
    ) -> Result<(), Error> {
        let change = |history: &AssignmentHistory| Ok(history.without(campaign_id, from));
        self.expect_change(asset, campaign_id, change).await
    }

    async fn expect_change(
        &self,
        asset: &Asset,
        campaign_id: &CampaignId,
        change: impl Fn(&AssignmentHistory) -> Result<Option<AssignmentHistory>, WantedError>,
    ) -> Result<(), Error> {
        match self.change_assignments(asset, campaign_id, change).await? {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::NotFound {
                message: "the campaign has no such assignment: read the campaign and check",
            }),
            Err(error) => Err(self.explain(error, false).await?),
        }
    }

    /// Changes the assignments of a number or an agent; false where there is
    /// nothing to change, and the change's own error where it has one.
    async fn change_assignments(
        &self,
        asset: &Asset,
        campaign_id: &CampaignId,
        change: impl Fn(&AssignmentHistory) -> Result<Option<AssignmentHistory>, WantedError>,
    ) -> Result<Result<bool, WantedError>, Error> {
        for attempt in 0..WRITE_ATTEMPTS {
            pause_before(attempt).await;
            let (_, holdings, mut item) = tokio::try_join!(
                self.campaign_item(campaign_id),
                self.holdings_of(vec![campaign_id.clone()]),
                self.asset_item(asset),
            )?;
            let changed = match change(&item.assignments) {
                Ok(Some(changed)) => changed,
                Ok(None) => return Ok(Ok(false)),
                Err(error) => return Ok(Err(error)),
            };
            if changed == item.assignments {
                return Ok(Ok(true));
            }
            if holdings
                .get(campaign_id)
                .is_some_and(|had| had.is_full_for(asset))
            {
                return Err(Error::Conflict {
                    code: "too_many_assignments",
                    field: None,
                    message: format!("a campaign can have {MAX_ASSETS} numbers and agents over time"),
                });
            }
            if changed.len() > MAX_ASSIGNMENTS && changed.len() > item.assignments.len() {
                return Err(Error::Conflict {
                    code: "too_many_assignments",
                    field: None,
                    message: format!("there can be {MAX_ASSIGNMENTS} assignments: remove old ones"),
                });
            }
            item.assignments = changed;
            item.revision += 1;
            if self.write_assignments(campaign_id, asset, &item).await? {
                return Ok(Ok(true));
            }
        }
        Err(busy("this assignment"))
    }

    /// The assignments and their mention in the campaign, both or neither; false
    /// where somebody else was faster.
    async fn write_assignments(
        &self,
        campaign_id: &CampaignId,
        asset: &Asset,
        item: &AssetItem,
    ) -> Result<bool, Error> {
        let incomplete = |error| Error::internal("describing a write", error);
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(to_item("assignments", item)?))
            .condition_expression("attribute_not_exists(pk) OR revision = :seen")
            .expression_attribute_values(":seen", AttributeValue::N((item.revision - 1).to_string()))
            .build()
            .map_err(incomplete)?;
        let (change, name) = match asset {
            Asset::Number(number) => ("ADD numbers :name", number.to_string()),
            Asset::Agent(agent_id) => ("ADD agents :name", agent_id.clone()),
        };
        let mention = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(campaign_id.as_str(), HOLDINGS_SK)))
            .update_expression(change)
            .expression_attribute_values(":name", AttributeValue::Ss(vec![name]))
            .build()
            .map_err(incomplete)?;
        let writes = vec![
            TransactWriteItem::builder().put(put).build(),
            TransactWriteItem::builder().update(mention).build(),
        ];
        self.transact("changing an assignment", writes).await
    }

    async fn explain(&self, error: WantedError, take_over: bool) -> Result<Error, Error> {
        Ok(match error {
            WantedError::EndsBeforeStart => Error::invalid("to", "to must be later than from"),
            WantedError::Overlap(other) => {
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

    pub(super) async fn asset_item(&self, asset: &Asset) -> Result<AssetItem, Error> {
        let pk = asset_key(asset);
        match self.get_one(&pk, ASSIGNMENTS_SK).await? {
            Some(item) => from_item("assignments", item),
            None => Ok(AssetItem {
                pk,
                sk: ASSIGNMENTS_SK.to_owned(),
                assignments: AssignmentHistory::default(),
                revision: 0,
            }),
        }
    }
}

pub(super) fn asset_key(asset: &Asset) -> String {
    match asset {
        Asset::Number(number) => format!("number#{number}"),
        Asset::Agent(agent_id) => format!("agent#{agent_id}"),
    }
}

/// All assignments of one number or agent.
#[derive(Serialize, Deserialize)]
pub(super) struct AssetItem {
    pub(super) pk: String,
    sk: String,
    pub(super) assignments: AssignmentHistory,
    revision: u64,
}
