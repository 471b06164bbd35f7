//! A search for secrets in whatever form somebody may have written them down, by one pass over each
//! place. What is found is told by name, never shown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use md5::{Digest as _, Md5};
use sha2::{Sha256, Sha512_256};
use tests::portal::Reply;

const BASE64: [&[u8; 64]; 2] = [
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
];

/// Everything that somebody could read.
#[derive(Default)]
pub(super) struct Traces(pub(super) BTreeMap<String, Vec<u8>>);

impl Traces {
    pub(super) fn add(&mut self, name: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.0.insert(name.into(), content.into());
    }

    pub(super) fn reply(&mut self, reply: &Reply) {
        let number = self.0.len();
        let text = format!("{:?}\n{reply}", reply.headers);
        self.add(format!("reply {number}: {}", reply.status), text);
    }

    /// Every file below `dir`.
    pub(super) fn files(&mut self, dir: &Path) -> anyhow::Result<()> {
        for path in files_below(dir)? {
            self.add(path.display().to_string(), std::fs::read(&path)?);
        }
        Ok(())
    }

    /// Which secrets are where.
    pub(super) fn found(&self, secrets: &Secrets) -> anyhow::Result<BTreeSet<(String, &str)>> {
        let finder = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(secrets.0.iter().map(|(_, form)| form))?;
        let mut found = BTreeSet::new();
        for (place, content) in &self.0 {
            for hit in finder.find_overlapping_iter(content) {
                let (name, _) = &secrets.0[hit.pattern().as_usize()];
                found.insert((name.clone(), place.as_str()));
            }
        }
        Ok(found)
    }
}

pub(super) fn files_below(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

/// What must not be found, in every form, by name.
#[derive(Default)]
pub(super) struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    /// Bytes, and every usual way to write them as text.
    pub(super) fn add(&mut self, name: &str, secret: &[u8]) {
        let hex = hex(secret);
        let decimal: Vec<String> = secret.iter().map(u8::to_string).collect();
        let percent = bytewise(secret, |byte| format!("%{byte:02x}"));
        let utf16: Vec<u8> = secret.iter().flat_map(|byte| [*byte, 0]).collect();
        let mut forms = vec![
            ("plain", secret.to_vec()),
            ("hexadecimal", hex.into_bytes()),
            // As `{:?}` shows bytes.
            ("decimal", decimal.join(", ").into_bytes()),
            ("decimal", decimal.join(",").into_bytes()),
            ("percent", percent.into_bytes()),
            ("UTF-16", utf16),
        ];
        for alphabet in BASE64 {
            forms.extend((0..3).map(|shift| ("base64", base64(alphabet, secret, shift))));
        }
        let named = forms.into_iter();
        self.0
            .extend(named.map(|(form, bytes)| (format!("{name}, {form}"), bytes)));
    }

    /// The hash of something secret, as bytes and as the text that people know it by.
    fn add_hash(&mut self, name: &str, hash: &[u8]) {
        self.add(name, hash);
        self.add(&format!("{name} as text"), hex(hash).as_bytes());
    }

    /// A SIP password and what is as good as it within its realm, but not [`ha1`].
    pub(super) fn add_password(&mut self, name: &str, username: &str, password: &str) {
        self.add(&format!("password of {name}"), password.as_bytes());
        let account = format!("{username}:synergycall:{password}");
        for (of, text) in [("account", account.as_str()), ("password", password)] {
            let hash = |algorithm| format!("{algorithm} of the {of} of {name}");
            self.add_hash(&hash("SHA-256"), &Sha256::digest(text));
            self.add_hash(&hash("SHA-512-256"), &Sha512_256::digest(text));
        }
        let hash = Md5::digest(password);
        self.add_hash(&format!("MD5 of the password of {name}"), &hash);
    }

    /// What Asterisk authenticates somebody by: it stands in the files that are made for Asterisk.
    pub(super) fn add_ha1(&mut self, name: &str, username: &str, password: &str) {
        let ha1 = Md5::digest(format!("{username}:synergycall:{password}"));
        self.add_hash(&format!("digest of {name}"), &ha1);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytewise(bytes, |byte| format!("{byte:02x}"))
}

fn bytewise(bytes: &[u8], text: impl Fn(&u8) -> String) -> String {
    bytes.iter().map(text).collect::<Vec<_>>().concat()
}

/// What stands in the base64 of a longer text for `bytes` in its middle, `shift` octets after a
/// group of three begins: the characters that depend on nothing else.
fn base64(alphabet: &[u8; 64], bytes: &[u8], shift: usize) -> Vec<u8> {
    let bits: Vec<bool> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1))
        .collect();
    // After one octet the next character has 4 bits of ours, after two 2.
    let skipped = [0, 4, 2][shift];
    let value = |six: &[bool]| {
        six.iter()
            .fold(0, |value, bit| value * 2 + usize::from(*bit))
    };
    bits[skipped..]
        .chunks_exact(6)
        .map(|six| alphabet[value(six)])
        .collect()
}

/// The search would find what it looks for.
#[test]
fn every_form_is_found() -> anyhow::Result<()> {
    let mut secrets = Secrets::default();
    secrets.add("it", b"k0Rr3nBb46edRin4");
    let holders: [(&str, &[u8]); 9] = [
        ("plain", b"x k0rr3nbb46edrin4 y"),
        ("hex", b"\\x6B305272336E42623436656452696E34"),
        (
            "debug",
            b"[1, 107, 48, 82, 114, 51, 110, 66, 98, 52, 54, 101, 100, 82, 105, 110, 52]",
        ),
        (
            "percent",
            b"%6b%30%52%72%33%6e%42%62%34%36%65%64%52%69%6e%34",
        ),
        ("base64 0", b"azBScjNuQmI0NmVkUmluNA=="),
        ("base64 1", b"eGswUnIzbkJiNDZlZFJpbjR5"),
        ("base64 2", b"eHhrMFJyM25CYjQ2ZWRSaW40eQ=="),
        (
            "utf16",
            b"k\x000\x00R\x00r\x003\x00n\x00B\x00b\x004\x006\x00e\x00d\x00R\x00i\x00n\x004\x00",
        ),
        ("another", b"k0Rr3nBb46edRin5"),
    ];
    for (name, content) in holders {
        let mut traces = Traces::default();
        traces.add(name, content);
        assert_eq!(
            traces.found(&secrets)?.is_empty(),
            name == "another",
            "{name}"
        );
    }
    Ok(())
}
