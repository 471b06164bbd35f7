//! How a bundle is kept: JSON, encrypted by the caller.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::bundle::{Bundle, Slot};

/// Why a bundle cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(in crate::services) enum EncodeError {
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
pub(in crate::services) fn encode(bundle: &Bundle) -> Result<Vec<u8>, EncodeError> {
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

#[derive(Deserialize)]
struct ReadBundle {
    files: BTreeMap<Slot, String>,
    reserved_numbers: Vec<(u32, u32)>,
}

/// What [`encode`] wrote.
///
/// # Errors
/// Another shape, such as a slot that this version does not know. The parser's own words could
/// repeat parts of the bundle, so they are left out.
pub(in crate::services) fn decode(json: &[u8]) -> Result<Bundle, NotABundle> {
    let read: ReadBundle = serde_json::from_slice(json).map_err(|_| NotABundle)?;
    let files = read.files.into_iter();
    let ranges = read.reserved_numbers.into_iter();
    Ok(Bundle {
        files: files
            .map(|(slot, text)| (slot, text.into_bytes()))
            .collect(),
        reserved_numbers: ranges.map(|(first, last)| first..=last).collect(),
    })
}

/// The stored bundle is of a shape that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("the stored bundle is of a shape that this version of the portal does not know")]
pub(in crate::services) struct NotABundle;

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
        assert_eq!(decode(expected.as_bytes()).unwrap(), bundle);
        assert!(decode(br#"{"files":{"later_slot":""},"reserved_numbers":[]}"#).is_err());
        let bundle = Bundle {
            files: BTreeMap::from([(Slot::PjsipEndpoints, vec![0xff])]),
            reserved_numbers: vec![],
        };
        assert!(matches!(encode(&bundle), Err(EncodeError::NotUtf8)));
    }
}
