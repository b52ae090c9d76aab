//! Keysets, the inside of a sealed request and worker manifests. What has a canonical encoding
//! has no other.
#![cfg_attr(feature = "libfuzzer", no_main)]

use chrysalis_fuzz::variant;
use chrysalis_wire::inner::decode_error;
use chrysalis_wire::{
    Digest, InnerRequest, KeyId, KeyRole, Keyset, NetworkId, SealKeyEntry, SuiteId, UnixTime,
    WorkerManifest,
};

chrysalis_fuzz::target!(seeds, one);

fn seeds() -> Vec<Vec<u8>> {
    let key = |suite, role| SealKeyEntry {
        id: KeyId([7; 16]),
        suite,
        role,
        not_before: UnixTime(100),
        not_after: UnixTime(900),
        public: vec![9; 32],
    };
    let keyset = Keyset {
        network: NetworkId::TESTNET,
        meter_key: [1; 32],
        tls_spki: Digest([2; 32]),
        seal_keys: vec![key(SuiteId::XWing, KeyRole::Worker), key(SuiteId::X25519, KeyRole::Grant)],
    };
    let inner = InnerRequest { salt: [1; 32], evidence: vec![Digest([2; 32]); 2], json: b"{}" };
    let zeros = "0".repeat(64);
    let manifest = format!(
        "version = 1\nnetwork = -3\nregistry = \"{zeros}\"\n[model]\nname = \"m\"\n\
         root = \"{zeros}\"\nsealed = false\n[limits]\nrequest_bytes = 65536\n\
         context_tokens = 2048\ncompletion_tokens = 512\nconcurrent_requests = 4\n[prices]\n\
         prompt = 1\ncached = 1\ncompletion = 8\nreasoning = 8\n"
    );
    vec![keyset.encode(), inner.encode().expose().to_vec(), manifest.into_bytes()]
}

fn one(data: &[u8]) -> String {
    let keyset = match Keyset::decode(data) {
        Ok(keyset) => {
            assert_eq!(keyset.encode(), data);
            "keyset".to_owned()
        }
        Err(error) => variant(&error),
    };
    let inner = match InnerRequest::decode(data) {
        Ok(inner) => {
            assert_eq!(inner.encode().expose(), data);
            "inner".to_owned()
        }
        Err(error) => variant(&error),
    };
    assert_eq!(decode_error(data).is_ok(), data.len() >= 2);
    let manifest = WorkerManifest::parse(data).map_or_else(|e| variant(&e), |_| "manifest".into());
    format!("{keyset} {inner} {manifest}")
}
