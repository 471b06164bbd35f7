use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use utoipa::IntoParams as _;

use super::*;
use crate::domain::page::{Value, sort_keys};
use crate::http::fields::FieldError;

sort_keys! {
    /// What things are listed by.
    enum ThingSort of Id, default MadeAt descending {
        MadeAt = "made_at" Time,
        Name = "name" Text,
    }
}

struct Things;

impl Listed for Things {
    type Sort = ThingSort;
    const FILTERS: &'static [Filter] = &[
        Filter {
            name: "colour",
            takes: Takes::OneOf(|| vec!["red", "green"]),
            description: "Its colour",
        },
        Filter {
            name: "owner",
            takes: Takes::Id,
            description: "Whose it is",
        },
    ];
    const SEARCH: Option<&'static str> = Some("the name");
    const LIMIT: Option<u16> = None;
}

fn wanted(query: &str) -> Result<Wanted<ThingSort>, Vec<FieldError>> {
    let query = ListQuery {
        path: "/things".to_owned(),
        query: query.to_owned(),
    };
    query.read::<Things>().map_err(|error| match error {
        ApiError::InvalidFields(errors) => errors,
        other => panic!("{other:?}"),
    })
}

fn position() -> Position {
    Position {
        value: Value::Time(OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap()),
        id: Value::Id(Uuid::from_u128(7)),
    }
}

#[test]
fn a_link_leads_to_the_place_after_the_page() {
    let first = wanted("colour=red&q=a%26b+c&limit=3").unwrap();
    assert_eq!(first.page.limit, Some(3));
    assert_eq!(first.text("colour"), Some("red"));
    assert_eq!(first.search.as_deref(), Some("a&b c"));
    let link = first.link(&position());
    let query = link
        .strip_prefix("</things?")
        .and_then(|rest| rest.strip_suffix(">; rel=\"next\""))
        .unwrap();
    assert!(
        query.starts_with("colour=red&q=a%26b%20c&limit=3&cursor="),
        "{query}"
    );
    let second = wanted(query).unwrap();
    assert_eq!(second.page.after, Some(position()));
    assert_eq!(second.search, first.search);
    // The cursor of the page before is replaced.
    assert_eq!(second.link(&position()), link);
}

#[test]
fn what_is_not_said_has_a_default() {
    assert_eq!(wanted("").unwrap().page.limit, None);
    let page = wanted("sort=name").unwrap().page;
    assert_eq!(page.limit, Some(50));
    assert_eq!(page.order.key, ThingSort::Name);
    assert!(!page.order.descending && wanted("").unwrap().page.order.descending);
}

#[test]
fn whatever_is_wrong_is_named() {
    let made = cursor(ThingSort::DEFAULT, &position());
    let forged = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let cases = [
        ("limit=0".to_owned(), "limit", "out_of_range"),
        ("sort=colour".to_owned(), "sort", "malformed"),
        ("sort=--name".to_owned(), "sort", "malformed"),
        ("colour=blue".to_owned(), "colour", "malformed"),
        ("owner=1".to_owned(), "owner", "malformed"),
        ("q=".to_owned(), "q", "malformed"),
        ("q=%00".to_owned(), "q", "malformed"),
        ("size=1".to_owned(), "size", "unknown_field"),
        ("cursor=".to_owned(), "cursor", "malformed"),
        ("cursor=x".to_owned(), "cursor", "malformed"),
        (format!("cursor={made}&sort=name"), "cursor", "other_sort"),
        (
            format!("cursor={made}&sort=made_at"),
            "cursor",
            "other_sort",
        ),
        (
            format!("cursor={}", forged(r#"["-made_at","x","y"]"#)),
            "cursor",
            "malformed",
        ),
        (
            format!(
                "cursor={}",
                forged(r#"["-made_at",9223372036854775807,"y"]"#)
            ),
            "cursor",
            "malformed",
        ),
        (
            format!(
                "sort=name&cursor={}",
                forged(r#"["name","\u0000","00000000-0000-0000-0000-000000000007"]"#)
            ),
            "cursor",
            "malformed",
        ),
    ];
    for (query, field, code) in cases {
        let errors = wanted(&query).unwrap_err();
        let found: Vec<_> = errors
            .iter()
            .map(|e| (e.field.as_str(), &*e.code))
            .collect();
        assert_eq!(found, [(field, code)], "{query}");
    }
}

#[test]
fn the_document_names_what_is_read() {
    let names: Vec<String> = ListParams::<Things>::into_params(|| None)
        .into_iter()
        .map(|parameter| parameter.name)
        .collect();
    assert_eq!(names, ["limit", "cursor", "sort", "q", "colour", "owner"]);
}
