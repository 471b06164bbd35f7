//! What the objects of a bundle say of one another. Asterisk loads an endpoint without its auth, a
//! step that dials nobody, and one that dials another tenant's phone, all without a word.

use crate::bundle::{GENERATION_MARKER, Slot};
use crate::names;

use super::vocabulary::{algorithm, auths, dialled};
use super::{Model, Options};

/// Everything that is wrong with it.
pub(super) fn faults(model: &Model) -> Vec<(Slot, String)> {
    let mut faults = Vec::new();
    for (name, options) in &model.endpoints {
        let say = |fault| {
            let message = format!("endpoint [{name}]: {fault}");
            (Slot::PjsipEndpoints, message)
        };
        faults.extend(endpoint(model, name, options).map(say));
    }
    for (name, options) in &model.auths {
        if let Some(fault) = auth(name, options) {
            let message = format!("auth [{name}]: {fault}");
            faults.push((Slot::PjsipEndpoints, message));
        }
    }
    for (context, extensions) in &model.contexts {
        for (extension, steps) in extensions {
            for fault in steps.iter().flat_map(|step| dial(model, context, step)) {
                let message = format!("[{context}] {extension} dials {fault}");
                faults.push((Slot::DialplanRouting, message));
            }
        }
    }
    faults
}

/// An endpoint needs its own context, its own auths and its own AOR.
fn endpoint<'a>(
    model: &'a Model,
    name: &'a str,
    options: &'a Options,
) -> impl Iterator<Item = &'static str> {
    let context = match options.get("context") {
        Some(context) if model.contexts.contains_key(context) => {
            let device = names::owner_of_object(name).map(|owner| owner.tenant);
            let tenants = (device, names::tenant_of_context(context));
            matches!(tenants, (Some(device), Some(context)) if device != context)
                .then_some("its context is another tenant's")
        }
        _ => Some("its context does not exist"),
    };
    let auth = match options.get("auth") {
        Some(value) if auths(value).all(|auth| model.auths.contains_key(auth)) => {
            (auths(value).next() != Some(name)).then_some("its auth is another's")
        }
        _ => Some("its auth does not exist"),
    };
    let aors = match options.get("aors") {
        Some(aor) if !model.aors.contains_key(aor) => Some("its aors does not exist"),
        Some(aor) if aor != name => Some("its aors is another's"),
        _ => None,
    };
    [context, auth, aors].into_iter().flatten()
}

/// An auth must have a digest of the algorithm that it offers, MD5 unless it says otherwise, or
/// Asterisk refuses it; and the name of the device that it lets in.
fn auth(name: &str, options: &Options) -> Option<&'static str> {
    if name == GENERATION_MARKER {
        return None;
    }
    let digest = options.get("password_digest").and_then(algorithm);
    let offered = |option| options.get(option).unwrap_or("MD5");
    let [uas, uac] = ["supported_algorithms_uas", "supported_algorithms_uac"].map(offered);
    if digest.is_some_and(|digest| digest != uas || digest != uac) {
        return Some("its algorithms are not that of its digest");
    }
    let username = options.get("username");
    username
        .is_some_and(|username| username != names::device(name))
        .then_some("its username is another's")
}

/// Whoever is dialled must be in the context that dials: so no mistake of rendering lets a tenant
/// call another.
fn dial(model: &Model, context: &str, step: &str) -> Vec<&'static str> {
    let fault = |endpoint| match model.endpoints.get(endpoint) {
        None => Some("a missing endpoint"),
        Some(options) if options.get("context") != Some(context) => {
            Some("an endpoint of another context")
        }
        Some(_) => None,
    };
    dialled(step).filter_map(fault).collect()
}
