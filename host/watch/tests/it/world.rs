//! A channel on a local chain, its payer's wallet, its meter, and the payee's book.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use chrysalis_chain::MAX_TRANSACTIONS;
use chrysalis_devchain::{Node, Range};
use chrysalis_receipt::{
    Cell, ChannelId, Claim, MeterKey, MeterPublicKey, MeterState, PayerKey, PayerPublicKey,
    Settlement, SignedCap, SignedSettlement, boc,
};
use chrysalis_ton::{ChannelConfig, Outgoing, Wallet, start_close};
use chrysalis_watch::{
    Book, BookError, Decision, Note, Outcome, Policy, Report, Round, WatchError, Watched, Watcher,
};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use crate::chain::{Manner, Server, view};

pub const NETWORK: NetworkId = NetworkId::INSECURE_SIM;
pub const GRAM: u128 = 1_000_000_000;
pub const NOW: u32 = 1_795_000_000;
pub const PAYEE: Digest = Digest([7; 32]);
pub const HOUR: u32 = 3_600;
pub const DAY: u32 = 24 * HOUR;

pub struct World {
    pub node: Arc<Node>,
    time: Arc<AtomicU32>,
    payer: SigningKey,
    wallet: Wallet,
    orders: u32,
    pub config: ChannelConfig,
    pub channel: ChannelId,
    pub book: Ledger,
}

/// A book in memory that keeps every note.
pub struct Ledger {
    pub config: ChannelConfig,
    pub claim: Option<(SignedCap, SignedSettlement)>,
    pub notes: Mutex<Vec<Note>>,
    pub full: bool,
}

impl Book for Ledger {
    fn channels(&self) -> Result<Vec<Result<Watched, WatchError>>, BookError> {
        let watched = Watched::new(&self.config, NETWORK, self.settled()).unwrap();
        Ok(vec![match self.claim.clone() {
            None => Ok(watched),
            Some((cap, settlement)) => watched.with_claim(&self.config, cap, settlement),
        }])
    }

    fn note(&self, _: ChannelId, note: Note, _: UnixTime) -> Result<(), BookError> {
        if self.full {
            return Err(BookError("the disk is full".to_owned()));
        }
        let mut notes = self.notes.lock().unwrap();
        if !notes.contains(&note) {
            notes.push(note);
        }
        Ok(())
    }
}

impl Ledger {
    pub fn settled(&self) -> u128 {
        let paid = |note: &Note| match note {
            Note::Paid { cum_paid, .. } => *cum_paid,
            Note::NotPaid { .. } | Note::Closing { .. } | Note::Closed => 0,
        };
        self.notes.lock().unwrap().iter().map(paid).max().unwrap_or(0)
    }
}

impl World {
    /// A channel with a deposit and its default day of delay.
    pub fn open(deposit: u128) -> Self {
        Self::open_with_delay(deposit, DAY)
    }

    pub fn open_with_delay(deposit: u128, close_delay: u32) -> Self {
        let time = Arc::new(AtomicU32::new(NOW));
        let clock = Arc::clone(&time);
        let node = Node::open(NETWORK, move || clock.load(Ordering::SeqCst), None).unwrap();
        let payer = SigningKey::from_bytes(&[0x42; 32]);
        let wallet = Wallet::new(payer.verifying_key().to_bytes(), NETWORK);
        let account = wallet.account().unwrap();
        node.faucet(account, 100 * GRAM).unwrap();
        let key = PayerPublicKey::parse(&caps().public()).unwrap();
        let config = ChannelConfig::new(key, account, PAYEE, 1).unwrap();
        let config = config.with_close_delay(close_delay).unwrap();
        let channel = config.id(NETWORK).unwrap();
        let notes = Mutex::default();
        let book = Ledger { config: config.clone(), claim: None, notes, full: false };
        let node = Arc::new(node);
        let mut world = Self { node, time, payer, wallet, orders: 0, config, channel, book };
        let init = Some(world.config.state_init().unwrap());
        world.order(deposit, init, None);
        world
    }

    fn order(&mut self, value: u128, init: Option<Cell>, body: Option<Cell>) {
        let to = self.channel.account;
        let message = Outgoing { to, value, bounce: true, init, body };
        let order = self.wallet.order(self.orders, u32::MAX, &[message]).unwrap();
        let signature = self.payer.sign(&order.hash().0).to_bytes();
        let (_, done) = self.node.send(&boc(&order.signed(&signature).unwrap())).unwrap();
        assert!(done.iter().all(|t| !t.aborted) && done.len() >= 2, "{done:?}");
        self.orders += 1;
    }

    pub fn starts_to_close(&mut self) {
        self.order(GRAM / 20, None, Some(start_close(1).unwrap()));
    }

    pub fn finishes_the_close(&mut self) {
        self.order(GRAM / 20, None, Some(chrysalis_ton::finish_close(1).unwrap()));
    }

    /// The meter signs what is owed, under a cap that covers it.
    pub fn earns(&mut self, cum_amount: u128) {
        self.earns_under(cum_amount, cum_amount);
    }

    pub fn earns_under(&mut self, cum_amount: u128, max_cum: u128) {
        let meter = MeterKey::from_seed(&Zeroizing::new([0x11; 32]));
        let key = MeterPublicKey::parse(&meter.public()).unwrap();
        let cap = caps().sign(self.channel, key, max_cum).unwrap();
        let state = MeterState {
            blind: [1; 16],
            count: 1,
            cum_units: 1,
            issued_at: UnixTime(NOW.into()),
            prev: Digest([0; 32]),
            log_root: Digest([0; 32]),
        };
        let settlement = Settlement { channel: self.channel, cum_amount, state };
        self.book.claim = Some((cap, meter.sign_settlement(settlement).unwrap()));
    }

    /// Signed by its payer and its meter, and deployed by nobody.
    pub fn claim_of_a_channel_that_is_not_there(&self, salt: u64) -> Claim {
        let key = PayerPublicKey::parse(&caps().public()).unwrap();
        let config = ChannelConfig::new(key, Digest([9; 32]), PAYEE, salt).unwrap();
        let meter = MeterKey::from_seed(&Zeroizing::new([0x11; 32]));
        let channel = config.id(NETWORK).unwrap();
        let named = MeterPublicKey::parse(&meter.public()).unwrap();
        let cap = caps().sign(channel, named, GRAM).unwrap();
        let state = self.book.claim.as_ref().unwrap().1.settlement().state.clone();
        let settlement = Settlement { channel, cum_amount: GRAM, state };
        let settlement = meter.sign_settlement(settlement).unwrap();
        Claim::new(config.terms().unwrap(), cap, settlement).unwrap()
    }

    pub fn passes(&self, seconds: u32) {
        self.time.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn now(&self) -> UnixTime {
        UnixTime(self.time.load(Ordering::SeqCst).into())
    }

    pub fn server(&self, manner: Manner) -> Server {
        Server::new(&self.node, manner)
    }

    pub fn watcher(&self, manners: &[Manner]) -> Watcher<Server> {
        let servers = manners.iter().map(|manner| self.server(*manner)).collect();
        Watcher::new(servers, Policy::default())
    }

    /// A watcher that brought its first claim, so that only what happens now makes it act.
    pub fn settled_watcher(&mut self, manners: &[Manner]) -> Watcher<Server> {
        let mut watcher = self.watcher(manners);
        self.earns(GRAM);
        self.look(&mut watcher);
        assert_eq!(self.paid(), GRAM);
        self.passes(200);
        self.look(&mut watcher);
        watcher
    }

    pub fn round(&self, watcher: &mut Watcher<Server>) -> Round {
        self.round_of(watcher, &self.book)
    }

    pub fn round_of(&self, watcher: &mut Watcher<Server>, book: &impl Book) -> Round {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(watcher.tick(book, self.now())).unwrap()
    }

    pub fn look(&self, watcher: &mut Watcher<Server>) -> Report {
        let mut round = self.round(watcher);
        assert_eq!((round.reports.len(), round.refused.len()), (1, 0), "{round:?}");
        round.reports.remove(0)
    }

    /// Nanogram that reached the payee. Her balance is less: the chain takes rent for keeping it.
    pub fn paid(&self) -> u128 {
        let range = Range { from_lt: None, after_lt: 0, limit: MAX_TRANSACTIONS };
        let listed = self.node.transactions(PAYEE, range);
        listed.iter().filter_map(|entry| view(&entry.boc()).received).map(|got| got.value).sum()
    }
}

fn caps() -> PayerKey {
    PayerKey::from_seed(&Zeroizing::new([0x22; 32]))
}

/// Whether a claim was brought, and taken.
pub fn taken(report: &Report) -> bool {
    matches!(report.decision, Decision::Settle { .. }) && report.outcome == Some(Outcome::Taken)
}
