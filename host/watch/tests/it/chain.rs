//! A local chain in this process as chain access, and servers before it that do not tell the truth.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrysalis_chain::{
    AccessError, AccountState, ChainAccess, Deployed, Received, TransactionView,
};
use chrysalis_devchain::{ChainError, Node, Range, StackValue};
use chrysalis_receipt::{Cell, boc};
use chrysalis_ton::read_boc;
use chrysalis_wire::{Digest, UnixTime};
use num_bigint::{BigInt, Sign};
use tycho_types::models::{MsgInfo, Transaction};

/// How a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Honest,
    /// Not at all.
    Gone,
    /// The channel is open, whatever happened.
    HidesClosing,
    /// Everything was paid.
    ClaimsAllIsPaid,
    /// So much was paid.
    ClaimsPaid(u64),
    /// There is no channel.
    HidesTheChannel,
    /// The channel is closing, and empty.
    ClaimsClosingAndEmpty,
    /// So much was paid, and the rest went back. Drops all messages.
    ClaimsPaidAndClosed(u64),
    /// Takes the first messages and drops them.
    Loses(usize),
    /// Takes its time, and then says nothing.
    Stalls,
    /// The same, when it is asked the first times.
    StallsFirst(usize),
    /// Only each so manieth time that it is asked.
    AnswersEach(usize),
}

/// A server.
#[derive(Clone, Debug)]
pub struct Server {
    pub node: Arc<Node>,
    pub manner: Manner,
    pub sent: Arc<AtomicUsize>,
    pub asked: Arc<AtomicUsize>,
}

impl Server {
    pub fn new(node: &Arc<Node>, manner: Manner) -> Self {
        Self { node: Arc::clone(node), manner, sent: Arc::default(), asked: Arc::default() }
    }

    pub fn messages(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    async fn reached(&self) -> Result<(), AccessError> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        let stalls = match self.manner {
            Manner::Stalls => true,
            Manner::StallsFirst(times) => turn < times,
            _ => false,
        };
        match self.manner {
            _ if stalls => {
                tokio::time::sleep(STALL).await;
                Err(AccessError::TimedOut(STALL))
            }
            Manner::Gone => Err(AccessError::Unreachable(std::io::ErrorKind::ConnectionRefused)),
            Manner::AnswersEach(n) if !(turn + 1).is_multiple_of(n) => {
                Err(AccessError::Unreachable(std::io::ErrorKind::TimedOut))
            }
            _ => Ok(()),
        }
    }
}

impl ChainAccess for Server {
    async fn account(&self, account: Digest) -> Result<AccountState, AccessError> {
        self.reached().await?;
        let view = self.node.account(account).unwrap();
        let contract = view.code.zip(view.data).map(|(code, data)| Deployed {
            code: read_boc(&code).unwrap(),
            data: read_boc(&data).unwrap(),
        });
        let at = UnixTime(self.node.head().now.into());
        let (balance, last_lt, last_hash) = (view.balance, view.last_lt, view.last_hash);
        Ok(AccountState { balance, contract, last_lt, last_hash, at })
    }

    async fn get(
        &self,
        account: Digest,
        method: &str,
        arguments: &[Digest],
    ) -> Result<Vec<Digest>, AccessError> {
        self.reached().await?;
        if self.manner == Manner::HidesTheChannel {
            return Err(AccessError::NoContract { account });
        }
        let arguments: Vec<_> = arguments
            .iter()
            .map(|n| StackValue::Number(BigInt::from_bytes_be(Sign::Plus, &n.0)))
            .collect();
        let called = match self.node.call(account, method, &arguments) {
            Err(ChainError::NoContract { account }) => {
                return Err(AccessError::NoContract { account });
            }
            other => other.unwrap(),
        };
        let mut numbers: Vec<Digest> = called.stack.iter().map(number).collect();
        match self.manner {
            Manner::HidesClosing => numbers[1] = Digest([0; 32]),
            Manner::ClaimsAllIsPaid => numbers[0] = small(u64::MAX),
            Manner::ClaimsPaid(nano) => numbers[0] = small(nano),
            Manner::ClaimsClosingAndEmpty => {
                (numbers[1], numbers[2]) = (small(1_795_000_001), small(0));
            }
            Manner::ClaimsPaidAndClosed(nano) => {
                (numbers[0], numbers[1], numbers[2]) = (small(nano), small(1), small(0));
            }
            _ => {}
        }
        Ok(numbers)
    }

    async fn send(&self, message: &Cell) -> Result<(), AccessError> {
        self.reached().await?;
        let turn = self.sent.fetch_add(1, Ordering::SeqCst);
        let lost = match self.manner {
            Manner::Loses(count) => turn < count,
            Manner::ClaimsPaidAndClosed(_) => true,
            _ => false,
        };
        if lost {
            return Ok(());
        }
        match self.node.send(&boc(message)) {
            Ok(_) => Ok(()),
            Err(ChainError::NotAccepted { exit_code }) => {
                Err(AccessError::NotAccepted { exit_code: Some(exit_code) })
            }
            Err(ChainError::NoContract { account }) => Err(AccessError::NoContract { account }),
            Err(error) => panic!("{error}"),
        }
    }

    async fn transactions(
        &self,
        account: Digest,
        after_lt: u64,
        limit: usize,
    ) -> Result<Vec<TransactionView>, AccessError> {
        self.reached().await?;
        let range = Range { from_lt: None, after_lt, limit };
        Ok(self.node.transactions(account, range).iter().map(|entry| view(&entry.boc())).collect())
    }
}

/// Longer than an honest answer takes here.
const STALL: Duration = Duration::from_millis(100);

pub fn view(boc: &[u8]) -> TransactionView {
    let cell = tycho_types::boc::Boc::decode(boc).unwrap();
    let recorded = cell.parse::<Transaction>().unwrap();
    let received = recorded.in_msg.as_ref().map(|message| match message.parse().unwrap() {
        MsgInfo::Int(info) => Received {
            from: info.src.as_std().map(|a| Digest(a.address.0)),
            value: info.value.tokens.into_inner(),
        },
        _ => Received { from: None, value: 0 },
    });
    let sent = recorded.out_msgs.values().filter_map(|message| match message.unwrap().parse() {
        Ok(MsgInfo::Int(info)) => {
            Some((Digest(info.dst.as_std()?.address.0), info.value.tokens.into_inner()))
        }
        _ => None,
    });
    TransactionView {
        lt: recorded.lt,
        hash: Digest(cell.repr_hash().0),
        at: UnixTime(recorded.now.into()),
        fee: recorded.total_fees.tokens.into_inner(),
        received,
        sent: sent.collect(),
    }
}

fn number(value: &StackValue) -> Digest {
    let StackValue::Number(number) = value else { panic!("{value:?}") };
    let mut bytes = [0; 32];
    let (_, digits) = number.to_bytes_be();
    bytes[32 - digits.len()..].copy_from_slice(&digits);
    Digest(bytes)
}

fn small(value: u64) -> Digest {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&value.to_be_bytes());
    Digest(bytes)
}
