//! When the material of one end of the link, or a certificate for HTTPS, ends, and what to say of
//! it in good time.
//!
//! Reads the files as they are: also what cannot be used any more, which is when it matters most.

use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use super::{TlsError, TlsFiles, read_pem};
use crate::status::CertificateStatus;

/// How many days before its end a certificate is warned of, unless told otherwise.
pub const WARNING_DAYS: u16 = 30;

/// Which end of the link a certificate stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The agent on the PBX host.
    Agent,
    /// The portal.
    Portal,
}

impl End {
    const fn certificate(self) -> &'static str {
        match self {
            Self::Agent => "agent certificate",
            Self::Portal => "portal certificate",
        }
    }
}

impl TlsFiles {
    /// When the certificate of this end, the CA's and the revocation list end; a file may hold
    /// several. The second value says which files cannot be read, and why: their ends are missing.
    pub fn ends(&self, end: End) -> (Vec<CertificateStatus>, Vec<String>) {
        let mut found = Vec::new();
        let mut faults = Vec::new();
        let mut add = |name: &str, ends: Result<Vec<OffsetDateTime>, TlsError>| match ends {
            Ok(ends) => found.extend(ends.into_iter().map(|not_after| CertificateStatus {
                name: name.to_owned(),
                not_after,
            })),
            Err(error) => faults.push(format!("the {name} cannot be read: {error}")),
        };
        add(end.certificate(), certificates(&self.cert));
        add("CA certificate", certificates(&self.ca));
        if let Some(crl) = &self.crl {
            add("revocation list", lists(crl));
        }
        (found, faults)
    }

    /// What an administrator has to be told of [`TlsFiles::ends`]: whatever ends within `early`,
    /// or has ended, or cannot be read.
    pub fn warnings(&self, end: End, now: OffsetDateTime, early: Duration) -> Vec<String> {
        let (ends, mut warnings) = self.ends(end);
        warnings.extend(ends.iter().filter_map(|status| status.warning(now, early)));
        warnings
    }
}

impl CertificateStatus {
    /// What to say when it ends within `early` of `now`, or has ended.
    pub fn warning(&self, now: OffsetDateTime, early: Duration) -> Option<String> {
        let Self { name, not_after } = self;
        let left = *not_after - now;
        let day = not_after.date();
        if left < Duration::ZERO {
            Some(format!("the {name} ended on {day}: replace it"))
        } else if left <= early {
            let days = left.whole_days();
            Some(format!(
                "the {name} ends on {day}, in {days} days: renew it"
            ))
        } else {
            None
        }
    }
}

/// What an administrator has to be told of the certificates in one file, each called `name`:
/// whatever ends within `early` of `now`, or has ended, or cannot be read.
pub fn of_certificates(
    name: &str,
    path: &Path,
    now: OffsetDateTime,
    early: Duration,
) -> Vec<String> {
    let ends = match certificates(path) {
        Ok(ends) => ends,
        Err(error) => return vec![format!("the {name} cannot be read: {error}")],
    };
    let status = |not_after| CertificateStatus {
        name: name.to_owned(),
        not_after,
    };
    let warnings = ends.into_iter().map(status);
    warnings
        .filter_map(|status| status.warning(now, early))
        .collect()
}

fn certificates(path: &Path) -> Result<Vec<OffsetDateTime>, TlsError> {
    read_pem::<CertificateDer<'static>>(path)?
        .iter()
        .map(|der| certificate_end(der).ok_or_else(|| not_understood(path)))
        .collect()
}

/// The last instant of a certificate; `None` when it cannot be understood.
fn certificate_end(der: &CertificateDer<'_>) -> Option<OffsetDateTime> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.validity().not_after.to_datetime())
}

/// The next update of every list, as far as it says one.
fn lists(path: &Path) -> Result<Vec<OffsetDateTime>, TlsError> {
    let mut ends = Vec::new();
    for der in read_pem::<CertificateRevocationListDer<'static>>(path)? {
        let (_, list) =
            CertificateRevocationList::from_der(&der).map_err(|_| not_understood(path))?;
        ends.extend(list.next_update().map(|time: ASN1Time| time.to_datetime()));
    }
    Ok(ends)
}

fn not_understood(path: &Path) -> TlsError {
    TlsError::File {
        path: PathBuf::from(path),
        reason: "cannot be understood".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn warns_before_the_end_and_after_it() {
        let status = CertificateStatus {
            name: "agent certificate".to_owned(),
            not_after: datetime!(2030-03-01 12:00 UTC),
        };
        let early = Duration::days(30);
        assert_eq!(status.warning(datetime!(2030-01-30 11:59 UTC), early), None);
        assert_eq!(
            status
                .warning(datetime!(2030-02-19 12:00 UTC), early)
                .as_deref(),
            Some("the agent certificate ends on 2030-03-01, in 10 days: renew it")
        );
        assert_eq!(
            status
                .warning(datetime!(2030-03-01 12:01 UTC), early)
                .as_deref(),
            Some("the agent certificate ended on 2030-03-01: replace it")
        );
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let nowhere = PathBuf::from("/nonexistent");
        let files = TlsFiles {
            ca: nowhere.clone(),
            cert: nowhere.clone(),
            key: nowhere.clone(),
            crl: Some(nowhere),
        };
        let now = datetime!(2030-01-01 0:00 UTC);
        let warnings = files.warnings(End::Portal, now, Duration::days(30));
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].starts_with("the portal certificate cannot be read"));
    }
}
