//! What a channel contract is said to be.

use chrysalis_wire::{Digest, UnixTime};

use crate::access::ChainAccess;
use crate::error::AccessError;

/// A channel as its get-method shows it; a claim of whoever was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelView {
    /// Nanogram paid to the payee since it was opened.
    pub cum_paid: u128,
    /// From when the payer may take the rest; `None` while it is open.
    pub close_at: Option<UnixTime>,
    /// Nanogram in it.
    pub balance: u128,
}

/// Asks for a channel; `None` where there is no contract.
///
/// # Errors
/// Those of [`ChainAccess::get`], and [`AccessError::Malformed`] for numbers that no channel has.
pub async fn channel_view(
    chain: &impl ChainAccess,
    channel: Digest,
) -> Result<Option<ChannelView>, AccessError> {
    let values = match chain.get(channel, "channel_state", &[]).await {
        Err(AccessError::NoContract { .. }) => return Ok(None),
        other => other?,
    };
    let refused = || AccessError::malformed("the state of a channel", "its numbers are not those");
    let [cum_paid, close_at, balance] = values.as_slice() else { return Err(refused()) };
    let small = |number: &Digest| {
        let (high, low) = number.0.split_first_chunk::<16>()?;
        (*high == [0; 16]).then(|| low.try_into().ok().map(u128::from_be_bytes)).flatten()
    };
    let amount = |number| small(number).ok_or_else(refused);
    let close_at = u32::try_from(amount(close_at)?).map_err(|_| refused())?;
    Ok(Some(ChannelView {
        cum_paid: amount(cum_paid)?,
        close_at: (close_at != 0).then(|| UnixTime(close_at.into())),
        balance: amount(balance)?,
    }))
}
