//! What a payer says to a meter: "this channel pays for this request, under this cap", and "show me
//! where we stand". Both come from the network. A cap alone authorises nobody: it is on the chain once
//! it was settled by, so each request is signed for.

use chrysalis_wire::codec::{Decoder, Encoder};
use chrysalis_wire::{Digest, NetworkId};

use crate::cell::{Cell, CellBuilder, CellError};
use crate::channel::{ChannelId, SignedCap, VerifiedCap};
use crate::error::ReceiptError;
use crate::key::MeterPublicKey;
use crate::meter::claim::{decode_cap, encode_cap, end, expect_tag};
use crate::meter::terms::ChannelTerms;
use crate::payer::PayerKey;

/// Who is paid: the meter's side of every check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payee {
    /// Network the worker serves.
    pub network: NetworkId,
    /// Account that must be paid.
    pub account: Digest,
    /// Which of its workers this is: it serves the channels that name it.
    pub worker: u32,
    /// The meter's own key.
    pub meter_key: MeterPublicKey,
}

/// Pays for one request, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    terms: ChannelTerms,
    cap: SignedCap,
    signature: [u8; 64],
}

impl Offer {
    /// Signs for the sealed request with SHA-256 `request`, to be paid by the channel with `terms`
    /// under `cap`.
    ///
    /// # Errors
    /// [`ReceiptError::OtherChannel`] if the cap is another channel's.
    pub fn sign(
        key: &PayerKey,
        terms: ChannelTerms,
        cap: SignedCap,
        request: &Digest,
    ) -> Result<Self, ReceiptError> {
        let channel = cap.cap().channel;
        let expected = terms.id(channel.network)?;
        if expected != channel {
            return Err(ReceiptError::OtherChannel { expected, got: channel });
        }
        let cell = cell(SPEND_TAG, channel, &cap.cap().meter_key, request)?;
        Ok(Self { signature: key.sign_cell(&cell, channel.network), terms, cap })
    }

    /// Verifies everything but the amount: the contract is a known one that pays `payee`, its payer
    /// signed the cap for this meter and asked for this very request.
    ///
    /// # Errors
    /// [`ReceiptError::OtherPayee`], [`ReceiptError::OtherWorker`], [`ReceiptError::OtherChannel`] for
    /// another network, [`ReceiptError::OtherMeter`], [`ReceiptError::CapSignature`],
    /// [`ReceiptError::SpendSignature`].
    pub fn verify(self, request: &Digest, payee: &Payee) -> Result<VerifiedOffer, ReceiptError> {
        let channel = expect_payee(&self.terms, payee)?;
        let verified = self.cap.verify(self.terms.payer_key(), channel, &payee.meter_key)?;
        let cell = cell(SPEND_TAG, channel, &payee.meter_key, request)?;
        self.terms
            .payer_key()
            .verify(cell.hash(), channel.network, &self.signature)
            .map_err(|_| ReceiptError::SpendSignature)?;
        Ok(VerifiedOffer { terms: self.terms, signed: self.cap, verified })
    }

    /// `OFR1 | global_id:i32 | terms[156] | meter_key[32] | max_cum:u128 | payer_signature[64]
    /// | spend_signature[64]`
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.raw(OFFER_TAG).i32(self.cap.cap().channel.network.0);
        self.terms.encode_into(&mut e);
        encode_cap(&mut e, &self.cap);
        e.raw(&self.signature);
        e.finish()
    }

    /// Reads an offer from untrusted bytes.
    ///
    /// # Errors
    /// As [`crate::Claim::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let mut d = Decoder::new(bytes);
        expect_tag(&mut d, OFFER_TAG)?;
        let network = NetworkId(d.i32("network")?);
        let terms = ChannelTerms::decode_from(&mut d)?;
        let cap = decode_cap(&mut d, terms.id(network)?)?;
        let signature = d.array("spend signature")?;
        end("offer", &d)?;
        Ok(Self { terms, cap, signature })
    }
}

/// An offer whose every signature was verified for this meter and request.
#[derive(Clone, Debug)]
pub struct VerifiedOffer {
    pub(crate) terms: ChannelTerms,
    pub(crate) signed: SignedCap,
    pub(crate) verified: VerifiedCap,
}

impl VerifiedOffer {
    /// The channel that pays.
    #[must_use]
    pub const fn channel(&self) -> ChannelId {
        self.verified.cap().channel
    }

    /// Its terms.
    #[must_use]
    pub const fn terms(&self) -> &ChannelTerms {
        &self.terms
    }
}

/// Asks a meter for its cumulative receipt, and says which one the payer has; not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRequest {
    channel: ChannelId,
    acknowledged: Digest,
    signature: [u8; 64],
}

impl StateRequest {
    /// Signs the question. `acknowledged` is the hash of the last settlement of this channel that
    /// the payer has on its disk, zeros if none.
    ///
    /// # Errors
    /// None in practice: the fields fit.
    pub fn sign(
        key: &PayerKey,
        channel: ChannelId,
        meter: &MeterPublicKey,
        acknowledged: Digest,
    ) -> Result<Self, ReceiptError> {
        let cell = cell(ASK_TAG, channel, meter, &acknowledged)?;
        Ok(Self { channel, acknowledged, signature: key.sign_cell(&cell, channel.network) })
    }

    /// The channel it asks about; nobody has shown yet to be its payer.
    #[must_use]
    pub const fn channel(&self) -> ChannelId {
        self.channel
    }

    /// The settlement the payer has, if the payer of the channel with `terms` signed this for the
    /// meter.
    ///
    /// # Errors
    /// [`ReceiptError::OtherChannel`], [`ReceiptError::SpendSignature`].
    pub(crate) fn verify(
        &self,
        terms: &ChannelTerms,
        payee: &Payee,
    ) -> Result<Digest, ReceiptError> {
        let expected = terms.id(payee.network)?;
        if expected != self.channel {
            return Err(ReceiptError::OtherChannel { expected, got: self.channel });
        }
        let cell = cell(ASK_TAG, self.channel, &payee.meter_key, &self.acknowledged)?;
        terms
            .payer_key()
            .verify(cell.hash(), self.channel.network, &self.signature)
            .map_err(|_| ReceiptError::SpendSignature)?;
        Ok(self.acknowledged)
    }

    /// `ASK1 | global_id:i32 | account[32] | acknowledged[32] | signature[64]`
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.raw(ASK_TAG)
            .i32(self.channel.network.0)
            .raw(&self.channel.account.0)
            .raw(&self.acknowledged.0)
            .raw(&self.signature);
        e.finish()
    }

    /// Reads a question from untrusted bytes.
    ///
    /// # Errors
    /// [`ReceiptError::Wire`], [`ReceiptError::WireTag`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let mut d = Decoder::new(bytes);
        expect_tag(&mut d, ASK_TAG)?;
        let network = NetworkId(d.i32("network")?);
        let channel = ChannelId { network, account: Digest(d.array("account")?) };
        let acknowledged = Digest(d.array("acknowledged settlement")?);
        let signature = d.array("signature")?;
        end("question", &d)?;
        Ok(Self { channel, acknowledged, signature })
    }
}

/// The channel of these terms, if it pays the payee, and for this worker.
pub(crate) fn expect_payee(terms: &ChannelTerms, payee: &Payee) -> Result<ChannelId, ReceiptError> {
    if terms.payee() != payee.account {
        return Err(ReceiptError::OtherPayee { expected: payee.account, got: terms.payee() });
    }
    if terms.worker() != payee.worker {
        return Err(ReceiptError::OtherWorker { expected: payee.worker, got: terms.worker() });
    }
    Ok(terms.id(payee.network)?)
}

/// `tag:32 | global_id:int32 | account:256 | meter_key:256 | subject:256`
fn cell(
    tag: &[u8; 4],
    channel: ChannelId,
    meter: &MeterPublicKey,
    subject: &Digest,
) -> Result<Cell, CellError> {
    let mut b = CellBuilder::new();
    b.bytes(tag)?
        .int32(channel.network.0)?
        .bytes(&channel.account.0)?
        .bytes(&meter.to_bytes())?
        .bytes(&subject.0)?;
    b.build()
}

/// Length of an encoded offer, bytes.
pub const OFFER_BYTES: usize = 340;
/// Length of an encoded question, bytes.
pub const STATE_REQUEST_BYTES: usize = 136;

const OFFER_TAG: &[u8; 4] = b"OFR1";
const SPEND_TAG: &[u8; 4] = b"PAY1";
const ASK_TAG: &[u8; 4] = b"ASK1";
