//! Properties of the readers on generated input: what is written is read back, what is read has
//! one spelling, and no input panics.

use proptest::collection::vec;
use proptest::prelude::{any, proptest};

use super::forge::{Forge, Key, evidence, extension};
use crate::{Claims, Format, KeyKind, PublicKey, RatlsCertificate, TaggedEvidence};

proptest! {
    #[test]
    fn tagged_evidence_is_read_back(quote in vec(any::<u8>(), 0..600), claims in vec(any::<u8>(), 0..300)) {
        let written = TaggedEvidence { quote: &quote, claims: &claims }.encode();
        let read = TaggedEvidence::parse(&written).unwrap();
        assert_eq!((read.quote, read.claims), (&quote[..], &claims[..]));
        for length in 0..written.len() {
            assert!(TaggedEvidence::parse(&written[..length]).is_err());
        }
    }

    #[test]
    fn what_is_read_as_tagged_evidence_is_written_the_same(tail in vec(any::<u8>(), 0..64)) {
        let value = [&[0xD9, 0xEA, 0x60, 0x82][..], &tail].concat();
        if let Ok(read) = TaggedEvidence::parse(&value) {
            assert_eq!(read.encode(), value);
        }
    }

    #[test]
    fn no_input_panics(input in vec(any::<u8>(), 0..400)) {
        let _ = Claims::parse(&input);
        let _ = TaggedEvidence::parse(&input);
        let _ = PublicKey::from_spki(&input);
        let _ = RatlsCertificate::parse(&input);
    }

    /// Behind a good signature, as `no_input_panics` is not.
    #[test]
    fn no_extension_panics(oid in vec(any::<u8>(), 0..12), value in vec(any::<u8>(), 0..64), critical: bool) {
        let forge = Forge::with(Key::ed25519(), |key| evidence(Format::Cocoon, key));
        let whole = forge.extended(extension(&oid, critical, &value)).sign();
        if let Ok(certificate) = RatlsCertificate::parse(&whole) {
            assert_eq!(certificate.key().kind(), KeyKind::Ed25519);
        }
    }
}
