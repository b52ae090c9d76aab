//! The fields of a receipt and the cells they make. Values come from the meter when signing, and
//! from a stranger when verifying; both take the same path.

use core::fmt;

use chrysalis_wire::manifest::PricesSection;
use chrysalis_wire::{Digest, NetworkId, RequestId, UnixMillis, UnixTime};
use serde::{Deserialize, Serialize};

use crate::cell::{Cell, CellBuilder, CellError};
use crate::commit::Blinds;
use crate::error::ReceiptError;
use crate::key::MeterPublicKey;

/// Everything one receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestReceipt {
    /// Network the worker serves; decides the tag.
    pub network: NetworkId,
    /// Account id of the registry contract; zeros while there is none.
    pub registry: Digest,
    /// The client's id of the sealed request.
    pub request_id: RequestId,
    /// When the receipt was signed, whole seconds.
    pub issued_at: UnixTime,
    /// Price of the request in nanogram; equals [`Usage::amount`].
    pub amount: u128,
    /// What was asked and answered.
    pub io: Io,
    /// What was counted.
    pub usage: Usage,
    /// What answered.
    pub model: Model,
    /// What proves where it ran.
    pub att: Att,
}

/// What was asked and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Io {
    /// [`crate::request_commit`] of the exact request bytes.
    pub request_commit: Digest,
    /// [`crate::ResponseCommit`] over every payload byte delivered, in order.
    pub response_commit: Digest,
}

/// What was counted. Counts follow the API: `prompt` includes `cached` and `completion` includes
/// `reasoning`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    pub prompt: u32,
    /// Prompt tokens answered from a cache.
    pub cached: u32,
    /// Completion tokens, reasoning ones included.
    pub completion: u32,
    /// Completion tokens spent on reasoning.
    pub reasoning: u32,
    /// Why generation ended.
    pub finish: Finish,
    /// Prices of the measured manifest.
    pub prices: PricesSection,
    /// When the request was accepted.
    pub started: UnixMillis,
    /// When the last token was produced.
    pub ended: UnixMillis,
}

/// What answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Model root: the content root of the bundle.
    pub manifest_sha256: Digest,
    /// Measurement digest of the worker that ran the engine.
    pub engine_image_sha256: Digest,
    /// SHA-256 of the canonical sampling parameters.
    pub sampling_hash: Digest,
}

/// What proves where it ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Att {
    /// SHA-256 of the quote.
    pub evidence_sha256: Digest,
    /// Digest of the measurement in it: the registers of a trust domain, or an SGX enclave's identity.
    pub measurement_sha256: Digest,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Finish {
    /// The model ended, or a stop string was met.
    Stop = 1,
    /// The token limit was reached.
    Length = 2,
    /// The requester went away, may not be answered any more, or asked for what cannot be; what was produced
    /// is billed, and the prompt as far as it was computed.
    Aborted = 3,
    /// The engine failed, or never came to the request; what was produced until then is billed, and nothing if
    /// that is nothing.
    Failed = 4,
}

impl fmt::Display for Finish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        })
    }
}

impl Usage {
    /// Tokens times prices in nanogram, rounded down once, over the sum: a requester never pays
    /// a fraction more than the tokens cost. A request that failed before its first token costs
    /// nothing: its prompt may never have been computed.
    ///
    /// # Errors
    /// [`ReceiptError::CachedOverPrompt`] or [`ReceiptError::ReasoningOverCompletion`] if a part
    /// is larger than its whole.
    pub fn amount(&self) -> Result<u128, ReceiptError> {
        let fresh = self
            .prompt
            .checked_sub(self.cached)
            .ok_or(ReceiptError::CachedOverPrompt { cached: self.cached, prompt: self.prompt })?;
        let visible = self.completion.checked_sub(self.reasoning).ok_or(
            ReceiptError::ReasoningOverCompletion {
                reasoning: self.reasoning,
                completion: self.completion,
            },
        )?;
        if self.finish == Finish::Failed && self.completion == 0 {
            return Ok(0);
        }
        let total = [
            (fresh, self.prices.prompt),
            (self.cached, self.prices.cached),
            (visible, self.prices.completion),
            (self.reasoning, self.prices.reasoning),
        ]
        .into_iter()
        // Four products of 32 and 64 bits stay under 2^98: nothing here can saturate.
        .fold(0u128, |sum, (tokens, price)| {
            sum.saturating_add(u128::from(tokens).saturating_mul(price.into()))
        });
        Ok(total / TOKENS_PER_PRICE)
    }

    pub(crate) fn cell(&self, blind: &[u8; 16]) -> Result<Cell, CellError> {
        let mut b = CellBuilder::new();
        b.bytes(blind)?;
        for tokens in [self.prompt, self.cached, self.completion, self.reasoning] {
            b.uint(tokens.into(), 32)?;
        }
        b.uint((self.finish as u8).into(), 8)?;
        let p = &self.prices;
        for price in [p.prompt, p.cached, p.completion, p.reasoning] {
            b.uint(price.into(), 64)?;
        }
        b.uint(self.started.0.into(), 64)?.uint(self.ended.0.into(), 64)?;
        b.build()
    }
}

impl Io {
    pub(crate) fn cell(&self, blind: &[u8; 16]) -> Result<Cell, CellError> {
        digests(blind, &[&self.request_commit, &self.response_commit])
    }
}

impl Model {
    pub(crate) fn cell(&self, blind: &[u8; 16]) -> Result<Cell, CellError> {
        digests(blind, &[&self.manifest_sha256, &self.engine_image_sha256, &self.sampling_hash])
    }
}

impl Att {
    pub(crate) fn cell(&self, blind: &[u8; 16]) -> Result<Cell, CellError> {
        digests(blind, &[&self.evidence_sha256, &self.measurement_sha256])
    }
}

impl RequestReceipt {
    /// What an honest meter guarantees before it signs.
    pub(crate) fn check(&self) -> Result<(), ReceiptError> {
        let expected = self.usage.amount()?;
        if expected != self.amount {
            return Err(ReceiptError::Amount { expected, got: self.amount });
        }
        let (started, ended) = (self.usage.started.0, self.usage.ended.0);
        if ended < started {
            return Err(ReceiptError::EndsBeforeStart { started, ended });
        }
        Ok(())
    }

    /// The data of the root cell, without its references.
    pub(crate) fn head(&self) -> Head {
        Head {
            network: self.network,
            registry: self.registry,
            request_id: self.request_id,
            issued_at: self.issued_at,
            amount: self.amount,
        }
    }

    /// The root cell with its four children.
    pub(crate) fn cell(&self, key: &MeterPublicKey, blinds: &Blinds) -> Result<Cell, CellError> {
        let mut root = self.head().data(key)?;
        root.reference(self.io.cell(&blinds.io)?)?
            .reference(self.usage.cell(&blinds.usage)?)?
            .reference(self.model.cell(&blinds.model)?)?
            .reference(self.att.cell(&blinds.att)?)?;
        root.build()
    }
}

/// The public part of a receipt: what the root cell itself holds, less the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) network: NetworkId,
    pub(crate) registry: Digest,
    pub(crate) request_id: RequestId,
    pub(crate) issued_at: UnixTime,
    pub(crate) amount: u128,
}

impl Head {
    pub(crate) fn data(&self, key: &MeterPublicKey) -> Result<CellBuilder, CellError> {
        let mut b = CellBuilder::new();
        b.bytes(tag(self.network).as_bytes())?
            .int32(self.network.0)?
            .bytes(&self.registry.0)?
            .bytes(&key.to_bytes())?
            .bytes(&self.request_id.0)?
            .uint(self.issued_at.0.into(), 32)?
            .coins(self.amount)?;
        Ok(b)
    }
}

/// Domain tag of the receipts of a network. Simulated receipts have their own, so that no
/// contract can ever take one for real.
pub(crate) const fn tag(network: NetworkId) -> &'static str {
    if network.0 == NetworkId::INSECURE_SIM.0 { "SIM1" } else { "RQR1" }
}

fn digests(blind: &[u8; 16], digests: &[&Digest]) -> Result<Cell, CellError> {
    let mut b = CellBuilder::new();
    b.bytes(blind)?;
    for digest in digests {
        b.bytes(&digest.0)?;
    }
    b.build()
}

/// Prices are per this many tokens.
pub const TOKENS_PER_PRICE: u128 = 1_000_000;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> RequestReceipt {
        let mut receipt = RequestReceipt {
            network: NetworkId::TESTNET,
            registry: Digest([0x21; 32]),
            request_id: RequestId([0x22; 16]),
            issued_at: UnixTime(1_795_000_002),
            amount: 0,
            io: Io { request_commit: Digest([0x31; 32]), response_commit: Digest([0x32; 32]) },
            usage: Usage {
                prompt: 100,
                cached: 40,
                completion: 30,
                reasoning: 10,
                finish: Finish::Stop,
                prices: PricesSection {
                    prompt: 1_000_000,
                    cached: 250_000,
                    completion: 8_000_000,
                    reasoning: 4_000_001,
                },
                started: UnixMillis(1_795_000_000_500),
                ended: UnixMillis(1_795_000_001_900),
            },
            model: Model {
                manifest_sha256: Digest([0x41; 32]),
                engine_image_sha256: Digest([0x52; 32]),
                sampling_hash: Digest([0x43; 32]),
            },
            att: Att {
                evidence_sha256: Digest([0x51; 32]),
                measurement_sha256: Digest([0x52; 32]),
            },
        };
        receipt.amount = receipt.usage.amount().unwrap();
        receipt
    }

    #[test]
    fn an_amount_counts_each_token_once_and_rounds_down() {
        // 60 * 1 + 40 * 0.25 + 20 * 8 + 10 * 4.000001 = 270.00001
        assert_eq!(sample().amount, 270);
        let mut usage = sample().usage;
        usage.prices = PricesSection { prompt: 999_999, cached: 0, completion: 0, reasoning: 0 };
        usage.cached = 0;
        usage.prompt = 1;
        assert_eq!(usage.amount(), Ok(0), "a fraction is not charged");
    }

    #[test]
    fn a_failure_costs_what_was_produced_and_nothing_before_the_first_token() {
        let mut usage = Usage { finish: Finish::Failed, ..sample().usage };
        assert_eq!(usage.amount(), Ok(270));
        (usage.completion, usage.reasoning) = (0, 0);
        assert_eq!(usage.amount(), Ok(0));
        usage.finish = Finish::Aborted;
        assert_eq!(usage.amount(), Ok(70), "who leaves meanwhile pays for the prompt");
    }

    #[test]
    fn the_largest_amount_fits_coins() {
        let mut usage = sample().usage;
        (usage.prompt, usage.cached) = (u32::MAX, 0);
        (usage.completion, usage.reasoning) = (u32::MAX, 0);
        usage.prices.prompt = u64::MAX;
        usage.prices.completion = u64::MAX;
        let amount = usage.amount().unwrap();
        assert_eq!(amount, u128::from(u32::MAX) * u128::from(u64::MAX) * 2 / 1_000_000);
        assert!(CellBuilder::new().coins(amount).is_ok());
    }

    #[test]
    fn refuses_more_cached_than_prompt_tokens() {
        let mut usage = sample().usage;
        usage.cached = usage.prompt + 1;
        assert_eq!(
            usage.amount(),
            Err(ReceiptError::CachedOverPrompt { cached: 101, prompt: 100 })
        );
    }

    #[test]
    fn refuses_more_reasoning_than_completion_tokens() {
        let mut usage = sample().usage;
        usage.reasoning = usage.completion + 1;
        assert_eq!(
            usage.amount(),
            Err(ReceiptError::ReasoningOverCompletion { reasoning: 31, completion: 30 })
        );
    }

    #[test]
    fn cells_have_the_documented_sizes() {
        let r = sample();
        let blind = [0; 16];
        assert_eq!(r.io.cell(&blind).unwrap().bit_len(), 640);
        assert_eq!(r.usage.cell(&blind).unwrap().bit_len(), 648);
        assert_eq!(r.model.cell(&blind).unwrap().bit_len(), 896);
        assert_eq!(r.att.cell(&blind).unwrap().bit_len(), 640);
    }
}
