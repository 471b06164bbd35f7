//! REST: [`router`] is the table of URLs. Handlers take a request apart, call one service, and
//! answer; bodies (`…Body`) live here and nowhere else.

mod applies;
mod changes;
mod described;
mod envelope;
mod error;
mod events;
mod extract;
mod fields;
mod follow;
mod health;
mod openapi;
mod outcome;
mod pbxes;
mod pending;
mod prefer;
mod preview;
mod query;
mod restore;
mod revisions;
mod status;
mod users;
mod verify;
mod warnings;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse as _, Response};
use axum::{Router, middleware};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::services::Portal;

/// Largest body: 64 KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Every path but those of the documentation.
fn operations() -> OpenApiRouter<Arc<Portal>> {
    let quick = OpenApiRouter::new()
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::get, users::delete))
        .routes(routes!(pbxes::list, pbxes::create))
        .routes(routes!(pbxes::get, pbxes::change, pbxes::delete))
        .routes(routes!(applies::list))
        .routes(routes!(applies::get))
        .routes(routes!(follow::events))
        .routes(routes!(status::show))
        .routes(routes!(events::list))
        .routes(routes!(preview::show))
        .routes(routes!(revisions::list))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .layer(middleware::from_fn(envelope::deadline));
    // An apply has deadlines of its own, and goes on when its client does not.
    let slow = OpenApiRouter::new()
        .routes(routes!(applies::run))
        .routes(routes!(restore::run))
        .routes(routes!(verify::run));
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .merge(quick)
        .merge(slow)
}

/// `/openapi.json`, which also describes itself.
fn documentation() -> OpenApiRouter<Arc<utoipa::openapi::OpenApi>> {
    OpenApiRouter::new().routes(routes!(openapi::show))
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = operations().into_openapi();
    document.merge(documentation().into_openapi());
    document
}

/// The whole of the portal's HTTP.
pub fn router(portal: Arc<Portal>) -> Router {
    let (operations, _) = operations().with_state(portal).split_for_parts();
    let (documentation, _) = documentation()
        .with_state(Arc::new(document()))
        .split_for_parts();
    let page = SwaggerUi::new("/docs").config(Config::from("/openapi.json"));
    Router::new()
        .merge(operations)
        .merge(documentation)
        .merge(page)
        .fallback(unknown_path)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(envelope::panicked))
        .layer(middleware::from_fn(envelope::envelope))
}

async fn unknown_path() -> Response {
    error::ApiError::UnknownPath.into_response()
}
