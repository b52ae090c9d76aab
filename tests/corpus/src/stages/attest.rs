//! The binding of `attest/1`: report data that belongs to one connection, one nonce, one keyset, one
//! set of devices and one end, and to nothing else.

use chrysalis_evidence::{Binding, Role, RuleId, keyset_digest};
use chrysalis_wire::Digest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};

use crate::case::{Stage, bytes};
use crate::world::{keyset, session, sha256};

pub(crate) fn stage() -> Stage {
    let mut stage = Stage::new("attest", "policy 15");
    let keyset = keyset().encode();
    let of = |role, device_digest| {
        let session = session();
        let binding = Binding {
            role,
            tls_spki: session.tls_spki,
            nonce: session.nonce,
            exporter: session.exporter,
            keyset_digest: keyset_digest(&keyset),
            device_digest,
        };
        hex::encode(binding.report_data().0)
    };
    let none = Digest([0; 32]);
    let server = stage.genuine(
        "server",
        "a server proves itself on this connection",
        &json!({
            "role": "server",
            "session": session(),
            "keyset": hex::encode(&keyset),
            "device_digest": none,
            "report_data": of(Role::Server, none),
        }),
    );
    stage.accepts(server, "client", "a client proves itself on this connection", |case| {
        case["role"] = "client".into();
        case["report_data"] = of(Role::Client, none).into();
    });
    stage.accepts(server, "devices", "with devices", |case| {
        case["device_digest"] = json!(Digest([4; 32]));
        case["report_data"] = of(Role::Server, Digest([4; 32])).into();
    });
    let bound = ("E-REPORT-DATA", RuleId::ReportData);
    for (name, title, field) in [
        ("replayed", "made for another nonce", "/session/nonce"),
        ("relayed", "made on another connection", "/session/exporter"),
        ("another-key", "made for another TLS key", "/session/tls_spki"),
        ("keyset-replaced", "made for another keyset", "/keyset"),
        ("devices-replaced", "made for other devices", "/device_digest"),
        ("last-bit", "its last bit is another", "/report_data"),
    ] {
        stage.refuses(server, bound, name, title, |case| {
            bytes(case, field, |value| *value.last_mut().unwrap() ^= 1);
        });
    }
    stage.refuses(server, bound, "reflected", "made by a server, shown by a client", |case| {
        case["role"] = "client".into();
    });
    stage.refuses(server, bound, "zero", "report data of zeros", |case| {
        case["report_data"] = "00".repeat(64).into();
    });
    stage.refuses(server, bound, "nonce-and-exporter-swapped", "two fields swapped", |case| {
        let nonce = case["session"]["nonce"].take();
        case["session"]["nonce"] = case["session"]["exporter"].take();
        case["session"]["exporter"] = nonce;
    });
    stage.refuses(server, bound, "devices-not-committed", "devices nobody committed to", |case| {
        case["device_digest"] = json!(Digest([4; 32]));
    });
    stage.refuses(server, bound, "keyset-empty", "a keyset of no bytes", |case| {
        case["keyset"] = "".into();
    });
    stage.refuses(server, bound, "keyset-extended", "a byte behind the keyset", |case| {
        bytes(case, "/keyset", |keyset| keyset.push(0));
    });
    let claims: [(&str, &'static str, Vec<u8>); 4] = [
        ("bare-nonce", "the nonce alone, as quotes on request have", session().nonce.to_vec()),
        ("as-gramine", "the TLS key's hash, as certificates have", session().tls_spki.0.to_vec()),
        ("as-cocoon", "SHA-512 of a raw key", Sha512::digest([1; 32]).to_vec()),
        ("leaf-bare", "the leaf, not hashed again", leaf(&keyset)),
    ];
    for (name, title, mut claim) in claims {
        claim.resize(64, 0);
        stage.refuses(server, bound, name, title, |case: &mut Value| {
            case["report_data"] = hex::encode(claim).into();
        });
    }
    stage
}

/// The leaf of the honest binding.
fn leaf(keyset: &[u8]) -> Vec<u8> {
    let session = session();
    Sha256::new()
        .chain_update([0])
        .chain_update(b"chrysalis/attest/v1")
        .chain_update([1])
        .chain_update(session.tls_spki.0)
        .chain_update(session.nonce)
        .chain_update(session.exporter)
        .chain_update(sha256(keyset).0)
        .chain_update([0; 32])
        .finalize()
        .to_vec()
}
