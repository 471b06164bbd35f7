//! A query where none is taken is refused like a field that nobody knows: `POST /apply?pbx=branch`
//! must not apply every PBX because the name was written in the wrong place. Which operations take
//! one follows from the document.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi, RefOr};

use super::error::ApiError;
use super::openapi::problems;
use super::query::read;

/// How each of these operations may refuse a request as well.
const REFUSED: &str = "`validation_failed`: it takes no query";

/// The operations that take no query, by method and path.
#[derive(Clone)]
pub(super) struct Without(Arc<HashSet<(Method, String)>>);

impl Without {
    /// Those of a document.
    pub(super) fn of(document: &OpenApi) -> Self {
        let mut without = HashSet::new();
        for (path, item) in &document.paths.paths {
            for (method, operation) in operations(&mut item.clone()) {
                if !takes_query(operation) {
                    without.insert((method, path.clone()));
                }
            }
        }
        Self(Arc::new(without))
    }

    fn has(&self, request: &Request) -> bool {
        let path = request.extensions().get::<MatchedPath>();
        let method = match request.method() {
            &Method::HEAD => Method::GET,
            method => method.clone(),
        };
        path.is_some_and(|path| self.0.contains(&(method, path.as_str().to_owned())))
    }
}

/// Refuses a query that the operation does not take, with all that is in it.
pub(super) async fn refuse(
    State(without): State<Without>,
    request: Request,
    next: Next,
) -> Response {
    let query = request.uri().query().unwrap_or_default();
    if without.has(&request)
        && let Err(errors) = read(query).finish(Some(()))
    {
        return ApiError::InvalidFields(errors).into_response();
    }
    next.run(request).await
}

/// Says of each operation without a query that it refuses one.
pub(super) fn describe(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        for (_, operation) in operations(item) {
            if takes_query(operation) {
                continue;
            }
            match operation.responses.responses.get_mut("400") {
                Some(RefOr::T(response)) if response.description.contains("validation_failed") => {}
                Some(RefOr::T(response)) => {
                    response.description = format!("{}, {REFUSED}", response.description);
                }
                Some(RefOr::Ref(_)) => {}
                None => {
                    let mut added = problems(&[("400", REFUSED)]);
                    operation.responses.responses.append(&mut added);
                }
            }
        }
    }
}

fn takes_query(operation: &Operation) -> bool {
    let mut parameters = operation.parameters.iter().flatten();
    parameters.any(|parameter| {
        matches!(
            parameter,
            RefOr::T(Parameter {
                parameter_in: ParameterIn::Query,
                ..
            })
        )
    })
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    [
        (Method::GET, &mut item.get),
        (Method::POST, &mut item.post),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}
