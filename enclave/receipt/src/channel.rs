//! What a payment channel settles by: the payer's [`Cap`], the meter's cumulative [`Settlement`]
//! and the [`MeterState`] it commits to. Each side signs fields inside its enclave; what arrives
//! from the other side is a stranger's until [`SignedCap::verify`] or [`SignedSettlement::verify`].

use core::fmt;

use chrysalis_wire::{Digest, NetworkId, UnixTime};

use crate::cell::{Cell, CellBuilder, CellError};
use crate::error::ReceiptError;
use crate::key::MeterPublicKey;
use crate::log::LogHead;
use crate::payer::PayerPublicKey;

/// One channel contract. The same contract has the same account on every network, so an account
/// alone says nothing: whoever signs for a channel signs for a network too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelId {
    /// Network the contract compares with the `GLOBALID` of its chain.
    pub network: NetworkId,
    /// Account id of the contract in workchain 0.
    pub account: Digest,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel 0:{} on {}", self.account, self.network)
    }
}

/// The payer's ceiling: "this meter may count up to this much on this channel". Caps of a channel
/// never decrease, so the largest one is the one that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Channel it is for.
    pub channel: ChannelId,
    /// The only key whose receipts count, checked by the payer against the meter's evidence.
    pub meter_key: MeterPublicKey,
    /// Most that may ever be paid through the channel, nanogram since it was opened.
    pub max_cum: u128,
}

impl Cap {
    /// `CAP1 | global_id:int32 | account:256 | meter_key:256 | max_cum:Coins`
    pub(crate) fn cell(&self) -> Result<Cell, CellError> {
        let mut b = start(CAP_TAG, &self.channel)?;
        b.bytes(&self.meter_key.to_bytes())?.coins(self.max_cum)?;
        b.build()
    }
}

/// The meter's cumulative receipt: everything owed on a channel since it was opened. The largest
/// one replaces all before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Channel it is for.
    pub channel: ChannelId,
    /// Owed since the channel was opened, nanogram.
    pub cum_amount: u128,
    /// What was counted; on chain only its hash is seen.
    pub state: MeterState,
}

impl Settlement {
    /// `STR1 | global_id:int32 | account:256 | cum_amount:Coins | state_hash:256`
    pub(crate) fn cell(&self) -> Result<Cell, CellError> {
        let state = self.state.cell()?;
        let mut b = start(SETTLEMENT_TAG, &self.channel)?;
        b.coins(self.cum_amount)?.bytes(&state.hash().0)?;
        b.build()
    }
}

/// What a settlement stands for, known to payer and payee only. Prints without its blind.
#[derive(Clone, PartialEq, Eq)]
pub struct MeterState {
    /// Keeps the chain from searching the few values that counts have.
    pub blind: [u8; 16],
    /// Per-request receipts so far: the size of their log.
    pub count: u64,
    /// Tokens so far.
    pub cum_units: u64,
    /// When it was signed, whole seconds.
    pub issued_at: UnixTime,
    /// Hash of the last settlement that the payer acknowledged; zeros for the first.
    pub prev: Digest,
    /// RFC 9162 tree head over the hashes of the per-request receipts.
    pub log_root: Digest,
}

impl MeterState {
    /// `STS1 | blind:128 | count:64 | cum_units:64 | issued_at:32 | prev:256 | log_root:256`
    pub(crate) fn cell(&self) -> Result<Cell, CellError> {
        let mut b = CellBuilder::new();
        b.bytes(STATE_TAG)?
            .bytes(&self.blind)?
            .uint(self.count.into(), 64)?
            .uint(self.cum_units.into(), 64)?
            .uint(self.issued_at.0.into(), 32)?
            .bytes(&self.prev.0)?
            .bytes(&self.log_root.0)?;
        b.build()
    }

    /// Representation hash of the state, as the settlement names it.
    ///
    /// # Errors
    /// [`CellError::ValueTooWide`] for a time after 2106.
    pub fn hash(&self) -> Result<Digest, CellError> {
        Ok(self.cell()?.hash())
    }

    /// The log of receipts it commits to. Whoever signs the state signs this head.
    #[must_use]
    pub const fn log_head(&self) -> LogHead {
        LogHead { size: self.count, root: self.log_root }
    }
}

impl fmt::Debug for MeterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeterState({} receipts, {} tokens)", self.count, self.cum_units)
    }
}

/// A cap with its signature, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCap {
    cap: Cap,
    cell: Cell,
    signature: [u8; 64],
}

impl SignedCap {
    /// A cap as it arrived: untrusted fields and what claims to be their signature.
    ///
    /// # Errors
    /// [`ReceiptError::Cell`] for an amount above 120 bits.
    pub fn new(cap: Cap, signature: [u8; 64]) -> Result<Self, ReceiptError> {
        let cell = cap.cell()?;
        Ok(Self { cap, cell, signature })
    }

    /// What it says.
    #[must_use]
    pub const fn cap(&self) -> &Cap {
        &self.cap
    }

    /// The signed cell.
    #[must_use]
    pub const fn cell(&self) -> &Cell {
        &self.cell
    }

    /// The payer's signature over the hash of [`SignedCap::cell`].
    #[must_use]
    pub const fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// Verifies the cap for the meter that will count under it: made by the payer of `channel`,
    /// for that channel, naming `meter`.
    ///
    /// # Errors
    /// [`ReceiptError::OtherChannel`], [`ReceiptError::OtherMeter`], [`ReceiptError::CapSignature`].
    pub fn verify(
        &self,
        payer: &PayerPublicKey,
        channel: ChannelId,
        meter: &MeterPublicKey,
    ) -> Result<VerifiedCap, ReceiptError> {
        same_channel(channel, self.cap.channel)?;
        if self.cap.meter_key != *meter {
            return Err(ReceiptError::OtherMeter {
                expected: Digest(meter.to_bytes()),
                got: Digest(self.cap.meter_key.to_bytes()),
            });
        }
        payer.verify(self.cell.hash(), channel.network, &self.signature)?;
        Ok(VerifiedCap(self.cap.clone()))
    }
}

/// A cap whose payer, channel and meter were verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCap(Cap);

impl VerifiedCap {
    /// What it says.
    #[must_use]
    pub const fn cap(&self) -> &Cap {
        &self.0
    }

    /// How much may still be counted when `owed` nanogram are owed and `reserved` are promised to
    /// requests that are running.
    ///
    /// # Errors
    /// [`ReceiptError::OverCap`] if the cap does not even cover those.
    pub fn room(&self, owed: u128, reserved: u128) -> Result<u128, ReceiptError> {
        let needed = owed.saturating_add(reserved);
        let max_cum = self.0.max_cum;
        max_cum.checked_sub(needed).ok_or(ReceiptError::OverCap { needed, max_cum })
    }
}

/// A cumulative receipt with its signature, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedSettlement {
    settlement: Settlement,
    cell: Cell,
    signature: [u8; 64],
}

impl SignedSettlement {
    /// A settlement as it arrived: untrusted fields and what claims to be their signature.
    ///
    /// # Errors
    /// [`ReceiptError::Cell`] for fields that do not fit their cell.
    pub fn new(settlement: Settlement, signature: [u8; 64]) -> Result<Self, ReceiptError> {
        let cell = settlement.cell()?;
        Ok(Self { settlement, cell, signature })
    }

    /// What it says.
    #[must_use]
    pub const fn settlement(&self) -> &Settlement {
        &self.settlement
    }

    /// The signed cell.
    #[must_use]
    pub const fn cell(&self) -> &Cell {
        &self.cell
    }

    /// The meter's signature over the hash of [`SignedSettlement::cell`].
    #[must_use]
    pub const fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// Verifies the settlement as the contract will: under `cap`, not above it.
    ///
    /// # Errors
    /// [`ReceiptError::OtherChannel`], [`ReceiptError::OverCap`], [`ReceiptError::Signature`].
    pub fn verify(&self, cap: &VerifiedCap) -> Result<VerifiedSettlement, ReceiptError> {
        let (cap, settlement) = (cap.cap(), &self.settlement);
        same_channel(cap.channel, settlement.channel)?;
        if settlement.cum_amount > cap.max_cum {
            let (needed, max_cum) = (settlement.cum_amount, cap.max_cum);
            return Err(ReceiptError::OverCap { needed, max_cum });
        }
        cap.meter_key.verify(self.cell.hash(), cap.channel.network, &self.signature)?;
        Ok(VerifiedSettlement(settlement.clone()))
    }
}

/// A settlement that its contract would pay if the deposit covers it and it was not paid yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedSettlement(Settlement);

impl VerifiedSettlement {
    /// What it says.
    #[must_use]
    pub const fn settlement(&self) -> &Settlement {
        &self.0
    }
}

fn same_channel(expected: ChannelId, got: ChannelId) -> Result<(), ReceiptError> {
    if expected == got { Ok(()) } else { Err(ReceiptError::OtherChannel { expected, got }) }
}

/// What both signed cells begin with: what it is, on which network, for which contract.
fn start(tag: &[u8; 4], channel: &ChannelId) -> Result<CellBuilder, CellError> {
    let mut b = CellBuilder::new();
    b.bytes(tag)?.int32(channel.network.0)?.bytes(&channel.account.0)?;
    Ok(b)
}

// A simulated worker's settlements need no tags of their own: the contract compares the network
// they name with the network it is on, and INSECURE-SIM is none that has value.
const CAP_TAG: &[u8; 4] = b"CAP1";
const SETTLEMENT_TAG: &[u8; 4] = b"STR1";
const STATE_TAG: &[u8; 4] = b"STS1";
