//! Everything a channel needs to pay: its terms, the payer's cap and the meter's cumulative receipt
//! under it. A claim arrives from a console, a file or a counterparty and is a stranger's until
//! [`Claim::verify`] has seen both signatures.

use chrysalis_wire::codec::{Decoder, Encoder};
use chrysalis_wire::{Digest, NetworkId, UnixTime, WireError};

use crate::channel::{Cap, ChannelId, MeterState, Settlement, SignedCap, SignedSettlement};
use crate::error::ReceiptError;
use crate::key::MeterPublicKey;
use crate::meter::terms::ChannelTerms;

/// Terms, cap and cumulative receipt of one channel, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    terms: ChannelTerms,
    cap: SignedCap,
    settlement: SignedSettlement,
}

impl Claim {
    /// A claim from its parts.
    ///
    /// # Errors
    /// [`ReceiptError::OtherChannel`] if they are not of one channel.
    pub fn new(
        terms: ChannelTerms,
        cap: SignedCap,
        settlement: SignedSettlement,
    ) -> Result<Self, ReceiptError> {
        let expected = terms.id(cap.cap().channel.network)?;
        for got in [cap.cap().channel, settlement.settlement().channel] {
            if got != expected {
                return Err(ReceiptError::OtherChannel { expected, got });
            }
        }
        Ok(Self { terms, cap, settlement })
    }

    /// Terms of the channel.
    #[must_use]
    pub const fn terms(&self) -> &ChannelTerms {
        &self.terms
    }

    /// The payer's ceiling.
    #[must_use]
    pub const fn cap(&self) -> &SignedCap {
        &self.cap
    }

    /// The meter's cumulative receipt.
    #[must_use]
    pub const fn settlement(&self) -> &SignedSettlement {
        &self.settlement
    }

    /// The channel.
    #[must_use]
    pub const fn channel(&self) -> ChannelId {
        self.cap.cap().channel
    }

    /// Owed since the channel was opened, nanogram.
    #[must_use]
    pub const fn cum_amount(&self) -> u128 {
        self.settlement.settlement().cum_amount
    }

    /// Hash of the cumulative receipt, by which a payer acknowledges it.
    #[must_use]
    pub const fn hash(&self) -> Digest {
        self.settlement.cell().hash()
    }

    /// Verifies both signatures: the payer's under the key in the terms, then the meter's under the
    /// key in the cap.
    ///
    /// # Errors
    /// [`ReceiptError::CapSignature`], [`ReceiptError::Signature`], [`ReceiptError::OverCap`].
    pub fn verify(self) -> Result<VerifiedClaim, ReceiptError> {
        let meter = self.cap.cap().meter_key;
        let cap = self.cap.verify(self.terms.payer_key(), self.channel(), &meter)?;
        self.settlement.verify(&cap)?;
        Ok(VerifiedClaim(self))
    }

    /// ```text
    /// CLM1 | global_id:i32 | terms[156]
    ///      | meter_key[32] | max_cum:u128 | payer_signature[64]
    ///      | cum_amount:u128 | blind[16] | count:u64 | cum_units:u64 | issued_at:u64 | prev[32]
    ///      | log_root[32] | meter_signature[64]
    /// ```
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.raw(TAG).i32(self.channel().network.0);
        self.terms.encode_into(&mut e);
        encode_cap(&mut e, &self.cap);
        let Settlement { cum_amount, state, .. } = self.settlement.settlement();
        e.raw(&cum_amount.to_be_bytes())
            .raw(&state.blind)
            .u64(state.count)
            .u64(state.cum_units)
            .u64(state.issued_at.0)
            .raw(&state.prev.0)
            .raw(&state.log_root.0)
            .raw(self.settlement.signature());
        e.finish()
    }

    /// Reads a claim from untrusted bytes. The account follows from the terms, so none can be wrong.
    ///
    /// # Errors
    /// [`ReceiptError::Wire`] for bytes that are cut or go on, [`ReceiptError::WireTag`],
    /// [`ReceiptError::Terms`], a refused key, or fields that do not fit their cell.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let mut d = Decoder::new(bytes);
        expect_tag(&mut d, TAG)?;
        let network = NetworkId(d.i32("network")?);
        let terms = ChannelTerms::decode_from(&mut d)?;
        let channel = terms.id(network)?;
        let cap = decode_cap(&mut d, channel)?;
        let cum_amount = u128::from_be_bytes(d.array("cumulative amount")?);
        let state = MeterState {
            blind: d.array("blind")?,
            count: d.u64("count")?,
            cum_units: d.u64("tokens")?,
            issued_at: UnixTime(d.u64("time")?),
            prev: Digest(d.array("previous settlement")?),
            log_root: Digest(d.array("log root")?),
        };
        let settlement = Settlement { channel, cum_amount, state };
        let settlement = SignedSettlement::new(settlement, d.array("meter signature")?)?;
        end("claim", &d)?;
        Self::new(terms, cap, settlement)
    }
}

/// A claim that its channel pays if the deposit covers it and nothing later was paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedClaim(Claim);

impl VerifiedClaim {
    /// What it says.
    #[must_use]
    pub const fn claim(&self) -> &Claim {
        &self.0
    }
}

pub(crate) fn encode_cap(e: &mut Encoder, signed: &SignedCap) {
    let Cap { meter_key, max_cum, .. } = signed.cap();
    e.raw(&meter_key.to_bytes()).raw(&max_cum.to_be_bytes()).raw(signed.signature());
}

pub(crate) fn decode_cap(
    d: &mut Decoder<'_>,
    channel: ChannelId,
) -> Result<SignedCap, ReceiptError> {
    let meter_key = MeterPublicKey::parse(&d.array("meter key")?)?;
    let max_cum = u128::from_be_bytes(d.array("ceiling")?);
    SignedCap::new(Cap { channel, meter_key, max_cum }, d.array("payer signature")?)
}

pub(crate) fn expect_tag(d: &mut Decoder<'_>, expected: &[u8; 4]) -> Result<(), ReceiptError> {
    let got: [u8; 4] = d.array("tag")?;
    if got == *expected { Ok(()) } else { Err(ReceiptError::WireTag { expected: *expected, got }) }
}

pub(crate) fn end(what: &'static str, d: &Decoder<'_>) -> Result<(), ReceiptError> {
    match d.remaining().len() {
        0 => Ok(()),
        got => Err(WireError::TrailingBytes { what, got }.into()),
    }
}

/// Length of an encoded claim, bytes.
pub const CLAIM_BYTES: usize = 460;

const TAG: &[u8; 4] = b"CLM1";
