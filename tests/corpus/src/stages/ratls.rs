//! RA-TLS certificates: form, key, evidence, and the quote inside. All genuine ones carry a genuine
//! quote that is bound to their key as their format says.

use chrysalis_tee_sim::collateral;
use gramine_ratls::{
    Format, OID_COCOON_CLAIMS, OID_COCOON_QUOTE, OID_GRAMINE_QUOTE, OID_INTEL_COPY,
    OID_TAGGED_EVIDENCE,
};
use serde_json::{Value, json};

use super::{ratls_enclave, ratls_evidence};
use crate::case::{Stage, bytes, shorten};
use crate::certificate::{Certificate, Key, der, evidence, extension, quote, validity};
use crate::world::{ISSUED, NOW, pins};

pub(crate) fn stage() -> Stage {
    let mut stage = Stage::new("ratls", "enclave/ratls, module documentation");
    let mut base =
        |name, title, format| stage.genuine(name, title, &input(&Certificate::new(format)));
    let tagged = base("genuine-interoperable", "TCG DICE tagged evidence", Format::Interoperable);
    let gramine = base("genuine-gramine", "Gramine's bare quote", Format::Gramine);
    let cocoon = base("genuine-cocoon", "Cocoon's two extensions", Format::Cocoon);
    forms(&mut stage, gramine);
    keys(&mut stage, gramine, cocoon);
    uses(&mut stage, gramine);
    formats(&mut stage, tagged, gramine, cocoon);
    ratls_evidence::claims(&mut stage, tagged);
    ratls_evidence::quotes(&mut stage, tagged, gramine);
    ratls_enclave::enclaves(&mut stage);
    stage
}

/// Puts this certificate into a case.
pub(super) fn of(certificate: &Certificate) -> impl FnOnce(&mut Value) + use<> {
    let der = hex::encode(certificate.sign());
    move |case| case["certificate"] = der.into()
}

fn forms(stage: &mut Stage, base: usize) {
    let made = || Certificate::new(Format::Gramine);
    let der_error = ("E-RATLS-DER", 10);
    stage.rejects(base, der_error, "empty", "no bytes at all", |case| {
        case["certificate"] = "".into()
    });
    stage.rejects(base, der_error, "truncated", "its last byte is missing", |case| {
        bytes(case, CERTIFICATE, shorten);
    });
    stage.rejects(base, ("E-RATLS-TRAILING", 10), "byte-more", "a byte behind its end", |case| {
        bytes(case, CERTIFICATE, |der| der.push(0));
    });
    stage.rejects(base, ("E-RATLS-SIZE", 10), "too-large", "one byte over the limit", |case| {
        bytes(case, CERTIFICATE, |der| der.resize(gramine_ratls::MAX_CERTIFICATE_BYTES + 1, 0));
    });
    stage.rejects(
        base,
        ("E-RATLS-TRAILING", 10),
        "field-behind-extensions",
        "a field behind the extensions",
        of(&Certificate { tail: vec![5, 0], ..made() }),
    );
    for (name, title, version) in [
        ("version-1", "version 1, which has no extensions", Vec::new()),
        ("version-2", "version 2", der(0xA0, &[2, 1, 1])),
        ("version-4", "a version nobody has defined", der(0xA0, &[2, 1, 3])),
    ] {
        let certificate = Certificate { version, ..made() };
        stage.rejects(base, ("E-RATLS-VERSION", 10), name, title, of(&certificate));
    }
    stage.rejects(
        base,
        der_error,
        "serial-negative",
        "a negative serial number",
        of(&Certificate { serial: vec![2, 1, 0x80], ..made() }),
    );
    stage.rejects(
        base,
        ("E-RATLS-SIZE", 10),
        "serial-too-long",
        "a serial number one byte over the limit",
        of(&Certificate { serial: der(2, &[1; gramine_ratls::MAX_SERIAL_BYTES + 1]), ..made() }),
    );
    stage.rejects(
        base,
        ("E-RATLS-ISSUER", 10),
        "of-another-issuer",
        "it names another issuer than itself",
        of(&Certificate { issuer: der(0x30, &der(0x31, &[])), ..made() }),
    );
    stage.rejects(
        base,
        ("E-RATLS-VALIDITY", 10),
        "window-reversed",
        "it ends before it begins",
        of(&Certificate { validity: validity("260302000000Z", "260301000000Z"), ..made() }),
    );
    stage.rejects(
        base,
        der_error,
        "no-such-day",
        "it begins on 30 February",
        of(&Certificate { validity: validity("260230000000Z", "260302000000Z"), ..made() }),
    );
    stage.rejects(
        base,
        ("E-RATLS-DUPLICATE", 10),
        "extension-twice",
        "an extension twice",
        of(&made().extended(UNKNOWN, false, &[1]).extended(UNKNOWN, false, &[2])),
    );
    stage.rejects(
        base,
        ("E-RATLS-DUPLICATE", 10),
        "quote-twice",
        "the quote twice",
        of(&made().extended(OID_GRAMINE_QUOTE, false, &[])),
    );
    stage.accepts(
        base,
        "unknown-extension",
        "an extension without a meaning here",
        of(&made().extended(UNKNOWN, false, b"?")),
    );
    stage.rejects(
        base,
        ("E-RATLS-CRITICAL", 10),
        "unknown-critical",
        "a critical extension without a meaning here",
        of(&made().extended(UNKNOWN, true, b"?")),
    );
    let mut many = made();
    (1..=u8::try_from(gramine_ratls::MAX_EXTENSIONS).unwrap())
        .for_each(|n| many.extensions.push(extension(&[0x2A, n], false, &[])));
    stage.rejects(
        base,
        ("E-RATLS-SIZE", 10),
        "too-many-extensions",
        "one extension over the limit",
        of(&many),
    );
}

fn keys(stage: &mut Stage, gramine: usize, cocoon: usize) {
    let made = || Certificate::new(Format::Gramine);
    stage.rejects(
        gramine,
        ("E-RATLS-SIGNATURE", 10),
        "signed-by-another",
        "signed with another key than its own",
        of(&Certificate { signer: Key::p256(1), ..made() }),
    );
    stage.rejects(
        cocoon,
        ("E-RATLS-SIGNATURE", 10),
        "signature-changed",
        "one bit of its signature is flipped",
        |case| bytes(case, CERTIFICATE, |der| *der.last_mut().unwrap() ^= 1),
    );
    let named =
        |oid: &str| Certificate { algorithm: der(0x30, &hex::decode(oid).unwrap()), ..made() };
    stage.rejects(
        gramine,
        ("E-RATLS-SIGNATURE-ALGORITHM", 10),
        "algorithm-of-ed25519",
        "it names an algorithm of another kind of key",
        of(&named("06032b6570")),
    );
    stage.rejects(
        gramine,
        ("E-RATLS-SIGNATURE-ALGORITHM", 10),
        "algorithm-sha1",
        "it names ECDSA with SHA-1",
        of(&named("06072a8648ce3d0401")),
    );
    let rsa =
        [&hex::decode("300d06092a864886f70d0101010500").unwrap()[..], &der(3, &[0, 1])].concat();
    stage.rejects(
        gramine,
        ("E-RATLS-KEY-KIND", 10),
        "key-of-rsa",
        "an RSA key",
        of(&Certificate { spki: der(0x30, &rsa), ..made() }),
    );
    let point = Key::p256(0).spki();
    let compressed = [&point[2..23], &der(3, &[&[0, 2][..], &point[27..59]].concat())].concat();
    stage.rejects(
        gramine,
        ("E-RATLS-KEY-KIND", 10),
        "key-compressed",
        "a compressed point",
        of(&Certificate { spki: der(0x30, &compressed), ..made() }),
    );
    let wrong = |key: Key, format| {
        let extensions = evidence(format, &key.public());
        Certificate::of(key, extensions)
    };
    let kind = ("E-RATLS-KEY-OF-FORMAT", 10);
    stage.rejects(
        gramine,
        kind,
        "gramine-with-ed25519",
        "Gramine's format with a key it does not have",
        of(&wrong(Key::ed25519(0), Format::Gramine)),
    );
    stage.rejects(
        cocoon,
        kind,
        "cocoon-with-p256",
        "Cocoon's format with a key it does not have",
        of(&wrong(Key::p256(0), Format::Cocoon)),
    );
}

fn uses(stage: &mut Stage, base: usize) {
    let made = || Certificate::new(Format::Gramine);
    let at = |time: u64| move |case: &mut Value| case["now"] = time.into();
    stage.accepts(base, "last-second", "the last second of its window", at(NOW.0 + 86_400));
    stage.rejects(base, ("E-RATLS-EXPIRED", 10), "expired", "a second later", at(NOW.0 + 86_401));
    stage.rejects(
        base,
        ("E-RATLS-EARLY", 10),
        "early",
        "a second before its window",
        at(NOW.0 - 1),
    );
    let authority = hex::decode("30030101ff").unwrap();
    stage.rejects(
        base,
        ("E-RATLS-AUTHORITY", 10),
        "authority",
        "a certificate authority",
        of(&made().extended(&[0x55, 0x1D, 0x13], true, &authority)),
    );
    stage.rejects(
        base,
        ("E-RATLS-PURPOSE", 10),
        "key-agreement-alone",
        "its key is not for signatures",
        of(&made().extended(&[0x55, 0x1D, 0x0F], true, &der(3, &[3, 8]))),
    );
    let client = der(0x30, &hex::decode("06082b06010505070302").unwrap());
    let client = made().extended(&[0x55, 0x1D, 0x25], true, &client);
    stage.rejects(
        base,
        ("E-RATLS-PURPOSE", 10),
        "client-as-server",
        "a client's certificate, shown by a server",
        of(&client),
    );
    stage.accepts(base, "client", "a client's certificate, shown by a client", |case| {
        of(&client)(case);
        case["holder"] = "client".into();
    });
}

fn formats(stage: &mut Stage, tagged: usize, gramine: usize, cocoon: usize) {
    let none = ("E-RATLS-NO-EVIDENCE", 10);
    let plain = |extensions| Certificate::of(Key::p256(0), extensions);
    stage.rejects(gramine, none, "no-evidence", "no evidence", of(&plain(Vec::new())));
    let copy = vec![extension(OID_INTEL_COPY, false, &quote(&[0; 64]))];
    stage.rejects(gramine, none, "intels-copy-alone", "Intel's copy alone", of(&plain(copy)));
    let mut half = Certificate::new(Format::Cocoon);
    half.extensions.pop();
    stage.rejects(cocoon, none, "half-of-cocoon", "Cocoon's quote without its claims", of(&half));
    let several = ("E-RATLS-SEVERAL", 10);
    let mut both = Certificate::new(Format::Cocoon);
    both.extensions.push(extension(OID_GRAMINE_QUOTE, false, &[]));
    stage.rejects(cocoon, several, "cocoon-and-gramine", "two formats side by side", of(&both));
    let both = Certificate::new(Format::Gramine).extended(OID_INTEL_COPY, false, &[]);
    stage.rejects(gramine, several, "gramine-and-intel", "two copies without evidence", of(&both));
    let critical = ("E-RATLS-CRITICALITY", 10);
    let flip = |format: Format, oid: &[u8], critical| {
        let mut certificate = Certificate::new(format);
        certificate.extensions[0] = extension(oid, critical, &[]);
        certificate
    };
    stage.rejects(
        tagged,
        critical,
        "tagged-critical",
        "tagged evidence that is critical",
        of(&flip(Format::Interoperable, OID_TAGGED_EVIDENCE, true)),
    );
    stage.rejects(
        cocoon,
        critical,
        "cocoon-not-critical",
        "Cocoon's quote that is not critical",
        of(&flip(Format::Cocoon, OID_COCOON_QUOTE, false)),
    );
    let key = Key::p256(0).public();
    let gramine_quote = quote(&Format::Gramine.report_data(&key, &[]).0);
    stage.accepts(
        tagged,
        "with-gramines-copy",
        "both of Gramine's extensions, as Gramine writes them",
        of(&Certificate::new(Format::Interoperable).extended(
            OID_GRAMINE_QUOTE,
            false,
            &gramine_quote,
        )),
    );
    stage.rejects(
        tagged,
        ("E-RATLS-BINDING", 10),
        "gramines-copy-of-another-key",
        "a copy that is bound to another key",
        of(&Certificate::new(Format::Interoperable).extended(
            OID_GRAMINE_QUOTE,
            false,
            &quote(&[1; 64]),
        )),
    );
    let other = {
        let platform = chrysalis_tee_sim::SimPlatform::new(b"another program");
        let data = Format::Gramine.report_data(&key, &[]);
        chrysalis_tee::Platform::quote(&platform, &data.0).unwrap()
    };
    stage.rejects(
        tagged,
        ("E-RATLS-COPIES", 10),
        "gramines-copy-of-another-program",
        "a copy of another program's quote",
        of(&Certificate::new(Format::Interoperable).extended(OID_GRAMINE_QUOTE, false, &other)),
    );
    let mut lying = Certificate::new(Format::Cocoon);
    lying.extensions[1] = extension(OID_COCOON_CLAIMS, true, &[7; 32]);
    stage.rejects(
        cocoon,
        ("E-RATLS-KEY-MISMATCH", 10),
        "cocoons-claims-of-another-key",
        "claims that are another key",
        of(&lying),
    );
}

fn input(certificate: &Certificate) -> Value {
    json!({
        "pins": pins(),
        "collateral": collateral(ISSUED),
        "now": NOW.0,
        "holder": "server",
        "certificate": hex::encode(certificate.sign()),
    })
}

const CERTIFICATE: &str = "/certificate";
/// 1.2.3.
const UNKNOWN: &[u8] = &[0x2A, 3];
