//! Addresses and messages against the published settlement vector, which two virtual machines
//! accepted. It lies outside the repository: `$CHRYSALIS_VECTORS`, by default `shared/vectors` beside
//! it. Without that folder the tests say that they were skipped; a folder without it is a failure.

use std::path::PathBuf;

use chrysalis_receipt::{
    ChannelId, MeterKey, MeterPublicKey, MeterState, PayerKey, PayerPublicKey, Settlement, boc,
};
use chrysalis_ton::{ChannelConfig, settle_external};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use serde_json::Value;
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell as TychoCell, CellBuilder as TychoBuilder, CellFamily as _};
use zeroize::Zeroizing;

fn vector() -> Option<Value> {
    let folder = std::env::var_os("CHRYSALIS_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        PathBuf::from,
    );
    if !folder.is_dir() {
        println!("skipped: no vectors folder; set CHRYSALIS_VECTORS");
        return None;
    }
    let file = std::fs::read(folder.join("ton_settlement.json")).unwrap();
    Some(serde_json::from_slice(&file).unwrap())
}

fn at<'a>(v: &'a Value, path: &str) -> &'a Value {
    v.pointer(path).unwrap_or_else(|| panic!("the vector has no {path}"))
}

fn text<'a>(v: &'a Value, path: &str) -> &'a str {
    at(v, path).as_str().unwrap().trim_start_matches("0:")
}

fn num(v: &Value, path: &str) -> u64 {
    at(v, path).as_u64().unwrap()
}

fn digest(v: &Value, path: &str) -> Digest {
    text(v, path).parse().unwrap()
}

fn seed(v: &Value, path: &str) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(digest(v, path).0)
}

/// Depth of the code of the vector, which it gives only by its hash.
const CODE_DEPTH: u16 = 6;

/// Our contract is another one than the vector's, so its channels have other addresses; but the
/// settings are stored as there.
#[test]
fn the_settings_of_a_channel_make_the_address_of_the_vector_under_its_code() {
    let Some(v) = vector() else { return };
    let payer = PayerKey::from_seed(&seed(&v, "/payer_seed")).public();
    let config = ChannelConfig::new(
        PayerPublicKey::parse(&payer).unwrap(),
        digest(&v, "/inputs/payer_account"),
        digest(&v, "/inputs/payee"),
        num(&v, "/inputs/salt"),
    )
    .and_then(|c| c.with_min_settle(num(&v, "/inputs/min_settle").into()))
    .and_then(|c| c.with_close_delay(num(&v, "/inputs/close_delay").try_into().unwrap()))
    .unwrap();
    let data = boc(&config.state_init().unwrap().refs()[1]);

    // The code as a pruned branch, whose hash one level down is that of the code itself.
    let context = TychoCell::empty_context();
    let mut code = TychoBuilder::new();
    code.set_exotic(true);
    code.store_u16(0x0101).unwrap();
    code.store_raw(&digest(&v, "/code_hash").0, 256).unwrap();
    code.store_u16(CODE_DEPTH).unwrap();
    let mut init = TychoBuilder::new();
    init.store_small_uint(0b00110, 5).unwrap();
    init.store_reference(code.build_ext(context).unwrap()).unwrap();
    init.store_reference(Boc::decode(data).unwrap()).unwrap();
    let init = init.build_ext(context).unwrap();
    assert_eq!(hex::encode(init.hash(0).0), text(&v, "/channel"));
}

#[test]
fn the_external_message_is_that_of_the_vector_bit_for_bit() {
    let Some(v) = vector() else { return };
    let network = NetworkId(at(&v, "/inputs/global_id").as_i64().unwrap().try_into().unwrap());
    let channel = ChannelId { network, account: digest(&v, "/channel") };
    let payer = PayerKey::from_seed(&seed(&v, "/payer_seed"));
    let meter = MeterKey::from_seed(&seed(&v, "/meter_seed"));
    let meter_key = MeterPublicKey::parse(&meter.public()).unwrap();
    let cap = payer.sign(channel, meter_key, num(&v, "/inputs/max_cum").into()).unwrap();
    let state = MeterState {
        blind: hex::decode(text(&v, "/inputs/state/blind")).unwrap().try_into().unwrap(),
        count: num(&v, "/inputs/state/count"),
        cum_units: num(&v, "/inputs/state/cum_units"),
        issued_at: UnixTime(num(&v, "/inputs/state/issued_at")),
        prev: digest(&v, "/inputs/state/prev"),
        log_root: digest(&v, "/inputs/state/log_root"),
    };
    let cum_amount = num(&v, "/inputs/cum_amount").into();
    let settlement = meter.sign_settlement(Settlement { channel, cum_amount, state }).unwrap();
    let message = settle_external(&cap, &settlement).unwrap();
    assert_eq!(hex::encode(boc(&message)), text(&v, "/ext_boc"));
}
