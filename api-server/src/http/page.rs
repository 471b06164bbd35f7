//! Lists: `limit`, `cursor`, `sort`, filters and `q` of a query, and the `Link` to the next page.
//!
//! What a list can be ordered and filtered by stands in one place, its [`Listed`]; the query is read
//! by it and the OpenAPI document is made from it.

mod cursor;
mod parameters;

use axum::Json;
use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::HeaderValue;
use axum::http::header::LINK;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use self::cursor::{cursor, place};
pub(super) use self::parameters::ListParams;
use super::error::ApiError;
use super::fields::Fields;
use super::instant::instant;
use super::query::{LIMIT_DEFAULT, encoded, limit, pairs, read};
use crate::domain::page::{Order, Page, Position, Slice, SortKey};
use crate::domain::pbx::PbxRef;
use crate::domain::{Invalid, PbxId};
use crate::services::{Portal, pbxes};

/// Longest text that is searched for, in characters.
const SEARCH_CHARS_MAX: usize = 100;

/// What a list can be ordered, filtered and searched by.
pub(super) trait Listed {
    /// What it can be ordered by.
    type Sort: SortKey;
    /// What it can be filtered by.
    const FILTERS: &'static [Filter];
    /// Where `q` looks, in words; `None`: there is no `q`.
    const SEARCH: Option<&'static str> = None;
    /// How many rows a page holds unless told otherwise; `None`: all, when nothing at all is said.
    const LIMIT: Option<u16> = Some(LIMIT_DEFAULT);
}

/// A parameter that keeps the rows whose field of this name has that value.
pub(super) struct Filter {
    /// The name of the parameter and of the field.
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) takes: Takes,
    /// For the document.
    pub(super) description: &'static str,
}

/// What a filter takes.
#[derive(Clone, Copy)]
pub(super) enum Takes {
    /// Any text.
    Text,
    /// A UUID.
    Id,
    /// The id or the name of a PBX.
    Pbx,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Bool,
    /// A time, RFC 3339.
    Time,
    /// One of these.
    OneOf(fn() -> Vec<&'static str>),
}

/// The query of a list, not yet read.
pub(super) struct ListQuery {
    path: String,
    query: String,
}

impl<S: Sync> FromRequestParts<S> for ListQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // Below a tenant, `uri` has lost the part that names it.
        let whole = parts.extensions.get::<OriginalUri>();
        let uri = whole.map_or(&parts.uri, |OriginalUri(uri)| uri);
        Ok(Self {
            path: uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
        })
    }
}

/// What a client wants of a list.
#[derive(Debug)]
pub(super) struct Wanted<K> {
    /// Which part, in which order.
    pub(super) page: Page<K>,
    /// Only rows that hold this text.
    pub(super) search: Option<String>,
    filters: Vec<(&'static str, FilterValue)>,
    path: String,
    query: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum FilterValue {
    Text(String),
    Id(Uuid),
    Pbx(PbxRef),
    Number(i64),
    Bool(bool),
    Time(OffsetDateTime),
}

impl ListQuery {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn read<L: Listed>(self) -> Result<Wanted<L::Sort>, ApiError> {
        let bare = self.query.is_empty();
        let mut fields = read(&self.query);
        let mut filters = Vec::new();
        for filter in L::FILTERS {
            let value = fields.or_default(filter.name, |value| {
                filter_value(filter.takes, value.as_str().unwrap_or_default()).map(Some)
            });
            filters.extend(value.flatten().map(|value| (filter.name, value)));
        }
        let page = page::<L::Sort>(&mut fields);
        let search = match L::SEARCH {
            Some(_) => fields.or_default("q", |value| search(&value).map(Some)),
            None => Some(None),
        };
        let wanted = page.zip(search).map(|(page, search)| Wanted {
            page: Page {
                limit: if bare { L::LIMIT } else { page.limit },
                ..page
            },
            search,
            filters,
            path: self.path,
            query: self.query,
        });
        fields.finish(wanted).map_err(ApiError::InvalidFields)
    }
}

impl<K: SortKey> Wanted<K> {
    /// What the filter `name` was given as text, or as one of several words.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.value(name)? {
            FilterValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Likewise, as an id.
    pub(super) fn id(&self, name: &str) -> Option<Uuid> {
        match self.value(name)? {
            FilterValue::Id(id) => Some(*id),
            _ => None,
        }
    }

    /// The PBX that the filter `pbx` names, in service or not.
    pub(super) async fn pbx(&self, portal: &Portal) -> Result<Option<PbxId>, ApiError> {
        match self.value("pbx") {
            Some(FilterValue::Pbx(named)) => Ok(Some(pbxes::id_of(portal, named).await?)),
            _ => Ok(None),
        }
    }

    /// Likewise, as a number.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        match self.value(name)? {
            FilterValue::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Likewise, as a truth.
    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        match self.value(name)? {
            FilterValue::Bool(bool) => Some(*bool),
            _ => None,
        }
    }

    /// Likewise, as a time.
    pub(super) fn time(&self, name: &str) -> Option<OffsetDateTime> {
        match self.value(name)? {
            FilterValue::Time(time) => Some(*time),
            _ => None,
        }
    }

    fn value(&self, name: &str) -> Option<&FilterValue> {
        let given = self.filters.iter().find(|(given, _)| *given == name);
        given.map(|(_, value)| value)
    }

    /// The rows as a bare array, and in `Link` where the next ones are.
    pub(super) fn answer<T: Serialize>(&self, slice: Slice<T>) -> Response {
        let Slice { items, next } = slice;
        let mut response = Json(items).into_response();
        if let Some(next) = next {
            let link = self.link(&next);
            if let Ok(link) = HeaderValue::try_from(link) {
                response.headers_mut().insert(LINK, link);
            }
        }
        response
    }

    /// RFC 8288: the same query from another place on. `sort` is said by the cursor as well.
    fn link(&self, next: &Position) -> String {
        let cursor = ("cursor".to_owned(), cursor(self.page.order, next));
        let others = pairs(&self.query).filter(|(name, _)| name != "cursor");
        let query: Vec<String> = others
            .chain([cursor])
            .map(|(name, value)| format!("{}={}", encoded(&name), encoded(&value)))
            .collect();
        format!("<{}?{}>; rel=\"next\"", self.path, query.join("&"))
    }
}

fn page<K: SortKey>(fields: &mut Fields) -> Option<Page<K>> {
    let sort = fields.or_default("sort", |value| {
        let order = value.as_str().and_then(order);
        order.map(Some).ok_or(Invalid {
            code: "malformed",
            message: "must be a field that this list is sorted by, with - for the highest first",
        })
    });
    let limit = limit(fields);
    let order = sort.map(|sort| sort.unwrap_or(K::DEFAULT));
    // Without a known order there is nothing to compare the cursor with.
    let after = fields.or_default("cursor", |value| {
        let text = value.as_str().unwrap_or_default();
        order.map_or(Ok(None), |order| place(order, text).map(Some))
    });
    let ((order, limit), after) = order.zip(limit).zip(after)?;
    Some(Page {
        order,
        after,
        limit: Some(limit),
    })
}

fn order<K: SortKey>(text: &str) -> Option<Order<K>> {
    let (descending, name) = match text.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, text),
    };
    let key = K::ALL.iter().find(|key| key.name() == name)?;
    Some(Order {
        key: *key,
        descending,
    })
}

fn written<K: SortKey>(order: Order<K>) -> String {
    let sign = if order.descending { "-" } else { "" };
    format!("{sign}{}", order.key.name())
}

fn search(value: &serde_json::Value) -> Result<String, Invalid> {
    let text = value.as_str().unwrap_or_default().trim();
    if text.is_empty() || text.contains('\0') || text.chars().count() > SEARCH_CHARS_MAX {
        return Err(Invalid {
            code: "malformed",
            message: "must be 1 to 100 characters",
        });
    }
    Ok(text.to_owned())
}

fn filter_value(takes: Takes, text: &str) -> Result<FilterValue, Invalid> {
    let malformed = |message| Invalid {
        code: "malformed",
        message,
    };
    match takes {
        Takes::Text if text.is_empty() || text.contains('\0') || text.len() > 256 => {
            Err(malformed("must be 1 to 256 bytes"))
        }
        Takes::Text => Ok(FilterValue::Text(text.to_owned())),
        Takes::Id => (text.len() == 36)
            .then(|| Uuid::try_parse(text).ok())
            .flatten()
            .map(FilterValue::Id)
            .ok_or(malformed("must be a UUID")),
        Takes::Pbx => text
            .parse()
            .map(FilterValue::Pbx)
            .map_err(|Invalid { message, .. }| malformed(message)),
        Takes::Number => text
            .parse()
            .map(FilterValue::Number)
            .map_err(|_| malformed("must be a whole number")),
        Takes::Bool => text
            .parse()
            .map(FilterValue::Bool)
            .map_err(|_| malformed("must be true or false")),
        Takes::Time => instant(text)
            .map(FilterValue::Time)
            .ok_or(malformed("must be a time such as 2026-01-31T12:00:00Z")),
        Takes::OneOf(words) => words()
            .contains(&text)
            .then(|| FilterValue::Text(text.to_owned()))
            .ok_or(malformed(
                "must be one of the words that the document names",
            )),
    }
}

#[cfg(test)]
mod tests;
