//! The revocation list of the CA: `crl.pem` beside its key. It ends like a certificate does, and
//! when it has ended nobody is let in by it: it has to be renewed in time also when nothing is to
//! be added.

use std::path::{Path, PathBuf};

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::{CLOCK_SKEW, Overwrite, Pair, PkiError, load_ca, save_file};

/// The name of the list.
const LIST: &str = "crl.pem";

/// Adds certificates to the list of the CA in `dir`, and renews it for `days`; makes it when there
/// is none. Without certificates it is only renewed. Returns its path.
///
/// # Errors
/// A certificate that is not one of this CA's, or is the CA's own.
pub fn revoke(
    dir: &Path,
    certificates: &[PathBuf],
    now: OffsetDateTime,
    days: u16,
) -> Result<PathBuf, PkiError> {
    let issuer = load_ca(dir)?;
    let path = dir.join(LIST);
    let ca = read(&Pair::in_dir(dir, "ca").cert)?;
    let (number, mut revoked) = existing(&path)?;
    for certificate in certificates {
        let serial = serial_of(certificate, &ca, &dir.join("ca.crt"))?;
        if !revoked.iter().any(|known| known.serial_number == serial) {
            revoked.push(RevokedCertParams {
                serial_number: serial,
                revocation_time: now,
                reason_code: None,
                invalidity_date: None,
            });
        }
    }
    let list = CertificateRevocationListParams {
        this_update: now - CLOCK_SKEW,
        next_update: now + Duration::days(days.into()),
        crl_number: SerialNumber::from(number + 1),
        issuing_distribution_point: None,
        revoked_certs: revoked,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let text = list.signed_by(&issuer)?.pem()?;
    save_file(&path, &text, 0o644, Overwrite::Yes)?;
    Ok(path)
}

/// Number and entries of the list that is there.
fn existing(path: &Path) -> Result<(u64, Vec<RevokedCertParams>), PkiError> {
    if !path.exists() {
        return Ok((0, Vec::new()));
    }
    let pem = read(path)?;
    let (_, list) = CertificateRevocationList::from_der(&pem.contents)
        .map_err(|_| PkiError::Unreadable(path.to_owned()))?;
    let number = list.crl_number().map_or(0, |number| {
        let digits = number.to_u64_digits();
        digits.first().copied().unwrap_or(0)
    });
    let entries = list.iter_revoked_certificates().map(|entry| {
        let serial = SerialNumber::from_slice(&entry.user_certificate.to_bytes_be());
        RevokedCertParams {
            serial_number: serial,
            revocation_time: entry.revocation_date.to_datetime(),
            reason_code: None,
            invalidity_date: None,
        }
    });
    Ok((number, entries.collect()))
}

fn serial_of(path: &Path, ca: &Pem, ca_path: &Path) -> Result<SerialNumber, PkiError> {
    let pem = read(path)?;
    let parse = |pem: &Pem, path: &Path| {
        let parsed = X509Certificate::from_der(&pem.contents);
        let serial = parsed.map(|(_, certificate)| {
            let issuer = certificate.issuer().as_raw().to_vec();
            let subject = certificate.subject().as_raw().to_vec();
            let serial = SerialNumber::from_slice(&certificate.serial.to_bytes_be());
            (issuer, subject, serial, certificate.is_ca())
        });
        serial.map_err(|_| PkiError::Unreadable(path.to_owned()))
    };
    let (issuer, _, serial, is_ca) = parse(&pem, path)?;
    let (_, subject, ..) = parse(ca, ca_path)?;
    if is_ca || issuer != subject || key_of_issuer(&pem) != own_key(ca) {
        return Err(PkiError::NotOurs(path.to_owned()));
    }
    Ok(serial)
}

/// The identifier of the key that signed a certificate, as it says itself.
fn key_of_issuer(pem: &Pem) -> Option<Vec<u8>> {
    use x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            AuthorityKeyIdentifier(key) => Some(key.key_identifier.as_ref()?.0.to_vec()),
            _ => None,
        })
}

/// The identifier of the key of a certificate, as it says itself.
fn own_key(pem: &Pem) -> Option<Vec<u8>> {
    use x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
    certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            SubjectKeyIdentifier(key) => Some(key.0.to_vec()),
            _ => None,
        })
}

fn read(path: &Path) -> Result<Pem, PkiError> {
    let bytes = std::fs::read(path).map_err(|source| PkiError::File {
        path: path.to_owned(),
        source,
    })?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&bytes)
        .map_err(|_| PkiError::Unreadable(path.to_owned()))?;
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::super::{LEAF_DAYS, Role, create_ca, issue};
    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2030-01-01 0:00 UTC);

    #[test]
    fn the_list_grows_and_is_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        create_ca(dir, NOW, Overwrite::No).unwrap();
        let first = issue(dir, &Role::Portal, NOW, LEAF_DAYS, Overwrite::No).unwrap();
        let kept = std::fs::read_dir(dir.join("issued")).unwrap().count();
        assert_eq!(kept, 1);
        let list = revoke(dir, std::slice::from_ref(&first.cert), NOW, 30).unwrap();
        let later = NOW + Duration::days(10);
        let second = issue(dir, &Role::Portal, later, LEAF_DAYS, Overwrite::Yes).unwrap();
        revoke(dir, &[second.cert.clone(), second.cert], later, 30).unwrap();
        revoke(dir, &[], later, 30).unwrap();
        let pem = read(&list).unwrap();
        let (_, parsed) = CertificateRevocationList::from_der(&pem.contents).unwrap();
        assert_eq!(parsed.iter_revoked_certificates().count(), 2);
        assert_eq!(parsed.crl_number().unwrap().to_u64_digits(), [3]);
        assert_eq!(
            parsed.next_update().unwrap().to_datetime(),
            later + Duration::days(30)
        );
    }

    #[test]
    fn what_is_not_ours_is_not_revoked() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        create_ca(ours.path(), NOW, Overwrite::No).unwrap();
        create_ca(theirs.path(), NOW, Overwrite::No).unwrap();
        let foreign = issue(theirs.path(), &Role::Portal, NOW, 1, Overwrite::No).unwrap();
        for path in [foreign.cert, ours.path().join("ca.crt")] {
            let refused = revoke(ours.path(), &[path], NOW, 1);
            assert!(matches!(refused, Err(PkiError::NotOurs(_))), "{refused:?}");
        }
    }
}
