//! Receives one bundle: bounded memory, everything checked against the header while it comes in.
//! Nothing is written before the bundle is complete.

use std::collections::BTreeMap;

use shared::bundle::{
    ApplyId, BUNDLE_BYTES_MAX, Bundle, CHUNK_BYTES_MAX, Digest, FileManifest, Manifest, Revision,
    Slot,
};

/// Most ranges of reserved numbers in one bundle: one per tenant of a PBX.
const RANGES_MAX: usize = 10_000;

/// What the header announces.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) apply_id: ApplyId,
    pub(crate) revision: Revision,
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
    /// Leaves safe mode.
    pub(crate) force: bool,
}

/// The upload is not what it says it is: nothing was staged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UploadError {
    /// The files are not exactly the managed ones.
    #[error("a bundle holds each managed file exactly once")]
    WrongSlots,
    /// Over the limit.
    #[error("the bundle is larger than {BUNDLE_BYTES_MAX} bytes")]
    TooLarge,
    /// More ranges than any PBX has tenants, or an empty range.
    #[error("the reserved numbers are not at most {RANGES_MAX} ranges of ascending numbers")]
    WrongRanges,
    /// The digest is not that of the announced files.
    #[error("the digest does not belong to the announced files")]
    WrongDigest,
    /// A chunk over the limit, or an empty one.
    #[error("a chunk holds 1 to {CHUNK_BYTES_MAX} bytes")]
    WrongChunk,
    /// More bytes than announced, or fewer.
    #[error("{} does not have the announced size", .0.relative_path())]
    WrongSize(Slot),
    /// Other bytes than announced.
    #[error("{} does not have the announced hash", .0.relative_path())]
    WrongHash(Slot),
}

/// A bundle on its way in.
pub(crate) struct Upload {
    header: Header,
    files: BTreeMap<Slot, Vec<u8>>,
}

impl Upload {
    /// Begins, if what the header announces can be a bundle.
    pub(crate) fn begin(header: Header) -> Result<Self, UploadError> {
        let manifest = &header.manifest;
        if !manifest.files.iter().map(|file| file.slot).eq(Slot::ALL) {
            return Err(UploadError::WrongSlots);
        }
        let sizes = manifest.files.iter().map(|file| file.size);
        if sizes.fold(0, u64::saturating_add) > BUNDLE_BYTES_MAX {
            return Err(UploadError::TooLarge);
        }
        let ranges = &manifest.reserved_numbers;
        if ranges.len() > RANGES_MAX || ranges.iter().any(std::ops::RangeInclusive::is_empty) {
            return Err(UploadError::WrongRanges);
        }
        if manifest.digest() != header.digest {
            return Err(UploadError::WrongDigest);
        }
        // At their size from the beginning: growing would take twice as much.
        let room =
            |file: &FileManifest| Vec::with_capacity(usize::try_from(file.size).unwrap_or(0));
        let files = manifest
            .files
            .iter()
            .map(|file| (file.slot, room(file)))
            .collect();
        Ok(Self { header, files })
    }

    /// Takes the next piece of a file.
    pub(crate) fn take(&mut self, slot: Slot, data: &[u8]) -> Result<(), UploadError> {
        if data.is_empty() || data.len() > CHUNK_BYTES_MAX {
            return Err(UploadError::WrongChunk);
        }
        let announced = self.announced_size(slot);
        let file = self.files.entry(slot).or_default();
        if (file.len() + data.len()) as u64 > announced {
            return Err(UploadError::WrongSize(slot));
        }
        file.extend_from_slice(data);
        Ok(())
    }

    fn announced_size(&self, slot: Slot) -> u64 {
        let files = &self.header.manifest.files;
        files
            .iter()
            .find(|file| file.slot == slot)
            .map_or(0, |file| file.size)
    }

    /// The complete bundle.
    pub(crate) fn end(self) -> Result<(Header, Bundle), UploadError> {
        for file in &self.header.manifest.files {
            let bytes = self.files.get(&file.slot).ok_or(UploadError::WrongSlots)?;
            if bytes.len() as u64 != file.size {
                return Err(UploadError::WrongSize(file.slot));
            }
            if Digest::of(bytes) != file.sha256 {
                return Err(UploadError::WrongHash(file.slot));
            }
        }
        let reserved_numbers = self.header.manifest.reserved_numbers.clone();
        Ok((
            self.header,
            Bundle {
                files: self.files,
                reserved_numbers,
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::tests::bundle;

    fn header(bundle: &Bundle) -> Header {
        let manifest = bundle.manifest();
        Header {
            apply_id: ApplyId(uuid::Uuid::nil()),
            revision: Revision(1),
            digest: manifest.digest(),
            manifest,
            force: false,
        }
    }

    fn upload(bundle: &Bundle, header: Header) -> Result<Bundle, UploadError> {
        let mut upload = Upload::begin(header)?;
        for (&slot, bytes) in &bundle.files {
            for chunk in bytes.chunks(100) {
                upload.take(slot, chunk)?;
            }
        }
        upload.end().map(|(_, bundle)| bundle)
    }

    fn error(change: impl FnOnce(&mut Header)) -> UploadError {
        let bundle = bundle(&[1000]);
        let mut header = header(&bundle);
        change(&mut header);
        upload(&bundle, header).expect_err("it was accepted")
    }

    #[test]
    fn what_was_announced_is_accepted() {
        let bundle = bundle(&[1000]);
        assert!(upload(&bundle, header(&bundle)).ok() == Some(bundle));
    }

    #[test]
    fn whatever_differs_from_the_header_is_refused() {
        let redigest = |header: &mut Header| header.digest = header.manifest.digest();
        assert_eq!(
            error(|h| {
                h.manifest.files.pop();
            }),
            UploadError::WrongSlots
        );
        assert_eq!(
            error(|h| h.manifest.files.swap(0, 1)),
            UploadError::WrongSlots
        );
        assert_eq!(
            error(|h| h.manifest.files[1] = h.manifest.files[0]),
            UploadError::WrongSlots
        );
        assert_eq!(
            error(|h| h.manifest.files[0].size = u64::MAX),
            UploadError::TooLarge
        );
        assert_eq!(
            error(|h| h.digest = Digest([0; 32])),
            UploadError::WrongDigest
        );
        let longer = |h: &mut Header| {
            h.manifest.files[0].size += 1;
            redigest(h);
        };
        assert_eq!(error(longer), UploadError::WrongSize(Slot::PjsipEndpoints));
        let shorter = |h: &mut Header| {
            h.manifest.files[1].size -= 1;
            redigest(h);
        };
        assert_eq!(
            error(shorter),
            UploadError::WrongSize(Slot::DialplanRouting)
        );
        let other = |h: &mut Header| {
            h.manifest.files[0].sha256 = Digest([1; 32]);
            redigest(h);
        };
        assert_eq!(error(other), UploadError::WrongHash(Slot::PjsipEndpoints));
        #[expect(clippy::reversed_empty_ranges, reason = "that is the mistake")]
        let range = |h: &mut Header| h.manifest.reserved_numbers.push(2..=1);
        assert_eq!(error(range), UploadError::WrongRanges);
    }

    #[test]
    fn chunks_have_a_limit() {
        let mut upload = Upload::begin(header(&bundle(&[1000]))).ok().unwrap();
        let large = vec![b'x'; CHUNK_BYTES_MAX + 1];
        assert_eq!(
            upload.take(Slot::PjsipEndpoints, &large),
            Err(UploadError::WrongChunk)
        );
        assert_eq!(
            upload.take(Slot::PjsipEndpoints, &[]),
            Err(UploadError::WrongChunk)
        );
    }
}
