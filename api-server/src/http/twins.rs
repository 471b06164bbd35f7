//! What belongs to a tenant has two paths: `/tenants/{tenant}/users`, and for the default tenant
//! `/users`. One handler serves both; the document gets what tells the two apart.

use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{OpenApi, RefOr, Required};

use super::openapi::{also, problems};

/// Where the paths of a tenant begin.
pub(super) const PREFIX: &str = "/tenants/{tenant}/";

/// Names the tenant among the parameters of each path below it, and gives its operations names of
/// their own. Without a prefix a tenant may be missing as well: the default one, to whoever is confined
/// to another.
pub(super) fn describe(document: &mut OpenApi) {
    let paths = document.paths.paths.keys();
    let below = paths.filter_map(|path| path.strip_prefix(PREFIX));
    let twins: Vec<String> = below.map(|rest| format!("/{rest}")).collect();
    for twin in &twins {
        let item = document.paths.paths.get_mut(twin);
        item.into_iter()
            .flat_map(operations)
            .for_each(no_such_tenant);
    }
    let below = document.paths.paths.iter_mut();
    for (_, item) in below.filter(|(path, _)| path.starts_with(PREFIX)) {
        for operation in operations(item) {
            if let Some(id) = &mut operation.operation_id {
                *id = of_tenant(id);
            }
            let schema = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
            let tenant = ParameterBuilder::new()
                .name("tenant")
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some("The tenant: its id or slug"))
                .schema(Some(RefOr::T(Schema::Object(schema.build()))));
            no_such_tenant(operation);
            let parameters = operation.parameters.get_or_insert_default();
            parameters.insert(0, RefOr::T(tenant.build()));
        }
    }
}

/// The tenant may be nobody, whatever else may be missing.
fn no_such_tenant(operation: &mut Operation) {
    let said = problems(&[("404", "`tenant_not_found`")]);
    also(&mut operation.responses.responses, said);
}

/// The operations of a path.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.post,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}

/// `list_users` → `list_tenant_users`.
fn of_tenant(id: &str) -> String {
    id.split_once('_').map_or_else(
        || id.to_owned(),
        |(verb, rest)| format!("{verb}_tenant_{rest}"),
    )
}
