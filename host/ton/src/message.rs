//! Messages to a channel, as cells. None of them is secret and none needs a key of its own: the
//! contract judges a settlement by the signatures in it, and the others by who sent them.

use chrysalis_receipt::{Cell, CellBuilder, CellError, SignedCap, SignedSettlement};

use crate::channel::store_address;

/// Body of a settlement: `SET1 | payer_signature:512 | ^cap | ^[ meter_signature:512 | ^receipt ]`.
/// In a message from a wallet, whose sender pays the fees and gets what is left of the coins in it.
///
/// # Errors
/// None in practice: the parts fit.
pub fn settle(cap: &SignedCap, settlement: &SignedSettlement) -> Result<Cell, CellError> {
    let mut b = CellBuilder::new();
    store_settle(&mut b, cap, settlement)?;
    b.build()
}

/// The whole external message that settles. Anybody may send it, nobody needs coins for it: the
/// deposit pays the fees.
///
/// # Errors
/// None in practice: the parts fit.
pub fn settle_external(cap: &SignedCap, settlement: &SignedSettlement) -> Result<Cell, CellError> {
    let mut b = CellBuilder::new();
    // ext_in_msg_info$10, no source, the channel, no import fee, no state, body inline: a body in
    // a cell of its own would cost 43 000 nanogram more.
    b.uint(0b1000, 4)?;
    store_address(&mut b, cap.cap().channel.account)?;
    b.coins(0)?.uint(0, 2)?;
    store_settle(&mut b, cap, settlement)?;
    b.build()
}

/// Body of the payer's request to close; the refund may follow when the channel's delay is over.
///
/// # Errors
/// None in practice: the parts fit.
pub fn start_close(query: u64) -> Result<Cell, CellError> {
    command(b"CLS1", query)
}

/// Body that sends the rest to the payer, from anybody once the delay is over.
///
/// # Errors
/// None in practice: the parts fit.
pub fn finish_close(query: u64) -> Result<Cell, CellError> {
    command(b"CLS2", query)
}

/// Body with which the payee closes at once.
///
/// # Errors
/// None in practice: the parts fit.
pub fn coop_close(query: u64) -> Result<Cell, CellError> {
    command(b"CLS3", query)
}

/// Body of a deposit. A message without a body is one too.
///
/// # Errors
/// None in practice: the parts fit.
pub fn top_up(query: u64) -> Result<Cell, CellError> {
    command(b"TOPU", query)
}

fn store_settle(
    b: &mut CellBuilder,
    cap: &SignedCap,
    settlement: &SignedSettlement,
) -> Result<(), CellError> {
    let mut signed = CellBuilder::new();
    signed.bytes(settlement.signature())?.reference(settlement.cell().clone())?;
    b.bytes(b"SET1")?
        .bytes(cap.signature())?
        .reference(cap.cell().clone())?
        .reference(signed.build()?)?;
    Ok(())
}

fn command(tag: &[u8; 4], query: u64) -> Result<Cell, CellError> {
    let mut b = CellBuilder::new();
    b.bytes(tag)?.uint(query.into(), 64)?;
    b.build()
}
