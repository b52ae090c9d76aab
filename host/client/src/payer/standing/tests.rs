//! What the client keeps of a meter: receipts in any order, found late, or of an earlier meter.

use super::*;

const BUDGET: Budget = Budget { limit: 1_000, step: 100 };
const NOW: UnixTime = UnixTime(1_795_000_000);
const LONGEST: u64 = 4_000;

fn standing() -> Standing {
    Standing::new(BUDGET, Known::default())
}

fn later(seconds: u64) -> UnixTime {
    UnixTime(NOW.0 + seconds)
}

fn lost(worst: u128) -> OpenRequest {
    OpenRequest { request: RequestId([1; 16]), worst, begun: NOW }
}

/// Signs what is needed and begins a request.
fn begin(s: &mut Standing, worst: u128) -> Result<u128, u128> {
    let cap = s.cap_for(worst, true)?;
    s.cover(cap);
    s.begin(worst);
    Ok(cap)
}

fn accept(s: &mut Standing, at: UnixTime, cum: u128) -> Result<bool, TooMuch> {
    s.accept(s.ask(at, LONGEST), cum).map(|taken| taken.is_some())
}

#[test]
fn caps_grow_by_steps_and_never_past_the_limit() {
    let mut s = standing();
    assert_eq!(begin(&mut s, 30), Ok(100));
    s.end(30, 30);
    assert_eq!(begin(&mut s, 70), Ok(100), "the last nanogram of a cap is used");
    s.end(70, 70);
    assert_eq!(begin(&mut s, 1), Ok(200));
    s.end(1, 0);
    assert_eq!(begin(&mut s, 900), Ok(1_000), "a request may need more than a step");
    s.end(900, 900);
    assert_eq!(begin(&mut s, 1), Err(1_001));
    assert_eq!(s.covered(), 1_000);
}

#[test]
fn requests_that_run_together_are_covered_together() {
    let mut s = standing();
    assert_eq!(begin(&mut s, 60), Ok(100));
    assert_eq!(begin(&mut s, 60), Ok(160));
    assert_eq!(begin(&mut s, 881), Err(1_001));
}

#[test]
fn a_budget_that_was_lowered_holds_for_requests_and_for_new_meters() {
    let known = Known { covered: 300, claimed: 50, unreceipted: 50, ..Known::default() };
    let s = Standing::new(Budget { limit: 100, step: 10 }, known);
    assert_eq!(s.cap_for(60, true), Err(110));
    assert_eq!(s.cap_for(50, true), Ok(300), "it has that one already");
    assert_eq!(s.cap_for(50, false), Ok(100));
}

#[test]
fn a_claim_for_one_nanogram_more_than_the_receipts_is_too_much() {
    let mut s = standing();
    begin(&mut s, 60).unwrap();
    s.end(60, 50);
    assert_eq!(accept(&mut s, NOW, 51), Err(TooMuch { accounted: 50 }));
    assert_eq!(accept(&mut s, NOW, 50), Ok(true));
    assert_eq!(s.may_owe(), 50);
    assert_eq!(accept(&mut s, NOW, 49), Ok(false), "an old one changes nothing");
    assert_eq!(s.may_owe(), 50);
}

#[test]
fn a_receipt_that_comes_while_a_claim_is_asked_for_counts_until_the_next() {
    let mut s = standing();
    begin(&mut s, 120).unwrap();
    s.end(60, 10);
    let asked = s.ask(NOW, LONGEST);
    s.end(60, 50);
    assert_eq!(s.accept(asked, 50), Ok(Some(Ended::default())));
    assert_eq!(s.may_owe(), 60, "all or a part of it is in the claim, or the meter left it out");
    assert_eq!(accept(&mut s, NOW, 50), Ok(true));
    assert_eq!(s.may_owe(), 50);
}

/// Both of one request that the first meter counted, whose claim the second one is handed late.
#[test]
fn what_an_earlier_meter_counted_may_come_with_any_claim_of_a_later_one_and_once_only() {
    for receipt_comes_first in [true, false] {
        let mut s = standing();
        begin(&mut s, 60).unwrap();
        if receipt_comes_first {
            s.end(60, 10);
        }
        s.change_meter();
        begin(&mut s, 40).unwrap();
        s.end(40, 5);
        if !receipt_comes_first {
            s.end(60, 10);
        }
        assert_eq!(accept(&mut s, NOW, 5), Ok(true));
        assert_eq!(s.may_owe(), 15, "first: {receipt_comes_first}");
        assert_eq!(accept(&mut s, NOW, 16), Err(TooMuch { accounted: 15 }));
        assert_eq!(accept(&mut s, NOW, 10), Ok(true), "of both meters, for all that is known");
        assert_eq!(accept(&mut s, NOW, 15), Ok(true));
        begin(&mut s, 40).unwrap();
        s.lose(lost(40));
        assert_eq!(accept(&mut s, later(LONGEST), 15), Ok(true));
        assert_eq!(s.may_owe(), 15, "all of it is in there, and no request holds it back twice");
    }
}

/// Another clone asked for it before the later meter was named, and is answered after that.
#[test]
fn what_is_found_of_an_earlier_meter_may_come_with_a_later_claim_too() {
    let mut s = standing();
    begin(&mut s, 60).unwrap();
    s.lose(lost(60));
    s.change_meter();
    begin(&mut s, 40).unwrap();
    s.end(40, 5);
    s.find(lost(60).request, 10);
    s.stray(10);
    assert_eq!(accept(&mut s, NOW, 5), Ok(true), "of the later meter alone");
    assert_eq!(s.may_owe(), 15);
    assert_eq!(accept(&mut s, NOW, 16), Err(TooMuch { accounted: 15 }));
    assert_eq!(accept(&mut s, NOW, 15), Ok(true), "the earlier one's claim was handed in");
}

#[test]
fn two_questions_at_once_take_no_receipt_for_included_twice() {
    let mut s = standing();
    begin(&mut s, 100).unwrap();
    s.end(60, 50);
    let (first, second) = (s.ask(NOW, LONGEST), s.ask(NOW, LONGEST));
    assert_eq!(s.accept(first, 50), Ok(Some(Ended::default())));
    s.end(40, 30);
    assert_eq!(s.accept(second, 50), Ok(Some(Ended::default())));
    assert_eq!(s.may_owe(), 80, "the receipt that came between is in no claim");
}

#[test]
fn a_request_without_a_receipt_may_cost_its_most_until_a_claim_after_the_longest() {
    let mut s = standing();
    begin(&mut s, 60).unwrap();
    s.lose(lost(60));
    // It is still running somewhere; the next claim has it, and that is not too much.
    assert_eq!(accept(&mut s, later(60), 0), Ok(true));
    assert_eq!(s.may_owe(), 60);
    assert_eq!(accept(&mut s, later(120), 20), Ok(true));
    assert_eq!(s.may_owe(), 60, "whether it is in there is not known, and it cannot cost more");
    assert_eq!(accept(&mut s, later(LONGEST - 1), 20), Ok(true));
    assert_eq!(s.may_owe(), 60);
    let over = s.accept(s.ask(later(LONGEST), LONGEST), 20);
    assert_eq!(over, Ok(Some(Ended { late: vec![lost(60).request], ended: vec![] })));
    assert_eq!(s.may_owe(), 20, "it is not held back from the budget any more");
}

#[test]
fn a_request_that_takes_longer_than_any_ought_to_is_no_overcharge() {
    let mut s = standing();
    begin(&mut s, 60).unwrap();
    s.lose(lost(60));
    assert_eq!(accept(&mut s, later(LONGEST), 0), Ok(true));
    assert_eq!(accept(&mut s, later(LONGEST), 61), Err(TooMuch { accounted: 60 }));
    let over = s.accept(s.ask(later(LONGEST), LONGEST), 25);
    assert_eq!(over, Ok(Some(Ended { late: vec![], ended: vec![lost(60).request] })));
    assert_eq!(accept(&mut s, later(LONGEST), 26), Err(TooMuch { accounted: 25 }), "only once");
    // And not for ever.
    s.lose(OpenRequest { worst: 30, ..lost(30) });
    assert_eq!(accept(&mut s, later(LONGEST), 25), Ok(true));
    assert_eq!(accept(&mut s, later(LATE_SECONDS), 25), Ok(true));
    assert_eq!(accept(&mut s, later(LATE_SECONDS), 26), Err(TooMuch { accounted: 25 }));
}

fn late(worsts: &[u128]) -> Standing {
    let open = |(id, worst): (u8, &u128)| OpenRequest {
        request: RequestId([id; 16]),
        worst: *worst,
        begun: NOW,
    };
    let late = (0..).zip(worsts).map(open).collect();
    Standing::new(BUDGET, Known { covered: 1_000, late, ..Known::default() })
}

#[test]
fn what_came_of_late_requests_leaves_the_most_that_the_others_can_cost() {
    let left = |amount| {
        let mut s = late(&[30, 50, 60]);
        assert_eq!(accept(&mut s, NOW, amount), Ok(true));
        s.accountable() - amount
    };
    assert_eq!(left(0), 140);
    assert_eq!(left(25), 110, "one at least has come, and it may be the smallest");
    assert_eq!(left(61), 60, "two at least");
    assert_eq!(left(100), 40, "which were the larger two, and 30 may still come");
    assert_eq!(left(111), 0, "all three");
}

/// Whichever come in the first claim, and for whatever they cost: the others are no overcharge in the next
/// one, also over a week's end between, and after a receipt that was found.
#[test]
fn no_honest_meter_is_refused_whichever_late_requests_a_claim_has_and_whatever_they_cost() {
    for worsts in [[30, 50, 60], [1, 2, 97], [40, 40, 40], [5, 60, 61], [10, 20, 30]] {
        for (first, costs) in (0_u8..8).flat_map(|first| (0_u8..27).map(move |c| (first, c))) {
            let cost = |at: usize| {
                // A third of its most, nearly that, and all of it.
                let worst: u128 = worsts[at];
                let which = usize::from(costs) / [1, 3, 9][at] % 3;
                [worst.div_ceil(3), worst - worst / 10, worst][which]
            };
            let sum =
                |set: u8| -> u128 { (0..3).filter(|at| set & (1 << at) != 0).map(cost).sum() };
            let case = format!("{worsts:?}, first {first:03b}, costs {costs}");
            // One nanogram more than their most is too much at any time, whatever was claimed before.
            let accept = |s: &mut Standing, at, cum| {
                let most = worsts.iter().sum::<u128>();
                let over = super::tests::accept(s, at, most + 1);
                assert!(matches!(over, Err(TooMuch { accounted }) if accounted <= most), "{case}");
                super::tests::accept(s, at, cum)
            };
            let mut s = late(&worsts);
            assert_eq!(accept(&mut s, NOW, sum(first)), Ok(true), "{case}");
            assert_eq!(accept(&mut s, NOW, sum(7)), Ok(true), "{case}");
            assert!(accept(&mut s, NOW, sum(7)).is_ok(), "{case}");
            // With the receipt of one found between, be it in the first claim or not.
            for found in 0..3_u8 {
                let mut s = late(&worsts);
                assert_eq!(accept(&mut s, NOW, sum(first)), Ok(true), "{case}");
                let id = RequestId([found; 16]);
                if s.worst_of(id).is_some() {
                    s.find(id, cost(found.into()));
                }
                let with = first | (1 << found);
                assert_eq!(accept(&mut s, NOW, sum(with)), Ok(true), "{case}, {found} found");
                assert_eq!(accept(&mut s, NOW, sum(7)), Ok(true), "{case}, {found} found");
            }
            // One is old, and its time ends with the claim that it is in, if in any.
            for old in (0..3).filter(|old| first & (1 << old) != 0) {
                let mut s = late(&worsts);
                s.known.late[old].begun = UnixTime(NOW.0 - LATE_SECONDS);
                assert_eq!(accept(&mut s, NOW, sum(first)), Ok(true), "{case}, {old} is old");
                assert_eq!(accept(&mut s, NOW, sum(7)), Ok(true), "{case}, {old} is old");
            }
        }
    }
}

#[test]
fn claims_have_what_a_request_without_a_receipt_may_cost_once_only() {
    for lose in [true, false] {
        let mut s = standing();
        begin(&mut s, 60).unwrap();
        if lose {
            s.lose(lost(60));
        }
        assert_eq!(accept(&mut s, NOW, 60), Ok(true));
        assert_eq!(accept(&mut s, NOW, 61), Err(TooMuch { accounted: 60 }), "lost: {lose}");
        assert_eq!(s.may_owe(), 60);
    }
}

#[test]
fn receipts_that_are_found_after_a_claim_had_them_make_no_room_for_another() {
    let mut s = late(&[50, 50, 50]);
    assert_eq!(accept(&mut s, NOW, 100), Ok(true));
    s.find(RequestId([0; 16]), 50);
    s.find(RequestId([1; 16]), 50);
    assert_eq!(accept(&mut s, NOW, 151), Err(TooMuch { accounted: 150 }));
    assert_eq!(accept(&mut s, NOW, 150), Ok(true), "the third came after all");
}

/// Requests begin, end, are lost, found or forgotten in any order; the meter counts each at some time or
/// never, and before its receipt. Questions are answered late and in any order, and the payer starts again
/// meanwhile. The meter is never refused, and never gets more than the most of all requests.
#[test]
fn no_order_of_events_refuses_an_honest_meter_or_pays_more_than_everything_came_to() {
    struct Request {
        open: OpenRequest,
        cost: u128,
        counted: bool,
        lost: bool,
    }
    let (mut overtaken, mut restarts) = (0, 0);
    for seed in 0_u64..2_000 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let known = Known { covered: 1 << 40, ..Known::default() };
        let mut s = Standing::new(BUDGET, known);
        let (mut requests, mut cum, mut now) = (Vec::<Request>::new(), 0, NOW.0);
        // Questions on their way, and answers on theirs.
        let (mut asked, mut answers) = (Vec::<Asked>::new(), Vec::<(Asked, u128)>::new());
        // What every request has cost by its receipt, or can cost: by its end, for ones that are over.
        let mut most = 0;
        for step in 0..60 {
            let at = usize::try_from(random(8)).unwrap();
            match random(11) {
                0 | 1 => {
                    let worst = u128::from(1 + random(60));
                    let cost = u128::from(random(61)).min(worst);
                    let id = u8::try_from(step).unwrap();
                    let request = RequestId([id; 16]);
                    let open = OpenRequest { request, worst, begun: UnixTime(now) };
                    requests.push(Request { open, cost, counted: false, lost: false });
                    s.begin(worst);
                    most += worst;
                }
                2 if at < requests.len() && !requests[at].lost => {
                    let Request { open, cost, counted, .. } = requests.remove(at);
                    cum += if counted { 0 } else { cost };
                    s.end(open.worst, cost);
                    most -= open.worst - cost;
                }
                3 if at < requests.len() && !requests[at].lost => {
                    s.lose(requests[at].open);
                    requests[at].lost = true;
                }
                // Of a request whose week is over nothing is counted any more.
                4 if at < requests.len() && now < requests[at].open.begun.0 + LATE_SECONDS => {
                    let request = &mut requests[at];
                    cum += if request.counted { 0 } else { request.cost };
                    request.counted = true;
                }
                5 if at < requests.len() && requests[at].counted && requests[at].lost => {
                    let Request { open, cost, .. } = requests.remove(at);
                    if s.worst_of(open.request).is_some() {
                        s.find(open.request, cost);
                        most -= open.worst - cost;
                    }
                }
                6 => asked.push(s.ask(UnixTime(now), LONGEST)),
                7 if at < asked.len() => answers.push((asked.remove(at), cum)),
                8 if at < answers.len() => {
                    let (asked, cum) = answers.remove(at);
                    let taken = s.accept(asked, cum);
                    let case = format!("seed {seed}, step {step}, asked at {:?}", asked.at);
                    assert!(taken.is_ok(), "{case}: {cum} is {taken:?} to {s:?}");
                    overtaken += u32::from(taken == Ok(None));
                }
                // What is on the disk: a request without an end is one whose answer was given up.
                9 if at == 0 => {
                    let mut known = s.known.clone();
                    known.lost.extend(requests.iter().filter(|r| !r.lost).map(|r| r.open));
                    requests.iter_mut().for_each(|request| request.lost = true);
                    s = Standing::new(BUDGET, known);
                    asked.clear();
                    answers.clear();
                    restarts += 1;
                }
                _ => now += [1, 60, LONGEST, LATE_SECONDS / 2][at % 4],
            }
            let case = format!("seed {seed}, step {step}");
            assert!(accept(&mut s, UnixTime(now), most + 1).is_err(), "{case}");
            if random(4) == 0 {
                assert!(accept(&mut s, UnixTime(now), cum).is_ok(), "{case}: {s:?}");
            }
        }
    }
    assert!(overtaken > 100 && restarts > 100, "{overtaken} and {restarts}: this shows little");
}

#[test]
fn a_receipt_that_is_found_ends_a_lost_request_for_what_it_cost() {
    let mut s = standing();
    begin(&mut s, 60).unwrap();
    s.lose(lost(60));
    assert_eq!(s.missing(), [lost(60).request]);
    s.find(lost(60).request, 7);
    assert_eq!((s.may_owe(), s.missing()), (7, vec![]));
    assert_eq!(accept(&mut s, NOW, 8), Err(TooMuch { accounted: 7 }));
    assert_eq!(accept(&mut s, NOW, 7), Ok(true));
    assert_eq!(s.may_owe(), 7);
}

#[test]
fn the_longest_request_follows_from_what_the_manifest_allows() {
    let limits = |context_tokens, completion_tokens| LimitsSection {
        request_bytes: 1,
        context_tokens,
        completion_tokens,
        concurrent_requests: 1,
    };
    assert_eq!(longest(&limits(4_096, 2_048)), 3_600 + 2_048 + 409);
    assert!(longest(&limits(1 << 20, 1 << 20)) > 1 << 20, "a token in a second");
}

#[test]
fn after_a_start_what_came_since_the_last_claim_and_what_did_not_end_may_be_owed() {
    let known = Known {
        covered: 300,
        claimed: 120,
        receipted: 140,
        included: 110,
        lost: vec![lost(40)],
        unreceipted: 10,
        ..Known::default()
    };
    let mut s = Standing::new(BUDGET, known);
    assert_eq!(s.may_owe(), 190);
    assert_eq!(accept(&mut s, NOW, 191), Err(TooMuch { accounted: 190 }));
    assert_eq!(accept(&mut s, NOW, 150), Ok(true));
    assert_eq!(s.may_owe(), 190);
    assert_eq!(s.cap_for(100, true), Ok(300));
}

#[test]
fn a_claim_it_signed_for_and_forgot_is_adopted() {
    let mut s = standing();
    s.adopt(400, 500);
    assert_eq!((s.may_owe(), s.covered()), (400, 500));
    assert_eq!(s.cap_for(100, true), Ok(500));
}

#[test]
fn warns_past_four_fifths_of_the_budget() {
    let mut s = standing();
    begin(&mut s, 800).unwrap();
    assert!(!s.near());
    s.end(800, 800);
    begin(&mut s, 1).unwrap();
    assert!(s.near());
}
