//! What a worker's keyset and manifest say of themselves. Every keyset here is attested.

use chrysalis_evidence::RuleId;
use chrysalis_wire::{KeyRole, NetworkId, SuiteId, UnixTime};
use serde_json::Value;

use crate::case::{Stage, shorten, text};
use crate::world::{NOW, Worker, key_id, manifest, sha256};

pub(super) fn keysets(stage: &mut Stage, base: usize) {
    let rule = RuleId::Keyset;
    let form = ("E-KEYSET-FORM", rule);
    let attested = |change: fn(&mut chrysalis_wire::Keyset)| {
        move |case: &mut Value| case["document"] = Worker::honest().with_keyset(change).document()
    };
    stage.refuses(
        base,
        form,
        "key-id-of-another",
        "attested, with an id that is not its key's hash",
        attested(|keyset| keyset.seal_keys[0].id.0[0] ^= 1),
    );
    stage.refuses(
        base,
        form,
        "key-too-short",
        "attested, with a key of 31 bytes",
        attested(|keyset| {
            let key = &mut keyset.seal_keys[0];
            key.public.truncate(31);
            key.id = key_id(key.suite, &key.public);
        }),
    );
    stage.refuses(
        base,
        form,
        "key-of-another-suite",
        "attested, with a key too short for its suite",
        attested(|keyset| {
            let key = &mut keyset.seal_keys[0];
            key.suite = SuiteId::XWing;
            key.id = key_id(key.suite, &key.public);
        }),
    );
    stage.refuses(
        base,
        form,
        "key-twice",
        "attested, with one key twice",
        attested(|keyset| keyset.seal_keys.push(keyset.seal_keys[0].clone())),
    );
    stage.refuses(
        base,
        form,
        "key-window-reversed",
        "attested, with a key that ends before it begins",
        attested(|keyset| keyset.seal_keys[0].not_after = UnixTime(NOW.0 - 1)),
    );
    for (name, title, change) in [
        (
            "keyset-with-a-byte-more",
            "attested, with a byte behind its end",
            (|keyset| keyset.push(0)) as fn(&mut Vec<u8>),
        ),
        ("keyset-empty", "attested, of no bytes", Vec::clear),
        ("keyset-of-another-version", "attested, of another version", |keyset| keyset[3] ^= 1),
        ("keyset-truncated", "attested, with its last byte missing", shorten),
    ] {
        stage.refuses(base, form, name, title, |case| {
            let mut worker = Worker::honest();
            change(&mut worker.keyset);
            case["document"] = worker.document();
        });
    }
    let expired = ("E-KEYSET-EXPIRED", rule);
    stage.accepts(base, "key-in-its-last-second", "its key ends with this second", |case| {
        case["now"] = (NOW.0 + 3600).into();
    });
    stage.refuses(base, expired, "key-expired", "its key ended a second ago", |case| {
        case["now"] = (NOW.0 + 3601).into();
    });
    stage.refuses(base, expired, "key-not-yet-valid", "its key begins in a second", |case| {
        case["now"] = (NOW.0 - 1).into();
    });
    stage.refuses(
        base,
        expired,
        "no-key",
        "attested, without any key",
        attested(|keyset| keyset.seal_keys.clear()),
    );
    stage.refuses(
        base,
        expired,
        "no-worker-key",
        "attested, with a key for grants alone",
        attested(|keyset| keyset.seal_keys[0].role = KeyRole::Grant),
    );
}

pub(super) fn networks(stage: &mut Stage, base: usize) {
    let network = ("E-NETWORK", RuleId::Network);
    stage.refuses(
        base,
        network,
        "keyset-of-mainnet",
        "attested, with a keyset of another network",
        |case| {
            let worker = Worker::honest().with_keyset(|keyset| keyset.network = NetworkId::MAINNET);
            case["document"] = worker.document();
        },
    );
    stage.refuses(
        base,
        network,
        "manifest-of-testnet",
        "measured and pinned, with a manifest of another network",
        |case| {
            let sim = format!("network = {}", NetworkId::INSECURE_SIM.0);
            let other = manifest().replace(&sim, &format!("network = {}", NetworkId::TESTNET.0));
            let (old, new) = (sha256(manifest().as_bytes()), sha256(other.as_bytes()));
            text(case, "/pins", |pins| pins.replace(&old.to_string(), &new.to_string()));
            case["document"] = Worker::honest().with_manifest(other).document();
        },
    );
    stage.refuses(
        base,
        ("E-TLS-KEY", RuleId::TlsKey),
        "keyset-of-another-connection",
        "attested on this connection, with a keyset that names another TLS key",
        |case| {
            let worker = Worker::honest().with_keyset(|keyset| keyset.tls_spki.0[0] ^= 1);
            case["document"] = worker.document();
        },
    );
}
