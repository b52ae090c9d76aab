//! The JSON form of a history. Input is a stranger's: its size is bounded, unknown fields are refused,
//! and what it holds is read by the parsers of receipts, proofs and keys.

use std::fmt::Display;

use chrysalis_receipt::spelling::{decimal, hex_bytes};
use chrysalis_receipt::{
    Cap, ChannelId, ChannelTerms, ConsistencyProof, InclusionProof, MeterPublicKey, MeterState,
    PayerPublicKey, PublicReceipt, ReceiptError, Settlement, SignedCap, SignedSettlement,
};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ChannelHistory, Counted, MeterHistory};
use crate::error::{ClientError, sanitise};
use crate::limits::MAX_HISTORY_BYTES;

pub(super) fn write(history: &ChannelHistory) -> Result<Vec<u8>, ClientError> {
    let meters = history.meters.iter().map(MeterJson::new).collect::<Result<_, _>>();
    let document = Document {
        schema: HISTORY_SCHEMA.to_owned(),
        network: history.channel.network,
        account: history.channel.account,
        payer_key: history.payer_key.to_bytes(),
        terms: history.terms.as_ref().map(|terms| hex::encode(terms.encode())),
        meters: meters.map_err(|e| malformed(&e))?,
    };
    let mut bytes = serde_json::to_vec_pretty(&document).map_err(|e| malformed(&e))?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(super) fn read(bytes: &[u8]) -> Result<ChannelHistory, ClientError> {
    if bytes.len() > MAX_HISTORY_BYTES {
        let text = format!("{} bytes; the limit is {MAX_HISTORY_BYTES}", bytes.len());
        return Err(malformed(&text));
    }
    let found: SchemaOnly = serde_json::from_slice(bytes).map_err(|e| malformed(&e))?;
    if found.schema != HISTORY_SCHEMA {
        return Err(malformed(&format!("schema {:?}, expected {HISTORY_SCHEMA}", found.schema)));
    }
    let document: Document = serde_json::from_slice(bytes).map_err(|e| malformed(&e))?;
    let channel = ChannelId { network: document.network, account: document.account };
    let terms = document.terms.as_deref().map(read_terms).transpose();
    let meters = document.meters.into_iter().map(|meter| meter.parse(channel));
    Ok(ChannelHistory {
        channel,
        payer_key: PayerPublicKey::parse(&document.payer_key).map_err(|e| malformed(&e))?,
        terms: terms.map_err(|e| malformed(&e))?,
        meters: meters.collect::<Result<_, _>>().map_err(|e| malformed(&e))?,
    })
}

fn read_terms(digits: &str) -> Result<ChannelTerms, ReceiptError> {
    let bytes = hex::decode(digits).map_err(|e| ReceiptError::Malformed(e.to_string()))?;
    ChannelTerms::decode(&bytes)
}

fn malformed(error: &dyn Display) -> ClientError {
    ClientError::HistoryMalformed(sanitise(&error.to_string()))
}

/// What another crate writes as text, as a value in ours.
fn value(json: Result<String, ReceiptError>) -> Result<Value, ReceiptError> {
    serde_json::from_str(&json?).map_err(|e| ReceiptError::Malformed(e.to_string()))
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// The schema is read first and alone, so that a newer document is refused by its version.
#[derive(Deserialize)]
struct SchemaOnly {
    schema: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: String,
    network: NetworkId,
    account: Digest,
    #[serde(with = "hex_bytes")]
    payer_key: [u8; 32],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    terms: Option<String>,
    meters: Vec<MeterJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MeterJson {
    #[serde(with = "hex_bytes")]
    meter_key: [u8; 32],
    #[serde(with = "decimal")]
    max_cum: u128,
    #[serde(with = "hex_bytes")]
    payer_signature: [u8; 64],
    settlements: Vec<SettlementJson>,
    receipts: Vec<CountedJson>,
    growth: Vec<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettlementJson {
    #[serde(with = "decimal")]
    cum_amount: u128,
    #[serde(with = "hex_bytes")]
    blind: [u8; 16],
    #[serde(with = "decimal")]
    count: u64,
    #[serde(with = "decimal")]
    cum_units: u64,
    issued_at: UnixTime,
    prev: Digest,
    log_root: Digest,
    #[serde(with = "hex_bytes")]
    meter_signature: [u8; 64],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CountedJson {
    #[serde(with = "decimal")]
    index: u64,
    receipt: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inclusion: Option<Value>,
}

impl MeterJson {
    fn new(meter: &MeterHistory) -> Result<Self, ReceiptError> {
        let cap = meter.cap.cap();
        Ok(Self {
            meter_key: cap.meter_key.to_bytes(),
            max_cum: cap.max_cum,
            payer_signature: *meter.cap.signature(),
            settlements: meter.settlements.iter().map(SettlementJson::new).collect(),
            receipts: meter.receipts.iter().map(CountedJson::new).collect::<Result<_, _>>()?,
            growth: meter.growth.iter().map(|p| value(p.to_json())).collect::<Result<_, _>>()?,
        })
    }

    fn parse(self, channel: ChannelId) -> Result<MeterHistory, ReceiptError> {
        let meter_key = MeterPublicKey::parse(&self.meter_key)?;
        let cap = Cap { channel, meter_key, max_cum: self.max_cum };
        let settlements = self.settlements.into_iter().map(|s| s.parse(channel));
        let receipts = self.receipts.iter().map(CountedJson::parse);
        let growth = self.growth.iter().map(|p| ConsistencyProof::from_json(&text(p)));
        Ok(MeterHistory {
            cap: SignedCap::new(cap, self.payer_signature)?,
            settlements: settlements.collect::<Result<_, _>>()?,
            receipts: receipts.collect::<Result<_, _>>()?,
            growth: growth.collect::<Result<_, _>>()?,
        })
    }
}

impl SettlementJson {
    fn new(signed: &SignedSettlement) -> Self {
        let Settlement { cum_amount, state, .. } = signed.settlement();
        Self {
            cum_amount: *cum_amount,
            blind: state.blind,
            count: state.count,
            cum_units: state.cum_units,
            issued_at: state.issued_at,
            prev: state.prev,
            log_root: state.log_root,
            meter_signature: *signed.signature(),
        }
    }

    fn parse(self, channel: ChannelId) -> Result<SignedSettlement, ReceiptError> {
        let Self { blind, count, cum_units, issued_at, prev, log_root, .. } = self;
        let state = MeterState { blind, count, cum_units, issued_at, prev, log_root };
        let settlement = Settlement { channel, cum_amount: self.cum_amount, state };
        SignedSettlement::new(settlement, self.meter_signature)
    }
}

impl CountedJson {
    fn new(counted: &Counted) -> Result<Self, ReceiptError> {
        let inclusion = counted.inclusion.as_ref().map(|proof| value(proof.to_json()));
        Ok(Self {
            index: counted.index,
            receipt: value(counted.receipt.to_json())?,
            inclusion: inclusion.transpose()?,
        })
    }

    fn parse(&self) -> Result<Counted, ReceiptError> {
        let inclusion = self.inclusion.as_ref().map(|p| InclusionProof::from_json(&text(p)));
        Ok(Counted {
            index: self.index,
            receipt: PublicReceipt::from_json(&text(&self.receipt))?,
            inclusion: inclusion.transpose()?,
        })
    }
}

/// Schema name of a channel's history.
pub const HISTORY_SCHEMA: &str = "chrysalis/channel-history/v1";
