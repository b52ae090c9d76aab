//! The watcher over a ledger in a file, as a worker's supervisor writes it.

use std::sync::atomic::Ordering;

use chrysalis_ledger::{Entry, Ledger, LedgerError, Phase, Side};
use chrysalis_receipt::Claim;
use chrysalis_watch::{
    AT_ONCE, Decision, Earnings, Facts, Outcome, POLL_SECONDS, Policy, Reason, SILENCES,
    SILENT_SECONDS, URGENT_SECONDS, WatchError, Watcher, Window, facts,
};
use tempfile::TempDir;

use crate::chain::Manner::{ClaimsPaid, ClaimsPaidAndClosed, Gone, Honest, Stalls, StallsFirst};
use crate::world::{DAY, GRAM, HOUR, World};

/// Takes down in a ledger what the meter signed last.
fn record(world: &World, ledger: &Ledger) {
    let (cap, settlement) = world.book.claim.clone().unwrap();
    let claim = Claim::new(world.config.terms().unwrap(), cap, settlement).unwrap();
    ledger.record(&Entry::Claim(&claim), world.now()).unwrap();
}

fn ledger() -> (TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("earnings.redb"), Side::Payee).unwrap();
    (dir, ledger)
}

/// A channel that has earned something, in a ledger beside fifty that anybody can make up.
fn among_made_up() -> (TempDir, Ledger, World) {
    let (dir, ledger) = ledger();
    let mut world = World::open(5 * GRAM);
    world.earns(GRAM);
    record(&world, &ledger);
    for salt in 2..52 {
        let made_up = world.claim_of_a_channel_that_is_not_there(salt);
        ledger.record(&Entry::Claim(&made_up), world.now()).unwrap();
    }
    (dir, ledger, world)
}

fn earns_more_and_closes(world: &mut World, ledger: &Ledger) {
    world.passes(HOUR);
    world.earns(2 * GRAM);
    record(world, ledger);
    world.starts_to_close();
}

fn earnings(world: &World, ledger: &Ledger) -> Earnings {
    let Facts { standings, happened, left_out } = facts(&ledger.view()).unwrap();
    assert_eq!(left_out, []);
    Earnings::of(&standings, happened, &Policy::default(), world.now())
}

#[test]
fn what_a_ledger_says_is_owed_is_settled_and_taken_down_once_also_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("earnings.redb");
    let mut world = World::open(5 * GRAM);
    world.earns(2 * GRAM);
    let ledger = Ledger::open(&path, Side::Payee).unwrap();
    record(&world, &ledger);
    let mut watcher = world.watcher(&[Honest]);
    let first = world.round_of(&mut watcher, &ledger);
    assert_eq!((first.refused.as_slice(), first.reports.len()), ([].as_slice(), 1));
    assert_eq!(first.reports[0].channel, world.channel);
    assert_eq!(first.reports[0].outcome, Some(Outcome::Taken));
    assert_eq!(world.paid(), 2 * GRAM);
    drop((watcher, ledger));

    let ledger = Ledger::open(&path, Side::Payee).unwrap();
    let mut watcher = world.watcher(&[Honest]);
    for _ in 0..3 {
        world.passes(HOUR);
        let round = world.round_of(&mut watcher, &ledger);
        assert_eq!(round.reports[0].not_noted, None);
        // The contract refuses what it has paid; nobody pays for that.
        assert_ne!(round.reports[0].outcome, Some(Outcome::Taken));
    }
    let channel = ledger.view().channel(world.channel).unwrap().unwrap();
    assert_eq!((channel.settled, channel.phase), (2 * GRAM, Phase::Open));
    let earnings = earnings(&world, &ledger);
    let fees = channel.fees;
    assert!(fees > 300_000 && fees < 800_000, "{fees}");
    let ever = Window { earned: 2 * GRAM, settled: 2 * GRAM, fees, requests: 1 };
    assert_eq!((earnings.total, earnings.week), (ever, ever));
    assert_eq!((earnings.unsettled, earnings.room, earnings.next), (0, 0, None));
}

/// Damage costs what only the record knew. The claim is kept beside it, and proves itself.
#[test]
fn a_damaged_record_stops_nobody_and_its_channel_is_settled_by_the_last_claim() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("earnings.redb");
    let mut world = World::open(5 * GRAM);
    world.earns(2 * GRAM);
    {
        let ledger = Ledger::open(&path, Side::Payee).unwrap();
        record(&world, &ledger);
        let other = world.claim_of_a_channel_that_is_not_there(2);
        ledger.record(&Entry::Claim(&other), world.now()).unwrap();
    }
    let key = [&world.channel.network.0.to_be_bytes()[..], &world.channel.account.0].concat();
    {
        let mode = redb::ConcurrencyMode::MultiWriter;
        let database = redb::Builder::new().set_concurrency_mode(mode).create(&path).unwrap();
        let tx = database.begin_write().unwrap();
        let channels = redb::TableDefinition::<&[u8], &[u8]>::new("channels");
        tx.open_table(channels).unwrap().insert(key.as_slice(), b"{}".as_slice()).unwrap();
        tx.commit().unwrap();
    }
    let ledger = Ledger::open(&path, Side::Payee).unwrap();
    let round = world.round_of(&mut world.watcher(&[Honest]), &ledger);
    let [WatchError::Ledger(LedgerError::DamagedChannel { channel, .. })] = &round.refused[..]
    else {
        panic!("{:?}", round.refused)
    };
    assert_eq!((*channel, round.reports.len()), (world.channel, 2));
    assert_eq!(world.paid(), 2 * GRAM);
    let facts = facts(&ledger.view()).unwrap();
    assert_eq!((facts.standings.len(), facts.left_out.len()), (1, 1));
}

#[test]
fn a_request_to_close_is_answered_and_taken_down_and_more_is_settled_after_it() {
    let (_dir, ledger) = ledger();
    let mut world = World::open(5 * GRAM);
    let mut watcher = world.watcher(&[Honest]);
    assert_eq!(world.round_of(&mut watcher, &ledger).reports, []);
    world.earns_under(GRAM, 3 * GRAM);
    record(&world, &ledger);
    world.round_of(&mut watcher, &ledger);
    world.passes(HOUR);
    world.earns_under(2 * GRAM, 3 * GRAM);
    record(&world, &ledger);
    world.starts_to_close();
    let report = world.round_of(&mut watcher, &ledger).reports.remove(0);
    let closing =
        |decision| matches!(decision, Decision::Settle { owed: GRAM, why: Reason::Closing { .. } });
    assert!(closing(report.decision), "{report:?}");
    assert_eq!(world.paid(), 2 * GRAM);
    let channel = ledger.view().channel(world.channel).unwrap().unwrap();
    let refund_from = chrysalis_wire::UnixTime(world.now().0 + u64::from(DAY));
    assert_eq!(channel.phase, Phase::Closing { refund_from });
    let earnings = earnings(&world, &ledger);
    // The second payment is seen, and taken down, at the next look.
    assert_eq!((earnings.room, earnings.unsettled), (GRAM, GRAM));
    assert_eq!(earnings.next.map(|next| next.amount), Some(GRAM));
}

#[test]
fn no_lie_of_one_server_among_others_is_taken_down_as_a_payment_and_one_alone_is_taken_back() {
    let (_dir, ledger) = ledger();
    let mut world = World::open(5 * GRAM);
    // Below the smallest settlement: nothing is paid in truth.
    world.earns(GRAM / 100);
    record(&world, &ledger);
    let lie = ClaimsPaid(10_000_000);
    let settled = |manners: &[crate::chain::Manner]| {
        let mut watcher = world.watcher(manners);
        let round = world.round_of(&mut watcher, &ledger);
        assert_eq!(round.reports[0].not_noted, None);
        let channel = ledger.view().channel(world.channel).unwrap().unwrap();
        let earnings = earnings(&world, &ledger);
        assert_eq!(earnings.total.settled, channel.settled);
        (channel.settled, round.reports[0].shown_by)
    };
    assert_eq!(settled(&[lie, Honest]), (0, (2, 2)));
    assert_eq!(settled(&[lie, Honest, Gone]), (0, (2, 3)));
    // Nobody is left to agree with it.
    assert_eq!(settled(&[lie, Gone]), (0, (1, 2)));
    assert_eq!(settled(&[lie]), (GRAM / 100, (1, 1)), "who asks one server has its word");
    assert_eq!(settled(&[lie, Honest]).0, GRAM / 100, "they do not agree that it is not so");
    assert_eq!(settled(&[Honest, Gone, Honest]).0, 0);
}

#[test]
fn a_channel_whose_rest_went_back_is_closed_and_left_alone_once_everything_was_paid() {
    let (_dir, ledger) = ledger();
    let mut world = World::open(5 * GRAM);
    world.earns(GRAM);
    record(&world, &ledger);
    let mut watcher = world.watcher(&[Honest, Honest]);
    world.round_of(&mut watcher, &ledger);
    world.starts_to_close();
    world.passes(DAY + 1);
    let channel = world.channel;
    let phase = || ledger.view().channel(channel).unwrap().unwrap().phase;
    world.round_of(&mut watcher, &ledger);
    assert!(matches!(phase(), Phase::Closing { .. }), "the rest is still there");
    world.finishes_the_close();
    // One server alone cannot say so where two are asked.
    world.round_of(&mut world.watcher(&[Honest, Gone]), &ledger);
    assert!(matches!(phase(), Phase::Closing { .. }));
    world.round_of(&mut watcher, &ledger);
    assert_eq!(phase(), Phase::Closed);
    assert_eq!(world.round_of(&mut watcher, &ledger).reports, []);
}

/// What a ledger calls closed is in no look any more, also not in one of other servers.
#[test]
fn one_server_closes_no_channel_however_long_it_says_so_and_is_asked_about_it_less_often() {
    let (_dir, ledger) = ledger();
    let mut world = World::open(5 * GRAM);
    world.earns(GRAM);
    record(&world, &ledger);
    let mut watcher = world.watcher(&[Honest]);
    world.round_of(&mut watcher, &ledger);
    world.starts_to_close();
    world.passes(DAY + 1);
    world.finishes_the_close();
    let mut looks_after = |seconds| {
        world.passes(seconds);
        world.round_of(&mut watcher, &ledger).reports.len()
    };
    let looks = [0, 1, DAY / 4 - 2, 1, 1, DAY / 4 - 2, 2 * DAY].map(&mut looks_after);
    assert_eq!(looks, [1, 0, 0, 1, 0, 0, 1]);
    let phase = || ledger.view().channel(world.channel).unwrap().unwrap().phase;
    assert!(matches!(phase(), Phase::Closing { .. }));
    world.round_of(&mut world.watcher(&[Honest, Honest]), &ledger);
    assert_eq!(phase(), Phase::Closed);
}

#[test]
fn what_the_only_server_said_for_days_keeps_no_claim_from_the_one_that_is_asked_next() {
    let (_dir, ledger) = ledger();
    let mut world = World::open(5 * GRAM);
    world.earns(2 * GRAM);
    record(&world, &ledger);
    let mut watcher = world.watcher(&[ClaimsPaidAndClosed(2_000_000_000)]);
    for _ in 0..5 {
        world.round_of(&mut watcher, &ledger);
        world.passes(DAY / 2);
    }
    assert_eq!(world.paid(), 0);
    world.round_of(&mut world.watcher(&[Honest]), &ledger);
    assert_eq!(world.paid(), 2 * GRAM);
}

/// Both lies at once, in one look, and the message of that look goes nowhere.
#[test]
fn one_server_that_says_that_all_was_paid_and_closed_ends_no_watch() {
    let (_dir, ledger) = ledger();
    let mut world = World::open(5 * GRAM);
    world.earns(2 * GRAM);
    record(&world, &ledger);
    let lie = ClaimsPaidAndClosed(2_000_000_000);
    let mut watcher = world.watcher(&[lie]);
    world.round_of(&mut watcher, &ledger);
    assert_eq!(world.paid(), 0);
    let stands = || {
        let channel = ledger.view().channel(world.channel).unwrap().unwrap();
        (channel.settled, channel.phase == Phase::Closed)
    };
    assert_eq!(
        stands(),
        (2 * GRAM, false),
        "who asks one server has its word, but not the last one"
    );
    // The same process goes on to ask it, and another one asks the truth.
    world.passes(DAY / 4);
    assert_eq!(world.round_of(&mut watcher, &ledger).reports.len(), 1);
    let mut watcher = world.watcher(&[Honest]);
    let round = world.round_of(&mut watcher, &ledger);
    assert_eq!((round.reports.len(), world.paid()), (1, 2 * GRAM));
    assert_eq!(stands(), (0, false), "what it paid is seen at the next look");
    world.round_of(&mut watcher, &ledger);
    assert_eq!(stands(), (2 * GRAM, false));
}

/// Beside an honest server one that answers nobody, and junk that anybody can put into a ledger.
#[test]
fn a_server_that_stalls_is_not_waited_for_at_every_channel_and_junk_is_brought_once() {
    let (_dir, ledger, mut world) = among_made_up();
    let (stalling, honest) = (world.server(Stalls), world.server(Honest));
    let mut watcher = Watcher::new(vec![stalling.clone(), honest.clone()], Policy::default());
    let asked = || stalling.asked.load(Ordering::SeqCst);
    let first = world.round_of(&mut watcher, &ledger);
    assert_eq!((first.reports.len(), world.paid()), (51, GRAM));
    // Those that were under way when it was found to be silent, and no others.
    assert!((SILENCES..=AT_ONCE + SILENCES).contains(&asked()), "{}", asked());
    earns_more_and_closes(&mut world, &ledger);
    let (sent, before) = (honest.messages(), asked());
    world.round_of(&mut watcher, &ledger);
    assert_eq!((world.paid(), honest.messages()), (2 * GRAM, sent + 1));
    assert_eq!(asked(), before + 1, "once more, for all channels");
    world.round_of(&mut watcher, &ledger);
    assert_eq!(asked(), before + 1, "and then not for a while");
}

#[test]
fn a_server_that_was_silent_is_asked_again_after_a_while_and_heard_soon_once_it_answers() {
    let world = World::open(5 * GRAM);
    let (stalling, honest) = (world.server(StallsFirst(SILENCES)), world.server(Honest));
    let mut watcher = Watcher::new(vec![stalling.clone(), honest], Policy::default());
    let mut look = |seconds: u64| {
        world.passes(u32::try_from(seconds).unwrap());
        let before = stalling.asked.load(Ordering::SeqCst);
        let round = world.round(&mut watcher);
        let asked = stalling.asked.load(Ordering::SeqCst) - before;
        (asked, round.reports[0].shown_by.0, round.next_in())
    };
    for _ in 0..SILENCES {
        assert_eq!(look(URGENT_SECONDS), (1, 1, POLL_SECONDS));
    }
    assert_eq!(look(SILENT_SECONDS - 1), (0, 1, POLL_SECONDS), "left alone");
    assert_eq!(look(1), (1, 1, URGENT_SECONDS), "nobody waits for what it says now");
    assert_eq!(look(URGENT_SECONDS), (1, 2, POLL_SECONDS));
}

/// The other one takes the claim and drops it, and says that all is paid.
#[test]
fn a_claim_that_was_brought_while_the_honest_server_was_left_alone_is_brought_to_it_once_it_answers()
 {
    let mut world = World::open(5 * GRAM);
    let lie = ClaimsPaidAndClosed(2_000_000_000);
    let (honest, lying) = (world.server(StallsFirst(SILENCES)), world.server(lie));
    let mut watcher = Watcher::new(vec![lying, honest], Policy::default());
    for _ in 0..SILENCES {
        world.round(&mut watcher);
    }
    world.earns(2 * GRAM);
    world.round(&mut watcher);
    assert_eq!(world.paid(), 0);
    world.passes(u32::try_from(SILENT_SECONDS).unwrap());
    world.round(&mut watcher);
    world.passes(u32::try_from(URGENT_SECONDS).unwrap());
    world.round(&mut watcher);
    assert_eq!(world.paid(), 2 * GRAM);
}

#[test]
fn servers_that_are_all_silent_are_asked_at_every_look() {
    let world = World::open(5 * GRAM);
    let stalling = [world.server(Stalls), world.server(Gone)];
    let mut watcher = Watcher::new(stalling.to_vec(), Policy::default());
    for look in 1..=2 * SILENCES {
        world.round(&mut watcher);
        let asked = stalling.each_ref().map(|server| server.asked.load(Ordering::SeqCst));
        assert_eq!(asked, [look, look]);
    }
}

#[test]
fn a_closing_channel_is_settled_before_fifty_that_were_made_up_are_looked_at_again() {
    let (_dir, ledger, mut world) = among_made_up();
    let mut watcher = world.watcher(&[Honest]);
    let first = world.round_of(&mut watcher, &ledger);
    assert_eq!(first.reports.len(), 51);
    assert_eq!(world.paid(), GRAM);
    let tried = |round: &chrysalis_watch::Round| {
        round.reports.iter().filter(|report| report.outcome.is_some()).count()
    };
    assert_eq!(tried(&first), 51);
    earns_more_and_closes(&mut world, &ledger);
    let second = world.round_of(&mut watcher, &ledger);
    assert_eq!((tried(&second), world.paid()), (1, 2 * GRAM), "the made up ones are left alone");
    let third = world.round_of(&mut watcher, &ledger);
    assert_eq!(third.reports[0].channel, world.channel, "what closes comes first");
}

/// One server, as most have: it never makes a channel closed, so every one that was stays in the list.
#[test]
fn channels_that_were_closed_and_paid_long_ago_are_looked_at_last() {
    let (_dir, ledger) = ledger();
    let mut world = World::open(5 * GRAM);
    world.earns(GRAM);
    record(&world, &ledger);
    let mut watcher = world.watcher(&[Honest]);
    world.round_of(&mut watcher, &ledger);
    world.round_of(&mut watcher, &ledger);
    assert_eq!(ledger.view().channel(world.channel).unwrap().unwrap().settled, GRAM);
    let other = world.claim_of_a_channel_that_is_not_there(2);
    ledger.record(&Entry::Claim(&other), world.now()).unwrap();
    world.starts_to_close();
    let first = |watcher: &mut Watcher<_>| {
        let round = world.round_of(watcher, &ledger);
        assert_eq!(round.reports.len(), 2);
        round.reports[0].channel
    };
    let _ = first(&mut watcher);
    assert_eq!(first(&mut watcher), world.channel, "there is still time for what comes");
    world.passes(DAY + 1);
    assert_eq!(first(&mut watcher), other.channel());
}

#[test]
fn no_rest_that_begins_late_keeps_a_claim_past_three_quarters_of_the_delay() {
    let (_dir, ledger) = ledger();
    let mut world = World::open(5 * GRAM);
    world.earns(2 * GRAM);
    record(&world, &ledger);
    // The only server calls all of it paid, with what is earned later, and the channel over.
    let lying = world.server(ClaimsPaidAndClosed(2_000_000_001));
    let mut watcher = Watcher::new(vec![lying.clone()], Policy::default());
    world.round_of(&mut watcher, &ledger);
    assert_eq!(lying.messages(), 1, "whatever it says");
    world.passes(DAY / 4 * 3 - 1);
    world.earns(2 * GRAM + 1);
    record(&world, &ledger);
    let round = world.round_of(&mut watcher, &ledger);
    assert_eq!((round.reports.len(), lying.messages()), (1, 1), "a rest begins");
    world.passes(1);
    let round = world.round_of(&mut watcher, &ledger);
    assert_eq!((round.reports.len(), lying.messages()), (1, 2), "it would reach to the refund");
}
