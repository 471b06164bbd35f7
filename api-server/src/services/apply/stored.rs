//! How a bundle is kept: JSON, encrypted by the caller.

use std::collections::BTreeMap;

use serde::Serialize;
use shared::bundle::{Bundle, Slot};

/// Why a bundle cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    /// Rendered files are text.
    #[error("a rendered file is not UTF-8")]
    NotUtf8,
    /// Out of the ordinary: the shape is fixed.
    #[error("a bundle could not be written as JSON")]
    Json(#[source] serde_json::Error),
}

#[derive(Serialize)]
struct StoredBundle<'a> {
    files: BTreeMap<Slot, &'a str>,
    reserved_numbers: Vec<(u32, u32)>,
}

/// `{"files": {"<slot>": "<text>"}, "reserved_numbers": [[first, last]]}`.
pub(super) fn encode(bundle: &Bundle) -> Result<Vec<u8>, EncodeError> {
    let files = bundle
        .files
        .iter()
        .map(|(slot, bytes)| std::str::from_utf8(bytes).map(|text| (*slot, text)))
        .collect::<Result<_, _>>()
        .map_err(|_| EncodeError::NotUtf8)?;
    let range = |range: &std::ops::RangeInclusive<u32>| (*range.start(), *range.end());
    let reserved_numbers = bundle.reserved_numbers.iter().map(range).collect();
    let stored = StoredBundle {
        files,
        reserved_numbers,
    };
    serde_json::to_vec(&stored).map_err(EncodeError::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kept_as_it_is() {
        let bundle = Bundle {
            files: BTreeMap::from([(Slot::PjsipEndpoints, "; \"ü\"\n".as_bytes().to_vec())]),
            reserved_numbers: vec![1000..=1999],
        };
        let expected =
            r#"{"files":{"pjsip_endpoints":"; \"ü\"\n"},"reserved_numbers":[[1000,1999]]}"#;
        assert_eq!(encode(&bundle).unwrap(), expected.as_bytes());
        let bundle = Bundle {
            files: BTreeMap::from([(Slot::PjsipEndpoints, vec![0xff])]),
            reserved_numbers: vec![],
        };
        assert!(matches!(encode(&bundle), Err(EncodeError::NotUtf8)));
    }
}
