//! Lists: `limit`, `cursor`, `sort`, filters and `q` of a query, and the `Link` to the next page.
//!
//! What a list can be ordered and filtered by stands in one place, its [`Listed`]; the query is read
//! by it and the OpenAPI document is made from it.

use std::marker::PhantomData;

use axum::Json;
use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::HeaderValue;
use axum::http::header::LINK;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{RefOr, Required};
use uuid::Uuid;

use super::error::ApiError;
use super::fields::Fields;
use super::instant::{instant, of_our_calendar};
use super::query::{LIMIT_DEFAULT, LIMIT_MAX, encoded, limit, pairs, read};
use crate::domain::page::{Kind, Order, Page, Position, Slice, SortKey, Value};
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

/// A cursor: what the list is sorted by, and the place after which it goes on.
fn cursor<K: SortKey>(order: Order<K>, place: &Position) -> String {
    let parts = json!([
        written(order),
        cursor_value(&place.value),
        cursor_value(&place.id)
    ]);
    URL_SAFE_NO_PAD.encode(parts.to_string())
}

fn cursor_value(value: &Value) -> serde_json::Value {
    match value {
        Value::Text(text) => json!(text),
        Value::Number(number) => json!(number),
        Value::Time(time) => json!(microseconds(*time)),
        Value::Id(id) => json!(id),
    }
}

fn microseconds(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

fn place<K: SortKey>(order: Order<K>, text: &str) -> Result<Position, Invalid> {
    let malformed = Invalid {
        code: "malformed",
        message: "must be the cursor of a Link of this list",
    };
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed)?;
    let parts: (String, serde_json::Value, serde_json::Value) =
        serde_json::from_slice(&bytes).map_err(|_| malformed)?;
    let (sort, value, id) = parts;
    if sort != written(order) {
        return Err(Invalid {
            code: "other_sort",
            message: "is of a list that is sorted otherwise",
        });
    }
    let value = placed(order.key.kind(), &value).ok_or(malformed)?;
    let id = placed(K::ID, &id).ok_or(malformed)?;
    Ok(Position { value, id })
}

fn placed(kind: Kind, value: &serde_json::Value) -> Option<Value> {
    Some(match kind {
        // PostgreSQL's text holds no U+0000.
        Kind::Text => Value::Text(
            value
                .as_str()
                .filter(|text| !text.contains('\0'))?
                .to_owned(),
        ),
        Kind::Number => Value::Number(value.as_i64()?),
        Kind::Time => {
            let nanoseconds = i128::from(value.as_i64()?) * 1_000;
            let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?;
            Value::Time(of_our_calendar(time)?)
        }
        Kind::Id => Value::Id(Uuid::try_parse(value.as_str()?).ok()?),
    })
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

/// The parameters of a list in the OpenAPI document.
pub(super) struct ListParams<L>(PhantomData<L>);

impl<L: Listed> IntoParams for ListParams<L> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let filters = L::FILTERS
            .iter()
            .map(|filter| parameter(filter.name, filter.description, schema(filter.takes)));
        let most = if L::LIMIT.is_none() {
            "How many at most; 50 when absent, all when the query is empty"
        } else {
            "How many at most; 50 when absent"
        };
        let limit = typed(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(LIMIT_MAX))
            .build();
        let sorts: Vec<String> = L::Sort::ALL
            .iter()
            .flat_map(|key| [key.name().to_owned(), format!("-{}", key.name())])
            .collect();
        let sort = format!(
            "By what they are ordered, with `-` for the highest first; `{}` when absent",
            written(L::Sort::DEFAULT)
        );
        let text = || typed(Type::String);
        let search = L::SEARCH.map(|places| {
            let said = format!("Only those that hold this text, whatever its case, in {places}");
            let schema = text()
                .min_length(Some(1))
                .max_length(Some(SEARCH_CHARS_MAX));
            parameter("q", &said, schema.build())
        });
        let cursor = "The place after which the page begins, from the `Link` of the page before it";
        [
            parameter("limit", most, limit),
            parameter("cursor", cursor, text().build()),
            parameter("sort", &sort, text().enum_values(Some(sorts)).build()),
        ]
        .into_iter()
        .chain(search)
        .chain(filters)
        .collect()
    }
}

fn typed(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(kind))
}

fn schema(takes: Takes) -> utoipa::openapi::schema::Object {
    match takes {
        Takes::Text | Takes::Pbx => typed(Type::String),
        Takes::Id => typed(Type::String).format(Some(SchemaFormat::Custom("uuid".to_owned()))),
        Takes::Number => typed(Type::Integer),
        Takes::Bool => typed(Type::Boolean),
        Takes::Time => {
            typed(Type::String).format(Some(SchemaFormat::Custom("date-time".to_owned())))
        }
        Takes::OneOf(words) => typed(Type::String).enum_values(Some(words())),
    }
    .build()
}

fn parameter(name: &str, description: &str, schema: utoipa::openapi::schema::Object) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(RefOr::T(Schema::Object(schema))))
        .build()
}

#[cfg(test)]
mod tests;
