//! Argon2id, in memory that is used again.
//!
//! Each run needs 19 MiB. The allocator, once it has seen blocks of that size freed, takes them from the
//! heaps of its arenas and gives nothing back: after some hundred runs on many threads these held most of a
//! gigabyte. So memory is kept here instead, as much as there were ever runs at a time.

use std::sync::{Mutex, PoisonError};

use argon2::password_hash::phc::{self, Output, ParamsString, Salt};
use argon2::password_hash::try_generate_salt;
use argon2::{Algorithm, Argon2, Block, Params, Version};

use super::Error;

/// What no run uses now, each piece as large as a run with the parameters of today needs it.
static SPARE: Mutex<Vec<Vec<Block>>> = Mutex::new(Vec::new());

/// Memory for one run.
struct Memory(Vec<Block>);

impl Memory {
    fn take(blocks: usize) -> Self {
        let spare = || SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut memory = spare().unwrap_or_default();
        if memory.len() < blocks {
            memory = vec![Block::new(); blocks];
        }
        Self(memory)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.0.len() == Params::DEFAULT.block_count() {
            let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
            spare.push(std::mem::take(&mut self.0));
        }
    }
}

/// Hashes with the parameters of today, which are the crate's and OWASP's: 19 MiB, two passes.
///
/// # Errors
/// [`Error::Hashing`]: the system has no random numbers.
pub(super) fn hash(secret: &str) -> Result<String, Error> {
    let salt = try_generate_salt().map_err(|_| Error::Hashing)?;
    let salt = Salt::new(&salt).map_err(|_| Error::Hashing)?;
    let (algorithm, version, params) = (Algorithm::Argon2id, Version::V0x13, Params::DEFAULT);
    let output = run(algorithm, version, params.clone(), secret, &salt).ok_or(Error::Hashing)?;
    let hash = phc::PasswordHash {
        algorithm: algorithm.ident(),
        version: Some(version.into()),
        params: ParamsString::try_from(&params).map_err(|_| Error::Hashing)?,
        salt: Some(salt),
        hash: Some(output),
    };
    Ok(hash.to_string())
}

/// Whether a hash is that of a secret; with whatever parameters it was made.
pub(super) fn matches(secret: &str, hash: &str) -> bool {
    let evaluated = || {
        let hash = phc::PasswordHash::new(hash).ok()?;
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        let version = Version::try_from(hash.version?).ok()?;
        let params = Params::try_from(&hash).ok()?;
        let output = run(algorithm, version, params, secret, &hash.salt?)?;
        // Outputs are compared in constant time.
        Some(output == hash.hash?)
    };
    evaluated().unwrap_or(false)
}

/// Whether a hash was made with other parameters than those of today.
pub(super) fn is_outdated(hash: &str) -> bool {
    let Ok(hash) = phc::PasswordHash::new(hash) else {
        return true;
    };
    let same = hash.algorithm == Algorithm::Argon2id.ident()
        && hash.version == Some(Version::V0x13.into())
        && Params::try_from(&hash).is_ok_and(|params| {
            params.m_cost() == Params::DEFAULT_M_COST
                && params.t_cost() == Params::DEFAULT_T_COST
                && params.p_cost() == Params::DEFAULT_P_COST
        });
    !same
}

fn run(
    algorithm: Algorithm,
    version: Version,
    params: Params,
    secret: &str,
    salt: &Salt,
) -> Option<Output> {
    let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
    let mut memory = Memory::take(params.block_count());
    let mut output = [0; Output::MAX_LENGTH];
    let output = output.get_mut(..length)?;
    Argon2::new(algorithm, version, params)
        .hash_password_into_with_memory(secret.as_bytes(), salt, output, &mut memory.0)
        .ok()?;
    Output::new(output).ok()
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordHasher as _;

    use super::*;

    /// Those of the crate's own way are these, whatever memory was used for before.
    #[test]
    fn hashes_are_what_they_always_were() {
        let params = Params::new(64, 3, 2, Some(24)).unwrap();
        let others = [
            Argon2::default(),
            Argon2::new(Algorithm::Argon2i, Version::V0x10, params),
        ];
        for argon2 in others {
            let hash = argon2.hash_password(b"4711").unwrap().to_string();
            assert!(matches("4711", &hash), "{hash}");
            assert!(!matches("4712", &hash), "{hash}");
        }
        let ours = hash("4711").unwrap();
        assert!(matches("4711", &ours) && !matches("", &ours));
        assert!(!is_outdated(&ours));
        assert_ne!(ours, hash("4711").unwrap());
        for damaged in [
            "",
            "x",
            "$argon2id$v=19$m=19456,t=2,p=1",
            "$scrypt$ln=15,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(!matches("4711", damaged), "{damaged}");
        }
    }

    #[test]
    fn less_effort_is_outdated() {
        let today = hash("4711").unwrap();
        for (hash, outdated) in [
            (today.as_str(), false),
            (&today.replace("m=19456", "m=9216"), true),
            (&today.replace("t=2", "t=1"), true),
            (&today.replace("argon2id", "argon2i"), true),
            ("x", true),
        ] {
            assert_eq!(is_outdated(hash), outdated, "{hash}");
        }
    }
}
