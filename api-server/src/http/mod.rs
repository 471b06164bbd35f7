//! REST: [`router`] is the table of URLs. Handlers take a request apart, call one service, and
//! answer; bodies (`…Body`) live here and nowhere else.

mod access;
mod accounts;
mod api_tokens;
mod applies;
mod audit;
pub mod bodies;
mod browsers;
mod budget;
mod bulk;
mod changes;
mod client_address;
mod cookie;
mod declaration;
mod deleted_users;
mod described;
mod devices;
mod envelope;
mod error;
mod etag;
mod events;
mod exports;
mod extract;
mod fields;
mod follow;
mod guard;
mod health;
mod host;
mod imports;
mod instant;
mod no_query;
mod once;
mod openapi;
mod outcome;
mod page;
mod password_resets;
mod pbxes;
mod pending;
mod prefer;
mod preview;
mod query;
mod restore;
mod revisions;
mod second_factor;
mod sessions;
mod sip_passwords;
mod status;
mod tenants;
mod texts;
mod twins;
mod unread;
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

use self::guard::{Guard, Rules};
use self::host::Hosts;
use self::no_query::Without;
use crate::services::Portal;

/// Largest body: 64 KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What belongs to a tenant: under its path, and for the default one also without.
fn of_tenant() -> OpenApiRouter<Arc<Portal>> {
    OpenApiRouter::new()
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::get, users::change, users::delete))
        .routes(routes!(deleted_users::list))
        .routes(routes!(deleted_users::get, deleted_users::purge))
        .routes(routes!(devices::list, devices::create))
        .routes(routes!(devices::get, devices::change, devices::delete))
        .routes(routes!(sip_passwords::rotate))
        .routes(routes!(sip_passwords::reveal_password))
        .routes(routes!(exports::users))
        .routes(routes!(exports::devices))
        .routes(routes!(declaration::show))
}

/// Likewise, with larger bodies and more time.
fn in_bulk() -> OpenApiRouter<Arc<Portal>> {
    OpenApiRouter::new()
        .routes(routes!(imports::users))
        .routes(routes!(imports::devices))
        .routes(routes!(declaration::reconcile))
}

/// Who may sign in, and by what else than a session.
fn of_accounts() -> OpenApiRouter<Arc<Portal>> {
    OpenApiRouter::new()
        .routes(routes!(accounts::list, accounts::create))
        .routes(routes!(accounts::get, accounts::change, accounts::delete))
        .routes(routes!(accounts::unlock))
        .routes(routes!(password_resets::change))
        .routes(routes!(password_resets::issue))
        .routes(routes!(password_resets::redeem))
        .routes(routes!(second_factor::begin))
        .routes(routes!(second_factor::confirm))
        .routes(routes!(second_factor::remove))
        .routes(routes!(second_factor::replace_codes))
        .routes(routes!(api_tokens::list, api_tokens::create))
        .routes(routes!(api_tokens::get, api_tokens::revoke))
}

/// Every path but those of the documentation.
fn operations() -> OpenApiRouter<Arc<Portal>> {
    let quick = OpenApiRouter::new()
        .merge(of_accounts())
        .routes(routes!(sessions::list, sessions::create))
        .routes(routes!(sessions::refresh))
        .routes(routes!(sessions::get, sessions::delete))
        .routes(routes!(tenants::list, tenants::create))
        .routes(routes!(tenants::get, tenants::change, tenants::delete))
        .merge(of_tenant())
        .nest("/tenants/{tenant}", of_tenant())
        .routes(routes!(pbxes::list, pbxes::create))
        .routes(routes!(pbxes::get, pbxes::change, pbxes::delete))
        .routes(routes!(applies::list))
        .routes(routes!(applies::get))
        .routes(routes!(follow::events))
        .routes(routes!(status::show))
        .routes(routes!(events::list))
        .routes(routes!(audit::list))
        .routes(routes!(audit::get))
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
    let bulky = OpenApiRouter::new()
        .merge(in_bulk())
        .nest("/tenants/{tenant}", in_bulk())
        .layer(middleware::from_fn(once::fingerprint))
        .layer(DefaultBodyLimit::max(bulk::BULK_BYTES_MAX));
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .merge(quick)
        .merge(slow)
        .layer(middleware::from_fn(once::fingerprint))
        .merge(bulky)
        .layer(middleware::from_fn(etag::not_modified))
}

/// `/openapi.json`, which also describes itself.
fn documentation() -> OpenApiRouter<Arc<utoipa::openapi::OpenApi>> {
    OpenApiRouter::new().routes(routes!(openapi::show))
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = operations().into_openapi();
    document.merge(documentation().into_openapi());
    openapi::describe_bodies(&mut document);
    twins::describe(&mut document);
    no_query::describe(&mut document);
    access::describe(&mut document);
    document
}

/// Who holds which permission and what each operation needs, in Markdown.
pub fn permissions() -> String {
    access::permissions(&document())
}

/// The whole of the portal's HTTP.
pub fn router(portal: Arc<Portal>) -> Router {
    let guard = Guard {
        rules: Arc::new(Rules::of(&operations().into_openapi())),
        portal: Arc::clone(&portal),
    };
    let hosts = Hosts::of(&portal.settings);
    let document = document();
    let no_query = middleware::from_fn_with_state(Without::of(&document), no_query::refuse);
    let (operations, _) = operations().with_state(portal).split_for_parts();
    let operations = operations
        .layer(no_query.clone())
        .layer(middleware::from_fn_with_state(guard, guard::guard));
    let (documentation, _) = documentation()
        .with_state(Arc::new(document))
        .split_for_parts();
    let documentation = documentation.layer(no_query);
    let page = SwaggerUi::new("/docs").config(Config::from("/openapi.json"));
    Router::new()
        .merge(operations)
        .merge(documentation)
        .merge(page)
        .fallback(unknown_path)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(envelope::panicked))
        .layer(middleware::from_fn_with_state(hosts, host::check))
        .layer(middleware::from_fn(envelope::envelope))
}

async fn unknown_path() -> Response {
    error::ApiError::UnknownPath.into_response()
}
