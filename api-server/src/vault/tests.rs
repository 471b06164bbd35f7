use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::domain::idempotency::AnswerId;

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

fn user(number: u128) -> Place {
    Place::SipPassword(DeviceId(Uuid::from_u128(number)))
}

/// A vault that knows one data key, with a sealer of it.
fn vault(byte: u8) -> (Vault, Sealer) {
    let vault = Vault::new([byte; KEY_BYTES]);
    let key = DataKey::generate(&mut StdRng::seed_from_u64(byte.into()));
    let wrapped = vault.wrap(&key, &mut rng()).unwrap();
    vault.learn(key.id(), &wrapped).unwrap();
    let seal = vault.sealer_with(key.id()).unwrap();
    (vault, seal)
}

#[test]
fn opens_in_its_place_only() {
    let (vault, seal) = vault(1);
    let opener = vault.opener_with_known();
    let id = Uuid::from_u128(1);
    let places = [
        user(1),
        user(2),
        Place::PreviousSipPassword(DeviceId(id)),
        Place::Bundle(ApplyId(id)),
        Place::Answer(AnswerId::of_row("00000000-0000-0000-0000-000000000001", "")),
    ];
    for place in places {
        let sealed = seal.seal(place, b"secret", &mut rng()).unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        for other in places {
            let clear = opener.open(other, &sealed);
            if other == place {
                assert_eq!(clear.unwrap(), b"secret");
            } else {
                assert_eq!(clear, Err(OpenError::Altered), "{place:?} as {other:?}");
            }
        }
    }
}

#[test]
fn a_key_that_is_not_known_opens_nothing() {
    let (first, seal) = vault(1);
    let sealed = seal.seal(user(1), b"secret", &mut rng()).unwrap();
    let (second, _) = vault(2);
    let opener = second.opener_with_known();
    assert_eq!(opener.open(user(1), &sealed), Err(OpenError::OtherKey));
    let before = first.seal_as_before(user(1), b"secret", &mut rng());
    let before = before.unwrap();
    assert_eq!(opener.open(user(1), &before), Err(OpenError::OtherKey));
}

#[test]
fn a_wrapped_key_belongs_to_one_master_key_and_one_id() {
    let (first, second) = (Vault::new([1; KEY_BYTES]), Vault::new([2; KEY_BYTES]));
    let (key, other) = (DataKey::generate(&mut rng()), DataKeyId(Uuid::from_u128(1)));
    let wrapped = first.wrap(&key, &mut rng()).unwrap();
    let unwrapped = first.unwrap(key.id(), &wrapped).unwrap();
    assert_eq!(unwrapped.secret.expose_secret(), key.secret.expose_secret());
    let failed = |vault: &Vault, id| vault.unwrap(id, &wrapped).err();
    assert_eq!(failed(&second, key.id()), Some(OpenError::OtherKey));
    assert_eq!(failed(&first, other), Some(OpenError::Altered));
    assert!(first.learn(other, &wrapped).is_err());
    assert!(first.sealer_with(other).is_none());
    // A wrapped key is no row, and a row no wrapped key.
    let opener = first.opener_with_known();
    assert_eq!(opener.open(user(1), &wrapped), Err(OpenError::Altered));
    // Both master keys can hold the same data key.
    let again = second.wrap(&unwrapped, &mut rng()).unwrap();
    second.learn(key.id(), &again).unwrap();
    first.learn(key.id(), &wrapped).unwrap();
    let seal = first.sealer_with(key.id()).unwrap();
    let sealed = seal.seal(user(1), b"secret", &mut rng()).unwrap();
    let clear = second.opener_with_known().open(user(1), &sealed);
    assert_eq!(clear.unwrap(), b"secret");
}

#[test]
fn rows_from_before_there_were_data_keys_open() {
    let vault = Vault::new([1; KEY_BYTES]);
    let opener = vault.opener_with_known();
    let bundle = Place::Bundle(ApplyId(Uuid::from_u128(1)));
    for place in [user(1), bundle] {
        let sealed = vault.seal_as_before(place, b"secret", &mut rng()).unwrap();
        assert_eq!(opener.open(place, &sealed).unwrap(), b"secret");
        assert_eq!(opener.open(user(2), &sealed), Err(OpenError::Altered));
        let newer = Place::Answer(AnswerId::of_row("a", "b"));
        assert_eq!(opener.open(newer, &sealed), Err(OpenError::Altered));
        assert!(vault.seal_as_before(newer, b"", &mut rng()).is_none());
    }
}

/// What the portal wrote before there were data keys, with the key `01 01 …`.
#[test]
fn what_earlier_portals_stored_opens() {
    let opener = Vault::new([1; KEY_BYTES]).opener_with_known();
    let bundle = Place::Bundle(ApplyId(Uuid::from_u128(1)));
    for (place, stored) in [
        (
            user(1),
            "01c3031c36befba86ae9e0c207865f7e24e8349d4ecdbc8b0f463284247820d9135c03acf42fce97e0b37d\
             aa63033f37c2c2f3",
        ),
        (
            bundle,
            "01c3031c3699a0dfa60568e28ab621629ead61c245e06bb0bc4f577df354b99db331ae3f2b4548951f820f\
             7d22b0685f0e3f03",
        ),
    ] {
        let byte = |index| u8::from_str_radix(&stored[index..index + 2], 16).unwrap();
        let sealed: Vec<u8> = (0..stored.len()).step_by(2).map(byte).collect();
        assert_eq!(opener.open(place, &sealed).unwrap(), b"secret");
    }
}

#[test]
fn every_altered_bit_and_every_cut_is_noticed() {
    let (vault, seal) = vault(1);
    let opener = vault.opener_with_known();
    let new = seal.seal(user(1), b"secret", &mut rng()).unwrap();
    let old = vault.seal_as_before(user(1), b"secret", &mut rng());
    for sealed in [new, old.unwrap()] {
        for index in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[index] ^= 1;
            assert!(opener.open(user(1), &altered).is_err(), "byte {index}");
            let cut = &sealed[..index];
            assert!(opener.open(user(1), cut).is_err(), "{index} bytes");
        }
    }
}

#[test]
fn the_same_text_seals_differently() {
    let ((_, seal), mut rng) = (vault(1), rng());
    let first = seal.seal(user(1), b"secret", &mut rng).unwrap();
    let second = seal.seal(user(1), b"secret", &mut rng).unwrap();
    assert_ne!(first, second);
    assert_ne!(
        DataKey::generate(&mut rng).id(),
        DataKey::generate(&mut rng).id()
    );
}

#[test]
fn keys() {
    let key = generate_key(&mut rng());
    let vault: Vault = key.expose_secret().parse().unwrap();
    assert_eq!(format!("{vault:?}"), "Vault(…)");
    assert_eq!(vault.master_key_id().to_string().len(), 8);
    for bad in ["", "00", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65)] {
        assert!(bad.parse::<Vault>().is_err());
    }
}
