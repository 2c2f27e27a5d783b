//! Everything that a stack stores, in one file, and back into an empty stack.
//!
//! The file is JSON lines, compressed with gzip: first what it is, then every item of every
//! table as DynamoDB writes it, then how many there were, so that a file that was cut off is
//! refused. Secrets are not in it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cloudformation::REGION;
use crate::dynamodb::{DynamoDb, Storage};
use crate::issuer::SCRIPT;
use crate::permissions::Permissions;
use crate::template::Template;
use crate::workspace;

/// Of this form of file.
const VERSION: u32 = 1;
/// The tables that a stack which took nothing yet has nothing in.
const MUST_BE_EMPTY: [&str; 2] = ["CallsTable", "CampaignsTable"];
/// What one request may write: <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html>
const BATCH: usize = 25;
/// How often what the store left of a batch is sent again.
const ROUNDS: u32 = 10;

type Item = HashMap<String, AttributeValue>;

/// The tables of a stack.
pub struct Tables {
    client: Client,
    /// What they are called, by what the template calls them.
    names: BTreeMap<String, String>,
    /// The store that they are in, where it is ours.
    _store: Option<DynamoDb>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    First {
        ringmark_backup: u32,
        made_at: Timestamp,
    },
    Item {
        table: String,
        item: Value,
    },
    Last {
        items: usize,
    },
}

impl Tables {
    /// Those of a stack on AWS, with the credentials and the region of the environment; some
    /// by the names that are given, by what the template calls them.
    ///
    /// # Errors
    /// When they can't be listed, or one is missing or there twice.
    pub async fn of_stack(stack: &str, given: BTreeMap<String, String>) -> Result<Self> {
        let aws = aws_config::defaults(BehaviorVersion::latest()).load().await;
        let client = Client::new(&aws);
        let names = client.list_tables().into_paginator().items().send();
        let names: Vec<String> = names
            .collect::<Result<_, _>>()
            .await
            .map_err(|error| anyhow!(error.into_service_error()))
            .context("listing the tables")?;
        let names = names_in(&names, stack, &given, template()?.tables.into_keys())?;
        Ok(Self {
            client,
            names,
            _store: None,
        })
    }

    /// Those of a database on this machine that nobody else has open.
    ///
    /// # Errors
    /// When it can't be opened, or holds tables of another shape.
    pub async fn of_storage(storage: &Storage) -> Result<Self> {
        let nobody = Permissions::new(BTreeMap::new());
        let store = DynamoDb::start(storage, &template()?.tables, nobody).await?;
        let tables = Self::of_store(store.url())?;
        Ok(Self {
            _store: Some(store),
            ..tables
        })
    }

    /// Those of a store on this machine.
    ///
    /// # Errors
    /// When the template can't be read.
    pub fn of_store(url: &str) -> Result<Self> {
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(url)
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new("backup", "local", None, None, "local"))
            .build();
        let names = template()?.tables.into_keys();
        Ok(Self {
            client: Client::from_conf(config),
            names: names.map(|name| (name.clone(), name)).collect(),
            _store: None,
        })
    }

    /// Writes everything into a new file; how many items that were.
    ///
    /// # Errors
    /// When the file is there already or can't be written, or a table can't be read.
    pub async fn back_up(&self, path: &Path) -> Result<usize> {
        let file = File::create_new(path).with_context(|| format!("making {}", path.display()))?;
        let mut file = GzEncoder::new(BufWriter::new(file), Compression::default());
        let mut write = |line: &Line| -> Result<()> {
            serde_json::to_writer(&mut file, line)?;
            Ok(file.write_all(b"\n")?)
        };
        write(&Line::First {
            ringmark_backup: VERSION,
            made_at: Timestamp::now(),
        })?;
        let mut items = 0;
        for (table, name) in &self.names {
            let scan = self.client.scan().table_name(name).consistent_read(true);
            let mut found = scan.into_paginator().items().send();
            while let Some(item) = found.next().await {
                let item = item.map_err(|error| anyhow!(error.into_service_error()));
                let item = item.with_context(|| format!("reading {name}"))?;
                write(&Line::Item {
                    table: table.clone(),
                    item: to_json(&item)?,
                })?;
                items += 1;
            }
        }
        write(&Line::Last { items })?;
        file.finish()?.into_inner()?.sync_all()?;
        Ok(items)
    }

    /// Writes everything that is in a file into the tables of a stack that took nothing yet,
    /// or goes on with that; how many items that were.
    ///
    /// # Errors
    /// When the file is not whole or not of this form, or there are calls or campaigns and
    /// this does not go on: nothing is written then. When a table can't be written.
    pub async fn restore(&self, path: &Path, goes_on: bool) -> Result<usize> {
        // Once to see that all of it can be taken.
        let mut items = 0;
        read(path, |table, item| {
            ensure!(
                self.names.contains_key(&table),
                "{table} is no table of this stack"
            );
            from_json(&item)?;
            items += 1;
            Ok(())
        })?;
        for (table, name) in &self.names {
            if goes_on || !MUST_BE_EMPTY.contains(&table.as_str()) {
                continue;
            }
            let any = self.client.scan().table_name(name).limit(1).send().await;
            let any = any.map_err(|error| anyhow!(error.into_service_error()));
            let any = any.with_context(|| format!("looking into {name}"))?;
            ensure!(
                any.items().is_empty(),
                "{name} is not empty: restore into a stack that took nothing yet, or, where a restore broke off, \
                 go on with it by --resume"
            );
        }
        let (sender, mut batches) = tokio::sync::mpsc::channel::<(String, Vec<Item>)>(1);
        let file = path.to_owned();
        let reading = tokio::task::spawn_blocking(move || {
            let mut batch: Option<(String, Vec<Item>)> = None;
            let send = |batch: Option<(String, Vec<Item>)>| {
                let sent = batch.map_or(Ok(()), |batch| sender.blocking_send(batch));
                sent.map_err(|_| anyhow!("nobody writes any more"))
            };
            read(&file, |table, item| {
                let item = from_json(&item)?;
                match &mut batch {
                    Some((of, items)) if *of == table && items.len() < BATCH => items.push(item),
                    _ => send(batch.replace((table, vec![item])))?,
                }
                Ok(())
            })?;
            send(batch)
        });
        while let Some((table, items)) = batches.recv().await {
            let name = self.names.get(&table).context("a table of this stack")?;
            self.write(name, items).await?;
        }
        reading.await??;
        Ok(items)
    }

    async fn write(&self, table: &str, items: Vec<Item>) -> Result<()> {
        let put = |item| -> Result<WriteRequest> {
            let put = PutRequest::builder().set_item(Some(item)).build()?;
            Ok(WriteRequest::builder().put_request(put).build())
        };
        let puts: Vec<WriteRequest> = items.into_iter().map(put).collect::<Result<_>>()?;
        let mut left = HashMap::from([(table.to_owned(), puts)]);
        for round in 0..ROUNDS {
            let batch = self.client.batch_write_item();
            let answer = batch.set_request_items(Some(left.clone())).send().await;
            left = match answer {
                Ok(answer) => answer.unprocessed_items.unwrap_or_default(),
                // Nothing of it was taken.
                Err(error) if error.code().is_some_and(is_throttle) => left,
                Err(error) => {
                    return Err(anyhow!(error.into_service_error()))
                        .with_context(|| format!("writing {table}"));
                }
            };
            if left.values().all(Vec::is_empty) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100) * 2_u32.pow(round)).await;
        }
        bail!("{table} takes no more for now: go on later by --resume")
    }
}

fn template() -> Result<Template> {
    let parameters = [("OidcIssuer", "https://id.example"), ("OidcAudience", SCRIPT.id)];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Template::read(&workspace().join("template.yaml"), &parameters.into())
}

fn is_throttle(code: &str) -> bool {
    [
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
    ]
    .contains(&code)
}

/// What CloudFormation named the tables of a stack: `<stack>-<table>-<letters and digits>`.
fn names_in(
    names: &[String],
    stack: &str,
    given: &BTreeMap<String, String>,
    tables: impl Iterator<Item = String>,
) -> Result<BTreeMap<String, String>> {
    let of = |table: String| {
        if let Some(name) = given.get(&table) {
            return Ok((table, name.clone()));
        }
        let prefix = format!("{stack}-{table}-");
        let mut found = names.iter().filter(|name| name.starts_with(&prefix));
        match (found.next(), found.next()) {
            (Some(name), None) => Ok((table, name.clone())),
            (None, _) => bail!("stack {stack} has no table {prefix}…: check its name and the region"),
            (Some(_), Some(_)) => {
                bail!(
                    "several tables are called {prefix}…: say which by --table {table}=NAME; another stack left the other"
                )
            }
        }
    };
    tables.map(of).collect()
}

/// Reads a file to its end, and hands its items on.
fn read(path: &Path, mut each: impl FnMut(String, Value) -> Result<()>) -> Result<()> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut lines = BufReader::new(GzDecoder::new(file)).lines();
    let mut next = || -> Result<Option<Line>> {
        let line = lines
            .next()
            .transpose()
            .context("the file is cut off, or no backup")?;
        let line = line.map(|line| serde_json::from_str(&line));
        line.transpose().context("the file is no backup")
    };
    match next()? {
        Some(Line::First {
            ringmark_backup: VERSION,
            ..
        }) => {}
        Some(Line::First { ringmark_backup, .. }) => {
            bail!("the file is of version {ringmark_backup}, and this is {VERSION}")
        }
        _ => bail!("the file is no backup"),
    }
    let mut read = 0;
    loop {
        match next()? {
            Some(Line::Item { table, item }) => {
                read += 1;
                each(table, item)?;
            }
            Some(Line::Last { items }) => {
                ensure!(
                    items == read,
                    "the file has {read} items, and should have {items}"
                );
                // Only now the checksum of the whole is looked at.
                ensure!(next()?.is_none(), "the file goes on behind its end");
                return Ok(());
            }
            Some(Line::First { .. }) => bail!("the file is two in one"),
            None => bail!("the file is cut off"),
        }
    }
}

// ------------------------------------------------------- items as DynamoDB writes them

fn to_json(item: &Item) -> Result<Value> {
    let attributes = item.iter();
    let attributes = attributes.map(|(name, value)| Ok((name.clone(), value_to_json(value)?)));
    Ok(Value::Object(attributes.collect::<Result<Map<_, _>>>()?))
}

fn value_to_json(value: &AttributeValue) -> Result<Value> {
    let base64 = |blob: &Blob| BASE64.encode(blob.as_ref());
    Ok(match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::B(blob) => json!({ "B": base64(blob) }),
        AttributeValue::Bool(value) => json!({ "BOOL": value }),
        AttributeValue::Null(value) => json!({ "NULL": value }),
        AttributeValue::Ss(texts) => json!({ "SS": texts }),
        AttributeValue::Ns(numbers) => json!({ "NS": numbers }),
        AttributeValue::Bs(blobs) => json!({ "BS": blobs.iter().map(base64).collect::<Vec<_>>() }),
        AttributeValue::L(values) => {
            json!({ "L": values.iter().map(value_to_json).collect::<Result<Vec<_>>>()? })
        }
        AttributeValue::M(attributes) => json!({ "M": to_json(attributes)? }),
        other => bail!("an attribute of a kind that is new: {other:?}"),
    })
}

fn from_json(item: &Value) -> Result<Item> {
    let attributes = item.as_object().context("an item is an object")?.iter();
    let attributes = attributes.map(|(name, value)| Ok((name.clone(), value_from_json(value)?)));
    attributes.collect()
}

fn value_from_json(value: &Value) -> Result<AttributeValue> {
    let typed = value.as_object().and_then(|typed| typed.iter().next());
    let (kind, value) = typed.context("a value has a type")?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("expected a text");
    let flag = |value: &Value| value.as_bool().context("expected true or false");
    let blob = |value: &Value| Ok(Blob::new(BASE64.decode(text(value)?)?));
    let list = || {
        value
            .as_array()
            .context("expected a list")
            .map(|list| list.iter())
    };
    Ok(match kind.as_str() {
        "S" => AttributeValue::S(text(value)?),
        "N" => AttributeValue::N(text(value)?),
        "B" => AttributeValue::B(blob(value)?),
        "BOOL" => AttributeValue::Bool(flag(value)?),
        "NULL" => AttributeValue::Null(flag(value)?),
        "SS" => AttributeValue::Ss(list()?.map(text).collect::<Result<_>>()?),
        "NS" => AttributeValue::Ns(list()?.map(text).collect::<Result<_>>()?),
        "BS" => AttributeValue::Bs(list()?.map(blob).collect::<Result<_>>()?),
        "L" => AttributeValue::L(list()?.map(value_from_json).collect::<Result<_>>()?),
        "M" => AttributeValue::M(from_json(value)?),
        other => bail!("an attribute of a kind that is new: {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_attribute_is_written_and_read() {
        let item = json!({
            "s": { "S": "é" }, "n": { "N": "1.50" }, "b": { "B": "AP8=" }, "t": { "BOOL": true },
            "z": { "NULL": true }, "ss": { "SS": ["a"] }, "ns": { "NS": ["1"] }, "bs": { "BS": ["AA=="] },
            "l": { "L": [{ "M": { "x": { "S": "" } } }] },
        });
        assert_eq!(to_json(&from_json(&item).unwrap()).unwrap(), item);
        for bad in [
            json!(1),
            json!({ "a": 1 }),
            json!({ "a": {} }),
            json!({ "a": { "X": "" } }),
            json!({ "a": { "B": "?" } }),
        ] {
            assert!(from_json(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_tables_of_a_stack_are_found_by_its_name() {
        let names = ["ringmark-CallsTable-1X", "ringmark-eu-CallsTable-2Y", "other"];
        let names: Vec<String> = names.map(str::to_owned).to_vec();
        let calls = || std::iter::once("CallsTable".to_owned());
        let found = |stack: &str| names_in(&names, stack, &BTreeMap::new(), calls());
        assert_eq!(found("ringmark").unwrap()["CallsTable"], "ringmark-CallsTable-1X");
        assert_eq!(
            found("ringmark-eu").unwrap()["CallsTable"],
            "ringmark-eu-CallsTable-2Y"
        );
        assert!(found("ring").is_err());
        let twice = ["a-CallsTable-1".to_owned(), "a-CallsTable-2".to_owned()];
        assert!(names_in(&twice, "a", &BTreeMap::new(), calls()).is_err());
        let given = BTreeMap::from([("CallsTable".to_owned(), "a-CallsTable-2".to_owned())]);
        assert_eq!(names_in(&twice, "a", &given, calls()).unwrap(), given);
    }
}
