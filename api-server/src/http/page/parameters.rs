//! Lists in the OpenAPI document.

use std::marker::PhantomData;

use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{RefOr, Required};

use super::{Listed, SEARCH_CHARS_MAX, Takes, written};
use crate::domain::page::SortKey;
use crate::http::query::LIMIT_MAX;

/// The parameters of a list in the OpenAPI document.
pub(in crate::http) struct ListParams<L>(PhantomData<L>);

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
