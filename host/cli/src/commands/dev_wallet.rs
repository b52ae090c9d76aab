//! A wallet whose key this program holds, for the dev chain alone. Its coins have no value; for coins
//! that do, a person signs in an application of hers, and no key comes here.

use std::path::Path;
use std::process::ExitCode;

use chrysalis_chain::{AccessError, ChainAccess, Toncenter};
use chrysalis_ton::{Address, AddressKind, Outgoing, Wallet};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use ed25519_dalek::{Signer as _, SigningKey};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;

/// A wallet and its key.
pub(crate) struct DevWallet {
    key: SigningKey,
    wallet: Wallet,
}

impl DevWallet {
    /// Reads a key that `chrysalis devchain wallet` made.
    pub(crate) fn read(path: &Path, network: NetworkId) -> Result<Self, Failure> {
        refuse_real(network)?;
        let text = files::read_secret(path, MAX_FILE_BYTES)?;
        let mut seed = Zeroizing::new([0u8; 32]);
        let text = text.expose().strip_suffix(b"\n").unwrap_or_else(|| text.expose());
        let digits = text.strip_prefix(PREFIX.as_bytes()).unwrap_or_default();
        hex::decode_to_slice(digits, seed.as_mut_slice()).map_err(|_| {
            let message = "not a key of a dev wallet";
            Failure::new(Class::Malformed, "E-DEV-WALLET", message)
                .in_file(path)
                .next("make one with `chrysalis devchain wallet --out FILE`")
        })?;
        Ok(Self::of(&seed, network))
    }

    fn of(seed: &Zeroizing<[u8; 32]>, network: NetworkId) -> Self {
        let key = SigningKey::from_bytes(seed);
        let wallet = Wallet::new(key.verifying_key().to_bytes(), network);
        Self { key, wallet }
    }

    pub(crate) fn account(&self) -> Result<Digest, Failure> {
        Ok(self.wallet.account()?)
    }

    /// Sends one message. The number of the order is read from the chain: a lie about it makes an
    /// order that no wallet takes.
    pub(crate) async fn send(
        &self,
        chain: &Toncenter,
        message: Outgoing,
        now: UnixTime,
    ) -> Result<(), Failure> {
        let seqno = match chain.get(self.account()?, "seqno", &[]).await {
            Err(AccessError::NoContract { .. }) => 0,
            Err(error) => return Err(error.into()),
            Ok(values) => values.first().map_or(0, |Digest(number)| {
                number.last_chunk().map_or(0, |low| u32::from_be_bytes(*low))
            }),
        };
        let state = chain.account(self.account()?).await?;
        let order = self.wallet.order(seqno, until(now, state.at)?, &[message])?;
        let signature = self.key.sign(&order.hash().0).to_bytes();
        Ok(chain.send(&order.signed(&signature)?).await?)
    }
}

/// Until when an order is good. The dev chain may be ahead of this machine's clock, because somebody asked
/// it to be; a server that says so of another chain would have an order that is good for years.
fn until(now: UnixTime, chain: UnixTime) -> Result<u32, Failure> {
    let latest = now.0.saturating_add(MAX_AHEAD_SECONDS);
    let until = chain.0.max(now.0).saturating_add(ORDER_SECONDS);
    match u32::try_from(until) {
        Ok(until) if chain.0 <= latest => Ok(until),
        _ => {
            let message = "the chain server's clock is years ahead of this machine's";
            Err(Failure::new(Class::Refused, "E-CHAIN-CLOCK", message)
                .compared(format!("{latest} or earlier"), chain.0)
                .next("start a new `chrysalis devchain`, or set this machine's clock"))
        }
    }
}

/// `devchain wallet`.
pub(crate) fn make(
    path: &Path,
    network: NetworkId,
    context: &Context,
) -> Result<ExitCode, Failure> {
    refuse_real(network)?;
    let seed = Zeroizing::new(context.random::<32>()?);
    let line = Zeroizing::new(format!(
        "{PREFIX}{}",
        Zeroizing::new(hex::encode(seed.as_slice())).as_str()
    ));
    files::write_secret(path, line.as_bytes())?;
    let account = DevWallet::of(&seed, network).account()?;
    let kind = AddressKind::NonBounceable;
    let made = Made {
        path: path.display().to_string(),
        account,
        address: Address { kind, ..Address::contract(account, network) }.to_string(),
    };
    context.report.result("chrysalis/dev-wallet/v1", &made, |out| {
        out.warning("DEV CHAIN  a key in a file, for coins without value")?;
        out.field("key", &made.path)?;
        out.field("address", &made.address)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A key in a file is not how anybody's coins are kept.
fn refuse_real(network: NetworkId) -> Result<(), Failure> {
    if network != NetworkId::MAINNET {
        return Ok(());
    }
    let message = "a dev wallet is for the dev chain; this is TON's main network";
    Err(Failure::new(Class::Refused, "E-DEV-WALLET-NETWORK", message)
        .next("leave --dev-wallet out, and sign the link in your own wallet"))
}

#[derive(Serialize)]
struct Made {
    path: String,
    account: Digest,
    address: String,
}

/// What the file begins with, so that no other key is mistaken for one.
const PREFIX: &str = "chrysalis-dev-wallet:";
const MAX_FILE_BYTES: usize = 256;
/// How long an order is good for.
const ORDER_SECONDS: u64 = 60;
/// How far a dev chain may be ahead, seconds: the closing delays of a year of tests.
const MAX_AHEAD_SECONDS: u64 = 366 * 86_400;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_order_is_good_for_a_minute_of_the_chains_time_unless_that_is_a_year_ahead() {
        let now = UnixTime(1_795_000_000);
        let until = |chain| until(now, UnixTime(chain)).map_err(|failure| failure.code);
        assert_eq!(until(now.0 - 5), Ok(1_795_000_060));
        let most = now.0 + MAX_AHEAD_SECONDS;
        assert_eq!(until(most), Ok(u32::try_from(most + 60).unwrap()));
        for ahead in [most + 1, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(until(ahead), Err("E-CHAIN-CLOCK".to_owned()));
        }
    }
}
