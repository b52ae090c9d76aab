//! What the explorer finds: nothing with all rules, and without each of them the attack it is there for.

use super::contract::ContractRules;
use super::{ALL, Attack, Bounds, Hostile, Model, Rules};

const ONE_AT_ONCE: Bounds = Bounds { deposit: 4, restarts: 1, window: 1 };
const TWO_AT_ONCE: Bounds = Bounds { deposit: 4, restarts: 1, window: 2 };

#[track_caller]
fn safe(hostile: Hostile, bounds: Bounds) {
    match (Model { hostile, rules: ALL, bounds }).explore() {
        Ok((states, paid)) => {
            eprintln!("{states} states, up to {paid} units paid: {hostile:?}, {bounds:?}");
            assert_eq!(paid, bounds.deposit, "the property holds for no reason");
        }
        Err((steps, attack)) => panic!("{attack:?}: {steps:#?}"),
    }
}

fn find(hostile: Hostile, bounds: Bounds, rules: Rules) -> Attack {
    let (steps, attack) =
        Model { hostile, rules, bounds }.explore().expect_err("no attack: the model cannot tell");
    for step in steps {
        eprintln!("  {step:?}");
    }
    eprintln!("  => {attack:?}");
    attack
}

#[test]
fn no_hostile_payer_makes_an_honest_payee_lose_more_than_a_window() {
    for bounds in [ONE_AT_ONCE, TWO_AT_ONCE, Bounds { deposit: 6, restarts: 2, window: 1 }] {
        safe(Hostile::Payer, bounds);
    }
}

#[test]
fn no_hostile_payer_spends_a_channel_at_two_workers_of_its_payee() {
    for bounds in [ONE_AT_ONCE, TWO_AT_ONCE] {
        safe(Hostile::PayerOfTwo, bounds);
    }
}

#[test]
fn no_hostile_host_is_paid_above_a_cap_or_twice_or_keeps_the_rest() {
    for bounds in [ONE_AT_ONCE, TWO_AT_ONCE, Bounds { deposit: 3, restarts: 2, window: 1 }] {
        safe(Hostile::Host, bounds);
    }
}

#[test]
fn no_host_of_two_meters_is_paid_for_one_request_by_both() {
    // Two meters stand in more ways to each other than larger bounds have time for.
    safe(Hostile::HostOfTwo, Bounds { deposit: 2, restarts: 1, window: 1 });
}

#[test]
fn no_host_with_a_stolen_meter_key_is_paid_above_a_cap_or_keeps_the_rest() {
    safe(Hostile::HostWithMeterKey, ONE_AT_ONCE);
    safe(Hostile::HostWithMeterKey, TWO_AT_ONCE);
}

/// A contract without one of its rules.
fn without(change: fn(&mut ContractRules)) -> Rules {
    let mut rules = ALL;
    change(&mut rules.contract);
    rules
}

#[test]
fn without_the_network_in_it_a_test_signature_is_paid_for_real() {
    let rules = without(|c| c.network = false);
    assert_eq!(find(Hostile::Host, ONE_AT_ONCE, rules), Attack::AboveCap);
}

#[test]
fn without_the_ceiling_a_stolen_meter_key_takes_the_deposit() {
    let rules = without(|c| c.ceiling = false);
    assert_eq!(find(Hostile::HostWithMeterKey, ONE_AT_ONCE, rules), Attack::AboveCap);
}

#[test]
fn without_the_sum_of_what_was_paid_a_receipt_is_paid_twice() {
    let rules = without(|c| c.cumulative = false);
    assert_eq!(find(Hostile::Host, TWO_AT_ONCE, rules), Attack::Unearned);
}

#[test]
fn without_the_payers_signature_anybody_allows_anything() {
    let rules = without(|c| c.payer_signature = false);
    assert_eq!(find(Hostile::HostWithMeterKey, ONE_AT_ONCE, rules), Attack::AboveCap);
}

#[test]
fn without_the_meters_signature_a_cap_is_money() {
    let rules = without(|c| c.meter_signature = false);
    assert_eq!(find(Hostile::Host, ONE_AT_ONCE, rules), Attack::Unearned);
}

#[test]
fn without_the_delay_a_payer_leaves_before_the_payee_settles() {
    let rules = without(|c| c.delay = false);
    assert_eq!(find(Hostile::Payer, ONE_AT_ONCE, rules), Attack::Lost);
}

#[test]
fn without_a_way_out_alone_a_payee_keeps_the_rest() {
    let rules = without(|c| c.alone = false);
    assert_eq!(find(Hostile::Host, ONE_AT_ONCE, rules), Attack::Kept);
}

/// The lock on destruction: a contract that is gone can be deployed again at its address.
#[test]
fn without_outliving_its_refund_a_contract_pays_old_receipts_again() {
    let rules = without(|c| c.remains = false);
    assert_eq!(find(Hostile::Host, TWO_AT_ONCE, rules), Attack::Unearned);
}

#[test]
fn without_its_own_key_in_the_cap_a_meter_works_for_nothing() {
    assert_eq!(find(Hostile::Payer, ONE_AT_ONCE, Rules { own_key: false, ..ALL }), Attack::Lost);
}

/// Each counts for itself, and the contract pays the larger sum.
#[test]
fn without_its_workers_number_in_it_a_channel_is_spent_at_two_and_paid_once() {
    let rules = Rules { one_worker: false, ..ALL };
    assert_eq!(find(Hostile::PayerOfTwo, ONE_AT_ONCE, rules), Attack::Lost);
}

#[test]
fn without_keeping_the_highest_cap_a_meter_is_talked_out_of_its_pay() {
    assert_eq!(
        find(Hostile::Payer, ONE_AT_ONCE, Rules { highest_cap: false, ..ALL }),
        Attack::Lost
    );
}

#[test]
fn without_reservations_requests_at_once_share_one_allowance() {
    let rules = Rules { reservations: false, ..ALL };
    let bounds = Bounds { deposit: 6, restarts: 0, window: 2 };
    assert_eq!(find(Hostile::Payer, bounds, rules), Attack::Lost);
}

#[test]
fn without_a_look_at_the_deposit_a_meter_works_for_a_promise() {
    assert_eq!(find(Hostile::Payer, ONE_AT_ONCE, Rules { covered: false, ..ALL }), Attack::Lost);
}

#[test]
fn without_an_end_of_what_was_seen_a_meter_works_for_a_deposit_that_went_back() {
    let rules = Rules { notes_end: false, ..ALL };
    assert_eq!(find(Hostile::Payer, TWO_AT_ONCE, rules), Attack::Lost);
}

/// What it paid for is in a claim that nobody hands in.
#[test]
fn without_knowing_what_was_paid_a_new_meter_works_for_coins_that_are_gone() {
    let rules = Rules { paid_seen: false, ..ALL };
    let bounds = Bounds { deposit: 6, ..ONE_AT_ONCE };
    assert_eq!(find(Hostile::Payer, bounds, rules), Attack::Lost);
}

#[test]
fn without_going_on_from_the_last_sum_a_new_meter_works_for_what_was_paid() {
    let bounds = Bounds { deposit: 6, ..ONE_AT_ONCE };
    assert_eq!(find(Hostile::Payer, bounds, Rules { base: false, ..ALL }), Attack::Lost);
}

#[test]
fn without_the_signatures_of_that_sum_a_host_invents_one() {
    let rules = Rules { base_signed: false, ..ALL };
    assert_eq!(find(Hostile::Host, TWO_AT_ONCE, rules), Attack::Unearned);
}

/// The sum of the first meter comes back to it inside the second one's.
#[test]
fn without_knowing_its_own_sum_inside_anothers_a_meter_counts_it_twice() {
    let rules = Rules { once: false, ..ALL };
    assert_eq!(find(Hostile::HostOfTwo, TWO_AT_ONCE, rules), Attack::Unearned);
}

#[test]
fn without_storing_receipts_first_a_crash_costs_all_of_them() {
    let rules = Rules { stored_first: false, ..ALL };
    assert_eq!(find(Hostile::Payer, ONE_AT_ONCE, rules), Attack::Lost);
}
