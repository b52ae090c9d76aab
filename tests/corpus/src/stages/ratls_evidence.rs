//! What stands inside an RA-TLS certificate: claims about its key, and the quote.

use chrysalis_evidence::RuleId;
use gramine_ratls::{Claims, Format, OID_GRAMINE_QUOTE, OID_TAGGED_EVIDENCE, TaggedEvidence};

use super::ratls::of;
use crate::case::{Stage, text};
use crate::certificate::{Certificate, Key, extension, quote, tagged};
use crate::world::with_line;

pub(super) fn claims(stage: &mut Stage, base: usize) {
    let key = Key::p256(0);
    let good = Claims::of_key(&key.public());
    let with = |claims: &[u8]| {
        of(&Certificate::of(Key::p256(0), vec![tagged(&Key::p256(0).public(), claims)]))
    };
    stage.rejects(
        base,
        ("E-RATLS-NO-PUBKEY-HASH", 10),
        "no-key-in-claims",
        "claims without the key's hash",
        with(&[0xA0]),
    );
    stage.rejects(
        base,
        ("E-RATLS-KEY-MISMATCH", 10),
        "claims-of-another-key",
        "claims about another key, and a quote bound to them",
        with(&Claims::of_key(&Key::p256(1).public())),
    );
    let mut algorithm = good.clone();
    algorithm[16] = 2;
    stage.rejects(
        base,
        ("E-RATLS-PUBKEY-HASH", 10),
        "hash-of-another-algorithm",
        "a hash of an algorithm that is not accepted",
        with(&algorithm),
    );
    let cbor = ("E-RATLS-CBOR", 10);
    stage.rejects(
        base,
        cbor,
        "claims-with-a-byte-more",
        "a byte behind the claims",
        with(&[&good[..], &[0]].concat()),
    );
    let mut twice = vec![0xA2];
    twice.extend(good[1..].repeat(2));
    stage.rejects(base, cbor, "claim-twice", "the key's hash twice", with(&twice));
    let mut longer = vec![0xB8, 1];
    longer.extend(&good[1..]);
    stage.rejects(
        base,
        cbor,
        "cbor-not-shortest",
        "a length not in its shortest form",
        with(&longer),
    );
    let mut open = vec![0xBF];
    open.extend(&good[1..]);
    open.push(0xFF);
    stage.rejects(base, cbor, "cbor-indefinite", "a map of indefinite length", with(&open));
    let mut known = vec![0xA2];
    known.extend(&good[1..]);
    known.extend([0x65, b'n', b'o', b'n', b'c', b'e', 0x42, 1, 2]);
    stage.accepts(
        base,
        "unknown-claim",
        "a claim without a meaning, hashed all the same",
        with(&known),
    );
    let value = TaggedEvidence { quote: &quote(&[0; 64]), claims: &good }.encode();
    let swap = |from: usize, to: u8| {
        let mut value = value.clone();
        value[from] = to;
        Certificate::of(Key::p256(0), vec![extension(OID_TAGGED_EVIDENCE, false, &value)])
    };
    stage.rejects(
        base,
        ("E-RATLS-TAG", 10),
        "evidence-of-another-kind",
        "a report where a quote is due",
        of(&swap(2, 0x61)),
    );
    stage.rejects(
        base,
        cbor,
        "evidence-of-three",
        "three parts where two are due",
        of(&swap(3, 0x83)),
    );
}

pub(super) fn quotes(stage: &mut Stage, tagged: usize, gramine: usize) {
    let key = Key::p256(0).public();
    let bound = ("E-RATLS-BINDING", 10);
    let with = |quote: &[u8]| {
        of(&Certificate::of(Key::p256(0), vec![extension(OID_GRAMINE_QUOTE, false, quote)]))
    };
    let tagged_with = |quote: &[u8]| {
        let claims = Claims::of_key(&Key::p256(0).public());
        let value = TaggedEvidence { quote, claims: &claims }.encode();
        of(&Certificate::of(Key::p256(0), vec![extension(OID_TAGGED_EVIDENCE, false, &value)]))
    };
    let gramine_data = Format::Gramine.report_data(&key, &[]).0;
    stage.rejects(
        gramine,
        bound,
        "borrowed-quote",
        "a quote for another key",
        with(&quote(&Format::Gramine.report_data(&Key::p256(1).public(), &[]).0)),
    );
    stage.rejects(gramine, bound, "zero-quote", "a quote for nothing", with(&quote(&[0; 64])));
    stage.rejects(
        tagged,
        bound,
        "bound-as-gramine",
        "tagged evidence, with a quote that is bound as Gramine's bare one",
        tagged_with(&quote(&gramine_data)),
    );
    stage.rejects(
        gramine,
        bound,
        "bound-to-claims",
        "a bare quote that is bound as tagged evidence",
        with(&quote(&Format::Interoperable.report_data(&key, &Claims::of_key(&key)).0)),
    );
    stage.rejects(
        gramine,
        ("E-RATLS-QUOTE", 10),
        "quote-too-short",
        "half a report",
        with(&quote(&gramine_data)[..300]),
    );
    let mut unsigned = quote(&gramine_data);
    unsigned[640] ^= 1;
    stage.refuses(
        gramine,
        ("E-DCAP", RuleId::Dcap),
        "quote-unsigned",
        "a quote that is not signed",
        with(&unsigned),
    );
    let mut debug = quote(&gramine_data);
    debug[168] = 1;
    stage.refuses(
        gramine,
        ("E-DEBUG", RuleId::Debug),
        "quote-under-debug",
        "a TD under debug",
        with(&debug),
    );
    stage.refuses(
        tagged,
        ("E-MRTD", RuleId::Image),
        "image-not-pinned",
        "an image that the pins do not name",
        |case| {
            let other = format!("\"{}\"", "12".repeat(48));
            text(case, "/pins", |pins| with_line(pins, "mrtd", &other));
        },
    );
}
