//! What a channel can pay, as its payee's owner vouches for it. A cap is a promise; whether there are
//! coins behind it is on a chain that no enclave can read. The owner looks, and signs what she saw: she
//! alone is hurt if it is wrong. A note from anywhere is a stranger's until [`SignedNote::verify`]; none
//! raises what a payer allowed.

use core::fmt;

use chrysalis_wire::codec::{Decoder, Encoder};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use zeroize::Zeroizing;

use crate::cell::{Cell, CellBuilder, CellError};
use crate::channel::ChannelId;
use crate::error::ReceiptError;
use crate::key::{MeterPublicKey, Secret};
use crate::meter::claim::{end, expect_tag};
use crate::meter::offer::Payee;

/// What the owner saw of one channel.
///
/// `covers` is a sum since the channel was opened, as caps and receipts are: what was paid and what is
/// left. A settlement moves coins from one to the other, so a note stays true while claims are brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundingNote {
    /// The channel.
    pub channel: ChannelId,
    /// The meter that may rely on it. Two meters would each serve all of it, and be paid it once.
    pub meter_key: MeterPublicKey,
    /// Most that the channel can have paid in the end, nanogram; zero once its payer asked to close.
    pub covers: u128,
    /// What the channel is seen to have paid, nanogram. It is in `covers` too: a meter that knows of no
    /// claim for as much would serve that once more, and serves nothing.
    pub paid: u128,
    /// When the owner looked. The newest note of a channel is the one that holds, also if it says less.
    pub seen_at: UnixTime,
    /// Good before this time, at most [`MAX_NOTE_SECONDS`] later.
    pub until: UnixTime,
}

impl FundingNote {
    /// `FND2 | global_id:32 | channel:256 | meter_key:256 | covers:Coins | paid:Coins | seen_at:32
    /// | until:32`
    fn cell(&self) -> Result<Cell, CellError> {
        let mut b = CellBuilder::new();
        b.bytes(TAG)?
            .int32(self.channel.network.0)?
            .bytes(&self.channel.account.0)?
            .bytes(&self.meter_key.to_bytes())?
            .coins(self.covers)?
            .coins(self.paid)?
            .uint(self.seen_at.0.into(), 32)?
            .uint(self.until.0.into(), 32)?;
        b.build()
    }

    /// # Errors
    /// [`ReceiptError::NoteTime`] for a note of no length or too long a one.
    const fn check(&self) -> Result<(), ReceiptError> {
        let (seen_at, until) = (self.seen_at, self.until);
        match until.0.checked_sub(seen_at.0) {
            Some(1..=MAX_NOTE_SECONDS) => Ok(()),
            _ => Err(ReceiptError::NoteTime { seen_at, until }),
        }
    }

    pub(crate) const fn holds_at(&self, now: UnixTime) -> bool {
        now.0 < self.until.0
    }
}

/// The owner's secret. It vouches and moves no coin; who steals it makes its worker serve for nothing.
pub struct FundingKey(Secret);

impl FundingKey {
    /// The key with this RFC 8032 seed.
    #[must_use]
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        Self(Secret::from_seed(seed))
    }

    /// The public half, for the worker's manifest.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.public()
    }

    /// Signs what was seen.
    ///
    /// # Errors
    /// [`ReceiptError::NoteTime`], [`ReceiptError::Cell`] for fields that do not fit.
    pub fn sign(&self, note: FundingNote) -> Result<SignedNote, ReceiptError> {
        note.check()?;
        let signature = self.0.sign(note.cell()?.hash(), note.channel.network);
        Ok(SignedNote { note, signature })
    }
}

impl fmt::Debug for FundingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted funding key>")
    }
}

/// The owner's public key, safe to verify with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FundingPublicKey(MeterPublicKey);

impl FundingPublicKey {
    /// Reads a public key from untrusted bytes.
    ///
    /// # Errors
    /// [`ReceiptError::FundingKey`] for one of small order, or no only spelling of a point.
    pub fn parse(bytes: &[u8; 32]) -> Result<Self, ReceiptError> {
        MeterPublicKey::parse(bytes).map(Self).map_err(|_| ReceiptError::FundingKey)
    }
}

/// A note with its signature, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote {
    note: FundingNote,
    signature: [u8; 64],
}

impl SignedNote {
    /// What it says.
    #[must_use]
    pub const fn note(&self) -> &FundingNote {
        &self.note
    }

    /// Verifies a note for the meter of `payee`: of its owner, network and key, good at `now`.
    ///
    /// # Errors
    /// [`ReceiptError::OtherChannel`] for another network, [`ReceiptError::OtherMeter`],
    /// [`ReceiptError::NoteTime`] for one that is over, or from later than clocks can differ,
    /// [`ReceiptError::NoteSignature`].
    pub(crate) fn verify(
        self,
        key: &FundingPublicKey,
        payee: &Payee,
        now: UnixTime,
    ) -> Result<FundingNote, ReceiptError> {
        let note = self.note;
        let expected = ChannelId { network: payee.network, ..note.channel };
        if expected != note.channel {
            return Err(ReceiptError::OtherChannel { expected, got: note.channel });
        }
        if note.meter_key != payee.meter_key {
            let (expected, got) = (payee.meter_key.to_bytes(), note.meter_key.to_bytes());
            return Err(ReceiptError::OtherMeter { expected: Digest(expected), got: Digest(got) });
        }
        let (seen_at, until) = (note.seen_at, note.until);
        let early = seen_at.0 > now.0.saturating_add(NOTE_SKEW_SECONDS);
        if early || !note.holds_at(now) {
            return Err(ReceiptError::NoteTime { seen_at, until });
        }
        key.0
            .verify(note.cell()?.hash(), note.channel.network, &self.signature)
            .map_err(|_| ReceiptError::NoteSignature)?;
        Ok(note)
    }

    /// `FND2 | global_id:i32 | account[32] | meter_key[32] | covers:u128 | paid:u128 | seen_at:u64
    /// | until:u64 | signature[64]`
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let FundingNote { channel, meter_key, covers, paid, seen_at, until } = &self.note;
        let mut e = Encoder::new();
        e.raw(TAG)
            .i32(channel.network.0)
            .raw(&channel.account.0)
            .raw(&meter_key.to_bytes())
            .raw(&covers.to_be_bytes())
            .raw(&paid.to_be_bytes())
            .u64(seen_at.0)
            .u64(until.0)
            .raw(&self.signature);
        e.finish()
    }

    /// Reads a note from untrusted bytes.
    ///
    /// # Errors
    /// [`ReceiptError::Wire`], [`ReceiptError::WireTag`], [`ReceiptError::NoteTime`], a refused key.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let mut d = Decoder::new(bytes);
        expect_tag(&mut d, TAG)?;
        let network = NetworkId(d.i32("network")?);
        let note = FundingNote {
            channel: ChannelId { network, account: Digest(d.array("account")?) },
            meter_key: MeterPublicKey::parse(&d.array("meter key")?)?,
            covers: u128::from_be_bytes(d.array("cover")?),
            paid: u128::from_be_bytes(d.array("payments")?),
            seen_at: UnixTime(d.u64("time")?),
            until: UnixTime(d.u64("end")?),
        };
        let signature = d.array("owner's signature")?;
        end("funding note", &d)?;
        note.check()?;
        Ok(Self { note, signature })
    }
}

/// Longest a note is good, seconds: half of the shortest closing delay, so that what is served on a
/// note from just before a close request can still be brought before the refund.
pub const MAX_NOTE_SECONDS: u64 = 1_800;
/// How far the owner's clock may be ahead of the worker's, seconds.
pub const NOTE_SKEW_SECONDS: u64 = 60;
/// Length of an encoded note, bytes.
pub const NOTE_BYTES: usize = 184;

const TAG: &[u8; 4] = b"FND2";

const _: () = assert!(2 * MAX_NOTE_SECONDS <= crate::meter::terms::MIN_CLOSE_DELAY as u64);
