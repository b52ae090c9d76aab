//! What a worker answers with status 402: whom to pay, by which contract, and how much of a cap would
//! do. The worker writes it about its own state; a payer reads it as a stranger's, verifies what it
//! can and signs no more than its own budget allows.

use chrysalis_wire::{Digest, NetworkId};
use serde::{Deserialize, Serialize};

use crate::error::ReceiptError;
use crate::meter::book::Shortfall;
use crate::meter::claim::Claim;

/// The part of a 402 that a program reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRequired {
    /// Network of the channel.
    pub network: NetworkId,
    /// Account to be paid.
    pub payee: Digest,
    /// Code of the channel contract.
    pub code: Digest,
    /// Meter key a cap must name; the one in the attested keyset.
    pub meter_key: Digest,
    /// What the offered channel lacks; shown to whoever proved to be its payer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortfall: Option<ShortfallText>,
    /// A claim the payer may have lost, which proves what is owed; hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<String>,
}

/// A [`Shortfall`] in decimal strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortfallText {
    /// Owed since the channel was opened.
    pub owed: String,
    /// Promised to other requests.
    pub reserved: String,
    /// Most this request can cost.
    pub request: String,
    /// The largest cap.
    pub max_cum: String,
    /// The smallest cap that would do.
    pub wanted: String,
}

impl From<Shortfall> for ShortfallText {
    fn from(shortfall: Shortfall) -> Self {
        Self {
            owed: shortfall.owed.to_string(),
            reserved: shortfall.reserved.to_string(),
            request: shortfall.request.to_string(),
            max_cum: shortfall.max_cum.to_string(),
            wanted: shortfall.wanted().to_string(),
        }
    }
}

impl ShortfallText {
    /// The numbers; the sum in the text is recomputed, not believed.
    ///
    /// # Errors
    /// [`ReceiptError::Malformed`] for anything but decimal numbers of 128 bits.
    pub fn parse(&self) -> Result<Shortfall, ReceiptError> {
        let number = |text: &str| {
            text.parse::<u128>().map_err(|e| ReceiptError::Malformed(format!("an amount: {e}")))
        };
        Ok(Shortfall {
            owed: number(&self.owed)?,
            reserved: number(&self.reserved)?,
            request: number(&self.request)?,
            max_cum: number(&self.max_cum)?,
        })
    }
}

impl PaymentRequired {
    /// A statement without a claim.
    #[must_use]
    pub const fn new(network: NetworkId, payee: Digest, code: Digest, meter_key: Digest) -> Self {
        Self { network, payee, code, meter_key, shortfall: None, claim: None }
    }

    /// The same, with the claim that proves what is owed.
    #[must_use]
    pub fn with_claim(self, claim: &Claim) -> Self {
        Self { claim: Some(hex::encode(claim.encode())), ..self }
    }

    /// The claim, if there is one; not verified.
    ///
    /// # Errors
    /// As [`Claim::decode`], and [`ReceiptError::Malformed`] for text that is not hex.
    pub fn claim(&self) -> Result<Option<Claim>, ReceiptError> {
        let Some(text) = &self.claim else { return Ok(None) };
        let bytes = hex::decode(text).map_err(|e| ReceiptError::Malformed(e.to_string()))?;
        Claim::decode(&bytes).map(Some)
    }
}
