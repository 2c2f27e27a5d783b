//! Walks over the indexes of calls: lists in pages, and all calls of a window.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Deserialize;

use super::filter::{CallFilter, CallList, Order, Path, Sort, SortPosition};
use super::{CallRecord, CallStore, ListColumns, position, time_text};
use crate::error::Error;
use crate::phone_number::PhoneNumber;
use crate::store::{Item, Page, cursor, failure, from_item, month_of, text};

const MONTHS_ID: &str = "calls";
const MONTHS_PART: &str = "months";
/// Sorts after every position of a month, or of a customer.
const END: &str = "~";
/// Entries that a list looks at for each one that it wants, when it has to pick.
const SIFT_FACTOR: usize = 4;
/// Entries of one query, when a list has to pick.
const QUERY_ENTRIES: usize = 1000;
/// Queries that one page may cost; after them the cursor goes on.
const PAGE_QUERIES: usize = 40;
/// Entries that one page may cost, likewise.
const PAGE_ENTRIES: usize = 10_000;
/// Calls of a window that is ordered by something else than time.
const SORTED_CALLS: usize = 10_000;
/// Queries at the same time, where a whole window is read.
const CONCURRENCY: usize = 8;
/// First calls that are looked up at the same time.
const LOOKUPS: usize = 64;
/// Parts of a month that are read at the same time, each from one day to the next.
const MONTH_PARTS: [&str; 5] = ["", "-09", "-17", "-25", END];

impl CallStore {
    /// Whether lists look into the month of an instant.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn lists_month_of(&self, instant: Timestamp) -> Result<bool, Error> {
        Ok(self.months().await?.contains(&month_of(instant)))
    }

    /// Makes lists look into the month of an instant.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_month_of(&self, instant: Timestamp) -> Result<(), Error> {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("call_id", text(MONTHS_ID))
            .key("part", text(MONTHS_PART))
            .update_expression("ADD months :month")
            .expression_attribute_values(":month", AttributeValue::Ss(vec![month_of(instant)]))
            .return_values(ReturnValue::None)
            .send()
            .await
            .map_err(|error| failure("noting a month", error))?;
        Ok(())
    }

    async fn months(&self) -> Result<BTreeSet<String>, Error> {
        let item = self.get(MONTHS_ID, MONTHS_PART, false).await?;
        let item: MonthsItem = match item {
            Some(item) => from_item("the months", item)?,
            None => MonthsItem::default(),
        };
        Ok(item.months)
    }

    /// A page of a list, full unless the data ends or the page's budget does.
    ///
    /// # Errors
    /// When the cursor is not of this list, `window_too_large` where it can't be
    /// put in this order, or the store fails.
    pub async fn list(
        &self,
        list: &CallList,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<CallRecord>, Error> {
        let name = list.name();
        let after = cursor.map(|cursor| cursor::decode(&name, cursor)).transpose()?;
        let (entries, after) = match list.sort {
            Sort::StartedAt => self.page_by_start(list, limit, after).await?,
            _ => self.page_by_value(list, limit, after).await?,
        };
        Ok(Page {
            entries,
            next_cursor: after.map(|after| cursor::encode(&name, &after)),
        })
    }

    /// A page, and behind which position the next one begins.
    async fn page_by_start(
        &self,
        list: &CallList,
        limit: usize,
        mut after: Option<String>,
    ) -> Result<(Vec<CallRecord>, Option<String>), Error> {
        let mut walk = self.walk(&list.filter, list.order, after.as_deref()).await?;
        let picks = list.filter.picks();
        let mut entries: Vec<CallRecord> = Vec::new();
        let (mut queries, mut read) = (0, 0);
        while queries < PAGE_QUERIES && read < PAGE_ENTRIES {
            let mut wanted = limit + 1 - entries.len();
            if picks {
                // Matches may be rare: look further each time.
                wanted = ((wanted * SIFT_FACTOR) << queries.min(8)).min(QUERY_ENTRIES);
            }
            let Some(found) = walk.next(wanted).await? else {
                return Ok((entries, None));
            };
            queries += 1;
            read += found.len();
            for record in found {
                let shown = list.filter.matches(&record);
                if shown && entries.len() == limit {
                    // There is one more, so this page has a next one.
                    return Ok((entries, after));
                }
                after = Some(position(&record.call));
                if shown {
                    entries.push(record);
                }
            }
            after.clone_from(&walk.after);
        }
        Ok((entries, after))
    }

    /// As [`page_by_start`](Self::page_by_start); the whole window is put in order for each page.
    async fn page_by_value(
        &self,
        list: &CallList,
        limit: usize,
        after: Option<String>,
    ) -> Result<(Vec<CallRecord>, Option<String>), Error> {
        let unbounded = [(list.filter.from, "from"), (list.filter.to, "to")]
            .into_iter()
            .find_map(|(bound, name)| bound.is_none().then_some(name));
        if let Some(field) = unbounded {
            return Err(window_too_large(field, SORTED_CALLS));
        }
        // Calls that come in between pages end no list that has begun.
        let most = if after.is_some() {
            2 * SORTED_CALLS
        } else {
            SORTED_CALLS
        };
        let after = after.map(|after| SortPosition::read(&after));
        let mut placed: Vec<(SortPosition, CallRecord)> = Vec::new();
        let place_each = self.for_each(&list.filter, most, |record| {
            let position = SortPosition::of(&record, list.sort);
            let is_behind = |after: &SortPosition| position.compare(after, list.order).is_gt();
            if after.as_ref().is_none_or(is_behind) {
                placed.push((position, record));
            }
        });
        if !place_each.await? {
            return Err(window_too_large("from", most));
        }
        placed.sort_by(|(a, _), (b, _)| a.compare(b, list.order));
        let more = placed.len() > limit;
        placed.truncate(limit);
        let after = placed
            .last()
            .filter(|_| more)
            .map(|(position, _)| position.write());
        Ok((placed.into_iter().map(|(_, record)| record).collect(), after))
    }

    /// Hands over the calls of a filter, in no order, until it has looked at `most`
    /// entries; whether that were all.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn for_each(
        &self,
        filter: &CallFilter,
        most: usize,
        take: impl FnMut(CallRecord) + Send,
    ) -> Result<bool, Error> {
        let walk = self.walk(filter, Order::Asc, None).await?;
        let (read, take) = (AtomicUsize::new(0), Mutex::new(take));
        let parts = walk.parts().into_iter().map(|mut part| {
            let (read, take) = (&read, &take);
            async move {
                while let Some(found) = part.next(QUERY_ENTRIES).await? {
                    if read.fetch_add(found.len(), Ordering::Relaxed) + found.len() > most {
                        return Ok(false);
                    }
                    let mut take = take.lock().unwrap_or_else(PoisonError::into_inner);
                    found
                        .into_iter()
                        .filter(|record| filter.matches(record))
                        .for_each(&mut *take);
                }
                Ok(true)
            }
        });
        let parts: Vec<_> = parts.collect();
        stream::iter(parts)
            .buffer_unordered(CONCURRENCY)
            .try_fold(true, async |all, part| Ok(all && part))
            .await
    }

    /// The position of the first call ever of each customer, by [`CallRecord::position`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn first_calls(
        &self,
        customers: Vec<PhoneNumber>,
    ) -> Result<HashMap<PhoneNumber, String>, Error> {
        let store = self.clone();
        let found: Vec<Option<(PhoneNumber, String)>> = stream::iter(customers)
            .map(move |customer| store.clone().first_call(customer))
            .buffer_unordered(LOOKUPS)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn first_call(self, customer: PhoneNumber) -> Result<Option<(PhoneNumber, String)>, Error> {
        let path = Path::Customer(customer.clone());
        let (items, _) = self.query(&path, "", ("", END), Order::Asc, 1).await?;
        let first = items.into_iter().next();
        let first = first.map(|item| from_item::<StartItem>("a first call", item));
        Ok(first.transpose()?.map(|first| (customer, first.started)))
    }

    /// A walk over the path of a filter, within its window and behind a position.
    async fn walk(&self, filter: &CallFilter, order: Order, after: Option<&str>) -> Result<Walk<'_>, Error> {
        let path = filter.path();
        let mut lower = filter.from.map(time_text).unwrap_or_default();
        let mut upper = filter.to.map_or_else(|| END.to_owned(), time_text);
        let mut sections: VecDeque<String> = match &path {
            Path::Nowhere => VecDeque::new(),
            Path::Customer(_) => VecDeque::from([String::new()]),
            Path::Start | Path::Credit(_) => self.months().await?.into_iter().collect(),
        };
        if order == Order::Desc {
            sections.make_contiguous().reverse();
        }
        match (after, order) {
            (None, _) => {}
            (Some(after), Order::Asc) => lower = lower.max(just_behind(after)),
            (Some(after), Order::Desc) => upper = upper.min(after.to_owned()),
        }
        Ok(Walk {
            store: self,
            path,
            order,
            sections,
            lower,
            upper,
            after: after.map(str::to_owned),
        })
    }

    /// Entries of one month, or of one customer, from the lower bound to the
    /// upper one, both included, and behind which position there are more.
    async fn query(
        &self,
        path: &Path,
        month: &str,
        (lower, upper): (&str, &str),
        order: Order,
        wanted: usize,
    ) -> Result<(Vec<Item>, Option<String>), Error> {
        let (index, attribute, value) = path.key(month);
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(index)
            .scan_index_forward(order == Order::Asc)
            .limit(i32::try_from(wanted).unwrap_or(i32::MAX))
            .expression_attribute_names("#bucket", attribute)
            .expression_attribute_values(":bucket", text(value))
            // A key can be bounded on both sides only with its bounds included.
            .key_condition_expression("#bucket = :bucket AND started BETWEEN :lower AND :upper")
            // The empty text is no bound; the first one is.
            .expression_attribute_values(":lower", text(if lower.is_empty() { " " } else { lower }))
            .expression_attribute_values(":upper", text(upper))
            .send()
            .await
            .map_err(|error| failure("listing calls", error))?;
        let last = answer.last_evaluated_key;
        let last = last.map(|key| from_item::<StartItem>("the end of a page", key));
        let last = last.transpose()?.map(|last| last.started);
        Ok((answer.items.unwrap_or_default(), last))
    }
}

/// A walk through the sections of a path: its months, or all of a customer.
///
/// Positions are compared as text. A section is named by what its positions begin with.
struct Walk<'a> {
    store: &'a CallStore,
    path: Path,
    order: Order,
    /// Those that are still to be walked, in order.
    sections: VecDeque<String>,
    /// The first position that belongs to the walk, in time.
    lower: String,
    /// The first position in time that does not.
    upper: String,
    /// Up to where everything was walked; `None` at the start.
    after: Option<String>,
}

impl<'a> Walk<'a> {
    /// The next entries, perhaps none; `None` at the end. It costs one query.
    async fn next(&mut self, wanted: usize) -> Result<Option<Vec<CallRecord>>, Error> {
        let is_outside = |section: &String| self.upper <= *section || self.lower >= end_of(section);
        while self.sections.front().is_some_and(is_outside) {
            self.sections.pop_front();
        }
        let section = self.sections.front().filter(|_| self.lower < self.upper);
        let Some(section) = section else {
            return Ok(None);
        };
        let end = end_of(section);
        let bounds = (
            self.lower.as_str().max(section),
            self.upper.as_str().min(end.as_str()),
        );
        // The upper bound comes along, but does not count.
        let (items, last) = self
            .store
            .query(&self.path, section, bounds, self.order, wanted + 1)
            .await?;
        let mut found = Vec::with_capacity(items.len());
        for item in items {
            let columns: ListColumns = from_item("a call of a list", item)?;
            if columns.started < self.upper {
                found.push(columns.into_record()?);
            }
        }
        let after = match (last, self.order) {
            (Some(last), _) => last,
            (None, Order::Asc) => end,
            (None, Order::Desc) => section.clone(),
        };
        match self.order {
            Order::Asc => self.lower = just_behind(&after),
            Order::Desc => self.upper.clone_from(&after),
        }
        self.after = Some(after);
        Ok(Some(found))
    }

    /// The same walk in parts, which can be walked at the same time.
    fn parts(self) -> Vec<Walk<'a>> {
        let of_section = |section: &String| -> Vec<Walk<'a>> {
            let edges = MONTH_PARTS.map(|part| format!("{section}{part}"));
            let parts = edges.windows(2).map(|edges| Walk {
                path: self.path.clone(),
                sections: VecDeque::from([section.clone()]),
                lower: self.lower.clone().max(edges[0].clone()),
                upper: self.upper.clone().min(edges[1].clone()),
                after: None,
                ..self
            });
            parts.filter(|part| part.lower < part.upper).collect()
        };
        match &self.path {
            Path::Customer(_) => vec![self],
            _ => self.sections.iter().flat_map(of_section).collect(),
        }
    }
}

/// Sorts after every position that begins with a section's name.
fn end_of(section: &str) -> String {
    format!("{section}{END}")
}

/// The first text behind a position: positions hold no control characters.
fn just_behind(position: &str) -> String {
    format!("{position}\u{1}")
}

/// The refusal of a window that is open or holds too many calls.
#[must_use]
pub fn window_too_large(field: &str, most: usize) -> Error {
    Error::Invalid {
        code: "window_too_large",
        field: Some(field.to_owned()),
        message: format!("give a window by from and to that holds at most {most} calls"),
    }
}

#[derive(Deserialize, Default)]
struct MonthsItem {
    months: BTreeSet<String>,
}

#[derive(Deserialize)]
struct StartItem {
    started: String,
}
