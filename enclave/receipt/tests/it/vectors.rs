//! The cell layer against vectors that TON's own virtual machine and two public libraries
//! accepted. They lie outside the repository: `$CHRYSALIS_VECTORS`, by default `shared/vectors`
//! beside it. Without that folder the tests say that they were skipped; a folder with a vector
//! missing is a failure.

use std::path::PathBuf;

use chrysalis_receipt::{
    Cell, CellBuilder, ChannelId, MeterKey, MeterPublicKey, MeterState, PayerKey, PayerPublicKey,
    ReceiptError, Settlement, boc,
};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::Value;
use zeroize::Zeroizing;

fn vectors(file: &str) -> Option<Value> {
    let folder = std::env::var_os("CHRYSALIS_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        PathBuf::from,
    );
    if !folder.is_dir() {
        println!("SKIPPED: no vectors folder; set CHRYSALIS_VECTORS");
        return None;
    }
    let text = std::fs::read(folder.join(file))
        .unwrap_or_else(|e| panic!("the vectors folder exists but {file} cannot be read: {e}"));
    Some(serde_json::from_slice(&text).unwrap())
}

fn at<'a>(v: &'a Value, path: &str) -> &'a Value {
    v.pointer(path).unwrap_or_else(|| panic!("the vector has no {path}"))
}

fn text<'a>(v: &'a Value, path: &str) -> &'a str {
    at(v, path).as_str().unwrap()
}

fn num(v: &Value, path: &str) -> u128 {
    at(v, path).as_u64().unwrap().into()
}

fn bytes(v: &Value, path: &str) -> Vec<u8> {
    hex::decode(text(v, path).trim_start_matches("0:")).unwrap()
}

fn digest(bytes: Vec<u8>) -> Digest {
    Digest(bytes.try_into().unwrap())
}

fn key(v: &Value, path: &str) -> SigningKey {
    SigningKey::from_bytes(&bytes(v, path).try_into().unwrap())
}

/// `addr_std` of workchain 0: `10`, no anycast, workchain, account.
fn address(b: &mut CellBuilder, account: &[u8]) {
    b.uint(0b100, 3).unwrap().uint(0, 8).unwrap().bytes(account).unwrap();
}

fn build(fill: impl FnOnce(&mut CellBuilder)) -> Cell {
    let mut b = CellBuilder::new();
    fill(&mut b);
    b.build().unwrap()
}

fn sign(key: &SigningKey, cell: &Cell) -> [u8; 64] {
    key.sign(&cell.hash().0).to_bytes()
}

/// Cap, settlement and state, signed through the typed API, in the external message that both TVMs
/// of the vectors accepted.
#[test]
fn signs_the_settlement_of_the_vectors_bit_for_bit() {
    let Some(v) = vectors("ton_settlement.json") else { return };
    let seed = |path| Zeroizing::new(bytes(&v, path).try_into().unwrap());
    let (payer, meter) =
        (PayerKey::from_seed(&seed("/payer_seed")), MeterKey::from_seed(&seed("/meter_seed")));
    let global_id = i32::try_from(at(&v, "/inputs/global_id").as_i64().unwrap()).unwrap();
    let account = bytes(&v, "/channel");
    let channel = ChannelId { network: NetworkId(global_id), account: digest(account.clone()) };

    let meter_key = MeterPublicKey::parse(&meter.public()).unwrap();
    let cap = payer.sign(channel, meter_key, num(&v, "/inputs/max_cum")).unwrap();
    assert_eq!(cap.cell().hash().to_string(), text(&v, "/cap_hash"));
    assert_eq!(cap.cell().bit_len() as u128, num(&v, "/cap_bits"));
    assert_eq!(hex::encode(cap.signature()), text(&v, "/cap_sig"));

    let state = MeterState {
        blind: bytes(&v, "/inputs/state/blind").try_into().unwrap(),
        count: num(&v, "/inputs/state/count").try_into().unwrap(),
        cum_units: num(&v, "/inputs/state/cum_units").try_into().unwrap(),
        issued_at: UnixTime(num(&v, "/inputs/state/issued_at").try_into().unwrap()),
        prev: digest(bytes(&v, "/inputs/state/prev")),
        log_root: digest(bytes(&v, "/inputs/state/log_root")),
    };
    assert_eq!(state.hash().unwrap().to_string(), text(&v, "/state_hash"));
    let cum_amount = num(&v, "/inputs/cum_amount");
    let signed = meter.sign_settlement(Settlement { channel, cum_amount, state }).unwrap();
    assert_eq!(signed.cell().hash().to_string(), text(&v, "/receipt_hash"));
    assert_eq!(signed.cell().bit_len() as u128, num(&v, "/receipt_bits"));
    assert_eq!(hex::encode(signed.signature()), text(&v, "/receipt_sig"));

    let message = build(|b| {
        // ext_in_msg_info$10, no source, destination, no import fee, no state, body inline.
        b.uint(0b1000, 4).unwrap();
        address(b, &account);
        b.coins(0).unwrap().uint(0, 2).unwrap();
        b.bytes(b"SET1").unwrap().bytes(cap.signature()).unwrap();
        b.reference(cap.cell().clone()).unwrap();
        let signed = build(|b| {
            b.bytes(signed.signature()).unwrap().reference(signed.cell().clone()).unwrap();
        });
        b.reference(signed).unwrap();
    });
    assert_eq!(hex::encode(boc(&message)), text(&v, "/ext_boc"));
}

#[test]
fn refuses_the_weak_keys_of_the_vectors() {
    let Some(v) = vectors("ton_settlement.json") else { return };
    let keys = at(&v, "/weak_public_keys_to_refuse").as_array().unwrap();
    assert_eq!(keys.len(), 6);
    for weak in keys {
        let weak = hex::decode(weak.as_str().unwrap()).unwrap().try_into().unwrap();
        assert_eq!(MeterPublicKey::parse(&weak), Err(ReceiptError::WeakKey));
        assert_eq!(PayerPublicKey::parse(&weak), Err(ReceiptError::WeakPayerKey));
    }
}

/// A synthetic code cell.
fn code(last: u8) -> Cell {
    build(|b| {
        b.bytes(&[0xc0, 0xc0, 0, last]).unwrap();
    })
}

struct Contracts {
    v: Value,
    params_proxy: Cell,
    params_other: Cell,
}

impl Contracts {
    fn load() -> Option<Self> {
        let v = vectors("ton_contracts.json")?;
        let params = |codes: [Option<Cell>; 3]| {
            build(|b| {
                let p = |name: &str| num(&v, &format!("/params/{name}"));
                b.uint(num(&v, "/params_struct_version"), 8).unwrap();
                b.uint(p("params_version"), 32).unwrap().uint(p("unique_id"), 32).unwrap();
                b.bit(p("is_test") == 1).unwrap();
                b.coins(p("price")).unwrap().coins(p("fee")).unwrap();
                for field in ["pm", "cm", "om", "rm", "pd", "cd"] {
                    b.uint(p(field), 32).unwrap();
                }
                b.coins(p("ps")).unwrap().coins(p("cs")).unwrap();
                for code in codes {
                    b.bit(code.is_some()).unwrap();
                    if let Some(code) = code {
                        b.reference(code).unwrap();
                    }
                }
            })
        };
        let params_proxy = params([None, Some(code(2)), Some(code(3))]);
        let params_other = params([None, None, None]);
        Some(Self { v, params_proxy, params_other })
    }

    /// Account id of a contract: the hash of its StateInit with code and data.
    fn account(code: u8, data: Cell) -> String {
        let init = build(|b| {
            b.uint(0b00110, 5).unwrap();
            b.reference(self::code(code)).unwrap().reference(data).unwrap();
        });
        format!("0:{}", init.hash())
    }

    fn public_key(&self) -> Vec<u8> {
        bytes(&self.v, "/proxy_public_key")
    }
}

#[test]
fn builds_the_contract_parameters_and_addresses_of_the_vectors() {
    let Some(c) = Contracts::load() else { return };
    assert_eq!(c.params_proxy.hash().to_string(), text(&c.v, "/params_cell_hash_proxy"));
    assert_eq!(c.params_other.hash().to_string(), text(&c.v, "/params_cell_hash_worker_client"));

    let proxy = build(|b| {
        address(b, &[0x11; 32]);
        b.bytes(&c.public_key()).unwrap();
        address(b, &[0x22; 32]);
        b.uint(0, 2).unwrap().coins(0).unwrap().coins(0).unwrap().uint(0, 32).unwrap();
        b.reference(c.params_proxy.clone()).unwrap();
    });
    assert_eq!(proxy.hash().to_string(), text(&c.v, "/proxy/data_hash"));
    assert_eq!(Contracts::account(1, proxy), text(&c.v, "/proxy/address"));

    let worker = build(|b| {
        address(b, &[0x33; 32]);
        address(b, &bytes(&c.v, "/proxy/address"));
        b.bytes(&c.public_key()).unwrap().uint(0, 2).unwrap().uint(0, 64).unwrap();
        b.reference(c.params_other.clone()).unwrap();
    });
    assert_eq!(worker.hash().to_string(), text(&c.v, "/worker/data_hash"));
    assert_eq!(Contracts::account(2, worker), text(&c.v, "/worker/address"));
}

/// Payments signed by a proxy: data that does not end on a byte, and one reference.
#[test]
fn builds_and_signs_the_payment_messages_of_the_vectors() {
    let Some(c) = Contracts::load() else { return };
    let proxy = key(&c.v, "/proxy_seed");
    assert_eq!(proxy.verifying_key().as_bytes().to_vec(), c.public_key());
    let messages = at(&c.v, "/signed_messages").as_array().unwrap();
    let mut checked = 0;
    for m in messages.iter().filter(|m| m.get("tokens").is_some()) {
        let op = u128::from_str_radix(text(m, "/op").trim_start_matches("0x"), 16).unwrap();
        let query = u128::from_str_radix(text(m, "/query_id"), 16).unwrap();
        let inner = build(|b| {
            b.uint(op, 32).unwrap().uint(query, 64).unwrap().uint(num(m, "/tokens"), 64).unwrap();
            address(b, &bytes(m, "/contract"));
        });
        assert_eq!(inner.bit_len() as u128, num(m, "/inner_bit_len"));
        assert_eq!(inner.hash().to_string(), text(m, "/inner_hash"));
        assert_eq!(hex::encode(sign(&proxy, &inner)), text(m, "/ed25519_signature"));
        let outer = build(|b| {
            b.uint(op, 32).unwrap().uint(query, 64).unwrap();
            address(b, &bytes(m, "/send_excesses_to"));
            b.bytes(&sign(&proxy, &inner)).unwrap().reference(inner).unwrap();
        });
        assert_eq!(outer.hash().to_string(), text(m, "/outer_hash"));
        checked += 1;
    }
    assert_eq!(checked, 4);
}
