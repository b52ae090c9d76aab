//! Keeps what the worker earned. A claim comes from the worker's console and is verified before it is
//! written: the ledger can be settled by, whatever the console said.

use std::collections::HashMap;
use std::path::PathBuf;

use chrysalis_ledger::{Entry, Ledger, LedgerError, Side};
use chrysalis_receipt::{Claim, ReceiptError};
use chrysalis_wire::{Digest, NetworkId, UnixTime};

/// The payee's ledger in a state directory; made with the first claim.
#[derive(Default)]
pub(crate) struct Earnings {
    path: PathBuf,
    ledger: Option<Ledger>,
    /// The latest claim of each channel that the ledger could not take. The worker says it once.
    unrecorded: HashMap<(NetworkId, Digest), Claim>,
}

impl Earnings {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, ..Self::default() }
    }

    /// Records the claim of one console event. Returns once it is on the disk.
    ///
    /// # Errors
    /// [`LedgerError`], also for digits that are no claim. A claim that the disk did not take is kept
    /// for [`Earnings::retry`].
    pub(crate) fn record(&mut self, digits: &str, now: UnixTime) -> Result<(), LedgerError> {
        let bytes = hex::decode(digits).map_err(|e| ReceiptError::Malformed(e.to_string()))?;
        let claim = Claim::decode(&bytes)?;
        self.keep(claim, now)
    }

    /// Whether a claim waits to be recorded.
    pub(crate) fn is_behind(&self) -> bool {
        !self.unrecorded.is_empty()
    }

    /// Records what could not be recorded before.
    ///
    /// # Errors
    /// Of the first claim that still cannot be; it and the others stay.
    pub(crate) fn retry(&mut self, now: UnixTime) -> Result<(), LedgerError> {
        let claims: Vec<_> = self.unrecorded.drain().map(|(_, claim)| claim).collect();
        let mut first = Ok(());
        for claim in claims {
            let kept = self.keep(claim, now);
            first = first.and(kept);
        }
        first
    }

    fn keep(&mut self, claim: Claim, now: UnixTime) -> Result<(), LedgerError> {
        let recorded = self.write(&claim, now);
        let key = (claim.channel().network, claim.channel().account);
        match &recorded {
            // What does not verify will not later; and where the channel's record is damaged the claim was
            // kept beside it, which is all that a try later would do.
            Ok(()) | Err(LedgerError::Refused(_) | LedgerError::DamagedChannel { .. }) => {}
            Err(_) => {
                let room = self.unrecorded.len() < MAX_UNRECORDED;
                let before = self.unrecorded.get(&key).map(Claim::cum_amount);
                if before.map_or(room, |before| before < claim.cum_amount()) {
                    self.unrecorded.insert(key, claim);
                }
            }
        }
        recorded
    }

    fn write(&mut self, claim: &Claim, now: UnixTime) -> Result<(), LedgerError> {
        let ledger = match self.ledger.take() {
            Some(ledger) => ledger,
            None => Ledger::open(&self.path, Side::Payee)?,
        };
        let recorded = ledger.record(&Entry::Claim(claim), now);
        self.ledger = Some(ledger);
        recorded.map(drop)
    }
}

/// Name of the ledger in a state directory.
pub const EARNINGS_FILE: &str = "earnings.redb";
/// Most claims kept while the ledger takes none; a worker serves no more channels.
const MAX_UNRECORDED: usize = chrysalis_receipt::MAX_CHANNELS;

#[cfg(test)]
mod tests {
    use chrysalis_ledger::LedgerView;
    use chrysalis_receipt::{
        ChannelTerms, MeterKey, MeterPublicKey, MeterState, PayerKey, PayerPublicKey, Settlement,
        TermsParts,
    };

    use super::*;

    const NOW: UnixTime = UnixTime(1_795_000_000);

    fn digits(salt: u64, cum_amount: u128) -> String {
        let payer = PayerKey::from_seed(&[0x22; 32].into());
        let terms = ChannelTerms::new(TermsParts {
            payer_key: PayerPublicKey::parse(&payer.public()).unwrap(),
            payer: Digest([8; 32]),
            payee: Digest([7; 32]),
            close_delay: 86_400,
            min_settle: 50_000_000,
            salt,
        })
        .unwrap();
        let channel = terms.id(NetworkId::TESTNET).unwrap();
        let meter = MeterKey::from_seed(&[0x11; 32].into());
        let key = MeterPublicKey::parse(&meter.public()).unwrap();
        let cap = payer.sign(channel, key, 1_000).unwrap();
        let none = Digest([0; 32]);
        let (blind, count, cum_units) = ([0; 16], 1, 1);
        let state =
            MeterState { blind, count, cum_units, issued_at: NOW, prev: none, log_root: none };
        let settlement = Settlement { channel, cum_amount, state };
        let claim = Claim::new(terms, cap, meter.sign_settlement(settlement).unwrap()).unwrap();
        hex::encode(claim.encode())
    }

    fn earned(path: &std::path::Path) -> Vec<u128> {
        let view = LedgerView::open(path, Side::Payee).unwrap();
        let mut sums: Vec<_> = view.channels().unwrap().iter().map(|c| c.earned).collect();
        sums.sort_unstable();
        sums
    }

    #[test]
    fn what_a_ledger_could_not_take_is_in_it_once_it_can() {
        let dir = tempfile::tempdir().unwrap();
        // The directory of the ledger is not there yet: a disk that is not mounted.
        let path = dir.path().join("disk").join(EARNINGS_FILE);
        let mut earnings = Earnings::at(path.clone());
        for (salt, cum) in [(1, 10), (1, 30), (1, 20), (2, 5)] {
            assert!(matches!(
                earnings.record(&digits(salt, cum), NOW),
                Err(LedgerError::Open { .. })
            ));
        }
        assert!(earnings.retry(NOW).is_err() && earnings.is_behind());
        std::fs::create_dir(dir.path().join("disk")).unwrap();
        assert_eq!(earnings.retry(NOW), Ok(()));
        assert!(!earnings.is_behind());
        assert_eq!(earned(&path), [5, 30]);
    }

    #[test]
    fn what_does_not_verify_is_not_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut earnings = Earnings::at(dir.path().join(EARNINGS_FILE));
        let mut forged = digits(1, 10);
        forged.replace_range(forged.len() - 2.., "ff");
        assert!(matches!(earnings.record(&forged, NOW), Err(LedgerError::Refused(_))));
        assert!(!earnings.is_behind());
    }

    /// It is on the disk, and with the supervisor it does not end.
    #[test]
    fn a_claim_of_a_channel_whose_record_is_damaged_is_told_and_kept_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(EARNINGS_FILE);
        Earnings::at(path.clone()).record(&digits(1, 10), NOW).unwrap();
        let id = Claim::decode(&hex::decode(digits(1, 10)).unwrap()).unwrap().channel();
        {
            let mode = redb::ConcurrencyMode::MultiWriter;
            let database = redb::Builder::new().set_concurrency_mode(mode).create(&path).unwrap();
            let tx = database.begin_write().unwrap();
            let key = [&id.network.0.to_be_bytes()[..], &id.account.0].concat();
            let channels = redb::TableDefinition::<&[u8], &[u8]>::new("channels");
            tx.open_table(channels).unwrap().insert(key.as_slice(), b"{}".as_slice()).unwrap();
            tx.commit().unwrap();
        }
        let mut earnings = Earnings::at(path.clone());
        let told = earnings.record(&digits(1, 40), NOW);
        assert!(matches!(told, Err(LedgerError::DamagedChannel { .. })), "{told:?}");
        assert!(!earnings.is_behind(), "a try later would do no more");
        drop(earnings);
        let latest = LedgerView::open(&path, Side::Payee).unwrap().latest_claim(id).unwrap();
        assert_eq!(latest.map(|claim| claim.cum_amount()), Some(40));
    }

    /// What a worker earned in two lives, as its console said it.
    #[test]
    fn a_claim_of_a_later_life_replaces_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(EARNINGS_FILE);
        for cum in [10, 40, 40, 30] {
            Earnings::at(path.clone()).record(&digits(1, cum), NOW).unwrap();
        }
        assert_eq!(earned(&path), [40]);
    }
}
