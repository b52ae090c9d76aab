//! The local chain over HTTP: what happened there is what is read.

use std::sync::Arc;

use chrysalis_chain::{AccessError, ChainAccess as _, MAX_TRANSACTIONS, Toncenter, channel_view};
use chrysalis_devchain::{Exposure, Node, bind, serve};
use chrysalis_receipt::{PayerKey, PayerPublicKey};
use chrysalis_ton::{CHANNEL_CODE_HASH, ChannelConfig, Outgoing, Wallet};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use crate::{ACCOUNT, client};

const NETWORK: NetworkId = NetworkId::INSECURE_SIM;
const NOW: u32 = 1_795_000_000;
const GRAM: u128 = 1_000_000_000;

async fn start() -> (Arc<Node>, Toncenter) {
    let node = Arc::new(Node::open(NETWORK, || NOW, None).unwrap());
    let listener = bind("127.0.0.1:0".parse().unwrap(), Exposure::LoopbackOnly).await.unwrap();
    let base = format!("http://{}/api/v2", listener.local_addr().unwrap());
    tokio::spawn(serve(Arc::clone(&node), listener, std::future::pending()));
    (node, client(&base))
}

fn wallet() -> (SigningKey, Wallet, Digest) {
    let key = SigningKey::from_bytes(&[0x42; 32]);
    let wallet = Wallet::new(key.verifying_key().to_bytes(), NETWORK);
    let account = wallet.account().unwrap();
    (key, wallet, account)
}

fn order(seqno: u32, message: Outgoing) -> chrysalis_receipt::Cell {
    let (key, wallet, _) = wallet();
    let order = wallet.order(seqno, NOW + 60, &[message]).unwrap();
    let signature = key.sign(&order.hash().0).to_bytes();
    order.signed(&signature).unwrap()
}

#[tokio::test]
async fn accounts_transactions_and_numbers_are_read_as_they_are() {
    let (node, chain) = start().await;
    let (_, _, account) = wallet();
    let nothing = chain.account(ACCOUNT).await.unwrap();
    assert_eq!((nothing.balance, nothing.contract, nothing.last_lt), (0, None, 0));
    node.faucet(account, 5 * GRAM).unwrap();
    let pay = Outgoing { to: ACCOUNT, value: GRAM, bounce: false, init: None, body: None };
    chain.send(&order(0, pay.clone())).await.unwrap();

    let paid = chain.account(ACCOUNT).await.unwrap();
    assert_eq!((paid.balance, paid.at), (GRAM, UnixTime(NOW.into())));
    let shown = chain.account(account).await.unwrap();
    assert_eq!(shown.contract.unwrap().code.hash(), chrysalis_ton::WALLET_CODE_HASH);
    let seqno = chain.get(account, "seqno", &[]).await.unwrap();
    assert_eq!(seqno, [format!("{:0>64}", 1).parse().unwrap()]);

    let listed = chain.transactions(account, 0, 10).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0].sent, [(ACCOUNT, GRAM)]);
    assert_eq!((listed[0].lt, listed[0].hash), (shown.last_lt, shown.last_hash));
    assert_eq!(listed[1].received.as_ref().unwrap().value, 5 * GRAM);
    let newer = chain.transactions(account, listed[1].lt, MAX_TRANSACTIONS + 1).await.unwrap();
    assert_eq!(newer, listed[..1]);

    assert_eq!(
        chain.send(&order(0, pay)).await,
        Err(AccessError::NotAccepted { exit_code: Some(133) })
    );
}

#[tokio::test]
async fn a_channel_is_found_by_its_settings_and_nowhere_else() {
    let (node, chain) = start().await;
    let (_, _, account) = wallet();
    node.faucet(account, 5 * GRAM).unwrap();
    let key = PayerKey::from_seed(&Zeroizing::new([0x22; 32])).public();
    let key = PayerPublicKey::parse(&key).unwrap();
    let config = ChannelConfig::new(key, account, ACCOUNT, 1).unwrap();
    let channel = config.id(NETWORK).unwrap().account;
    assert_eq!(channel_view(&chain, channel).await, Ok(None));
    let init = Some(config.state_init().unwrap());
    let deploy = Outgoing { to: channel, value: 2 * GRAM, bounce: true, init, body: None };
    chain.send(&order(0, deploy)).await.unwrap();
    let view = channel_view(&chain, channel).await.unwrap().unwrap();
    assert_eq!((view.cum_paid, view.close_at), (0, None));
    assert!(view.balance > 2 * GRAM - 100_000 && view.balance < 2 * GRAM);
    let code = chain.account(channel).await.unwrap().contract.unwrap().code;
    assert_eq!(code.hash(), CHANNEL_CODE_HASH);
    // A wallet has no such method.
    let threw = AccessError::Threw { method: "channel_state".to_owned(), exit_code: 11 };
    assert_eq!(channel_view(&chain, account).await, Err(threw));
}
