//! Every state against every event, and what no sequence of events may do to a payment.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

pub(crate) fn refund(amount: i64) -> Refund {
    Refund {
        id: RefundId::from_bytes([2; 16]),
        merchant: MerchantId(1),
        refund_no: RefundNo::parse("R1").unwrap(),
        fingerprint: [0; 32],
        order: OrderId::from_bytes([1; 16]),
        attempt: AttemptNo::FIRST,
        wallet: Wallet::WechatPay,
        account: AccountId(1),
        amount: Fen::new(amount).unwrap(),
        total: Fen::new(1999).unwrap(),
        reason: None,
        notify_url: None,
        initiator: Initiator::Merchant,
        state: RefundState::Waiting,
        frozen: None,
        sends: 0,
        refusals: 0,
        asks: 0,
        sent_at: None,
        doubtful_at: None,
        denied_at: None,
        known_at: None,
        wallet_refund_no: None,
        hint: None,
        created_at: NOW,
        next_at: Some(NOW),
        version: 1,
    }
}

fn sent() -> RefundEvent {
    RefundEvent::SendRecorded { frozen: Frozen { body: "{}".into(), notify_url: String::new() } }
}

fn paid_back() -> RefundEvent {
    RefundEvent::PaidBack { at: NOW, wallet_refund_no: Some("50".into()) }
}

fn given_up() -> RefundEvent {
    RefundEvent::GivenUp { why: "closed".into() }
}

fn send_refused(send: u32) -> RefundEvent {
    RefundEvent::SendRefused { send, hint: "NOT_ENOUGH".into(), again_in: Duration::from_secs(60) }
}

fn denied(send: u32) -> RefundEvent {
    RefundEvent::SendDenied { send, hint: "TRADE_HAS_CLOSE".into() }
}

fn refused() -> RefundEvent {
    RefundEvent::Refused { why: "PARAM_ERROR".into() }
}

fn accepted() -> RefundEvent {
    RefundEvent::Accepted { wallet_refund_no: Some("50".into()) }
}

fn undelivered() -> RefundEvent {
    RefundEvent::Undelivered { wallet_refund_no: None }
}

/// Every event; those about one send are about the last.
fn events(refund: &Refund) -> Vec<(&'static str, RefundEvent)> {
    vec![
        ("send recorded", sent()),
        ("send refused", send_refused(refund.sends)),
        ("send denied", denied(refund.sends)),
        ("refused", refused()),
        ("unsettled", RefundEvent::Unsettled { hint: None }),
        ("known", RefundEvent::Known { hint: None }),
        ("absent", RefundEvent::Absent),
        ("accepted", RefundEvent::Accepted { wallet_refund_no: None }),
        ("paid back", paid_back()),
        ("given up", given_up()),
        ("undelivered", RefundEvent::Undelivered { wallet_refund_no: None }),
        ("look wanted", RefundEvent::LookWanted),
        ("cancelled", RefundEvent::Cancelled),
    ]
}

fn after(events: impl IntoIterator<Item = RefundEvent>) -> Refund {
    events.into_iter().fold(refund(700), |refund, event| match refund.apply(event, NOW) {
        RefundStep::Moved(moved) => moved.refund,
        RefundStep::AlreadyThere => refund,
    })
}

fn states() -> Vec<(&'static str, Refund)> {
    vec![
        ("waiting", after([])),
        ("sent", after([sent()])),
        ("sent, refused", after([sent(), send_refused(1)])),
        ("sent, denied", after([sent(), denied(1)])),
        ("sent twice, refused once", after([sent(), sent(), send_refused(2)])),
        ("sent, known, refused", after([sent(), RefundEvent::Known { hint: None }, send_refused(1)])),
        ("processing", after([sent(), accepted()])),
        ("abnormal", after([sent(), RefundEvent::Undelivered { wallet_refund_no: None }])),
        ("failed", after([sent(), given_up()])),
        ("failed, asked about", after([sent(), given_up(), RefundEvent::LookWanted])),
        ("succeeded", after([sent(), paid_back()])),
    ]
}

/// `=` a repeat, else the state it moves to, `?` where it is asked about after; `+`/`-` what it takes from the payment or gives it back, `!` news for the merchant.
#[test]
fn every_state_meets_every_event() {
    let mut table = String::new();
    for (name, refund) in states() {
        writeln!(table, "{name}").unwrap();
        for (event, happened) in events(&refund) {
            let cell = match refund.apply(happened, NOW) {
                RefundStep::AlreadyThere => "=".to_owned(),
                RefundStep::Moved(moved) => {
                    let mut cell = moved.refund.state.name().to_owned();
                    let Shift { reserved, refunded } = moved.shift;
                    if moved.refund.next_at.is_some() {
                        cell.push('?');
                    }
                    if reserved != 0 {
                        write!(cell, " reserved {reserved:+}").unwrap();
                    }
                    if refunded != 0 {
                        write!(cell, " refunded {refunded:+}").unwrap();
                    }
                    if moved.is_news() {
                        cell.push_str(" !");
                    }
                    cell
                }
            };
            writeln!(table, "    {event:<14} {cell}").unwrap();
        }
    }
    insta::assert_snapshot!("refund_table", table);
}

#[test]
fn a_send_that_may_have_arrived_outweighs_a_refusal_for_a_day() {
    let doubtful = after([sent(), sent(), send_refused(2)]);
    assert!(matches!(doubtful.apply(refused(), NOW), RefundStep::AlreadyThere));
    let later = NOW.plus(Refund::LAPSED_AFTER).plus(Duration::from_secs(1));
    assert!(matches!(doubtful.apply(refused(), later), RefundStep::Moved(_)));
}

fn at(refund: &Refund, event: RefundEvent, now: Timestamp) -> Refund {
    match refund.apply(event, now) {
        RefundStep::Moved(moved) => moved.refund,
        RefundStep::AlreadyThere => refund.clone(),
    }
}

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

const HOUR: u64 = 3600;

#[test]
fn the_day_begins_with_the_last_send_that_may_have_arrived() {
    // Waited for money for two days, then one send without an answer, then a refusal.
    let waited = at(&after([sent(), send_refused(1)]), sent(), later(48 * HOUR));
    let doubtful = at(&waited, sent(), later(49 * HOUR));
    let refused_once = at(&doubtful, send_refused(3), later(49 * HOUR));
    assert_eq!((refused_once.sent_at, refused_once.doubtful_at), (None, Some(later(48 * HOUR))));
    assert!(matches!(refused_once.apply(refused(), later(71 * HOUR)), RefundStep::AlreadyThere));
    assert_eq!(at(&refused_once, refused(), later(73 * HOUR)).state.name(), "failed");
    // A send that surely made nothing is no doubt.
    assert_eq!(at(&after([sent(), send_refused(1)]), sent(), later(1)).doubtful_at, None);
}

#[test]
fn late_word_of_an_earlier_send_clears_no_later_one() {
    let twice = after([sent(), sent(), send_refused(1)]);
    assert_eq!((twice.refusals, twice.sent_at), (1, Some(NOW)));
    assert!(!twice.is_surely_unknown());
    assert_eq!(after([sent(), sent(), denied(1)]).denied_at, None);
}

#[test]
fn what_was_held_up_does_not_leave() {
    let recorded = after([sent()]);
    assert!(recorded.may_leave(later(5)));
    assert!(!recorded.may_leave(later(6)));
    assert!(!refund(1).may_leave(NOW));
}

#[test]
fn what_the_wallet_had_never_fails_by_a_refusal() {
    for shown in [RefundEvent::Known { hint: None }, accepted()] {
        let refused_since = after([sent(), shown, sent(), send_refused(2)]);
        for now in [NOW, later(100 * HOUR)] {
            assert!(matches!(refused_since.apply(refused(), now), RefundStep::AlreadyThere));
        }
        assert_eq!(refused_since.state.refund_status(), "PROCESSING");
        assert!(refused_since.next_at.is_some() && refused_since.hint.is_some());
        assert!(!refused_since.is_surely_unknown(), "it is asked about before it is sent");
        // The wallet's own word that it closed it is another thing.
        assert_eq!(at(&refused_since, given_up(), NOW).state.name(), "failed");
    }
}

#[test]
fn a_denied_send_is_refused_only_after_a_second_look() {
    for (wallet, gap) in [(Wallet::Alipay, 600), (Wallet::WechatPay, 60)] {
        let once = Refund { wallet, ..after([sent()]) };
        let denied_once = at(&once, denied(1), NOW);
        assert_eq!(denied_once.next_at, Some(later(gap)));
        assert!(!denied_once.is_surely_unknown());
        assert!(matches!(denied_once.apply(refused(), later(gap - 1)), RefundStep::AlreadyThere));
        assert_eq!(at(&denied_once, refused(), later(gap)).state.name(), "failed");
        // Nor then, beside another send that may have arrived.
        let twice = at(&at(&once, sent(), NOW), denied(2), NOW);
        let asked = at(&twice, refused(), later(gap));
        assert_eq!((asked.state.name(), asked.refusals, asked.denied_at), ("sent", 1, None));
        assert!(asked.next_at > Some(later(gap)));
        // Nor when the wallet showed it meanwhile.
        let known = at(&denied_once, RefundEvent::Known { hint: None }, NOW);
        assert_eq!(at(&known, refused(), later(gap)), known);
    }
}

#[test]
fn a_failed_refund_is_asked_about_until_an_answer_or_for_a_day() {
    let failed = after([sent(), given_up()]);
    assert_eq!(failed.next_at, None);
    for news in [accepted(), undelivered(), RefundEvent::Known { hint: None }] {
        let asked = at(&failed, news.clone(), later(1));
        assert_eq!(
            (asked.state.name(), asked.next_at, asked.hint.as_deref()),
            ("failed", Some(later(1)), Some(HAD_FAILED))
        );
        // The question's own answer puts the next one on the timetable.
        assert!(at(&asked, news, later(1)).next_at >= Some(later(11)));
        assert_eq!(at(&asked, paid_back(), later(2)).state.name(), "succeeded");
        assert_eq!(at(&asked, given_up(), later(2)).next_at, None);
    }
    let mut wanted = at(&failed, RefundEvent::LookWanted, NOW);
    assert_eq!(at(&wanted, RefundEvent::Absent, NOW).next_at, None);
    let mut last = NOW;
    for _ in 0..100 {
        let Some(due) = wanted.next_at else { break };
        last = due;
        wanted = at(&wanted, RefundEvent::Unsettled { hint: None }, due);
    }
    assert_eq!(wanted.next_at, None);
    let asked_for = last.since(NOW).as_secs();
    assert!((24 * HOUR..26 * HOUR).contains(&asked_for), "{asked_for}");
}

#[test]
fn sends_that_surely_made_nothing_cost_no_patience() {
    let mut throttled = refund(700);
    for send in 1..=11 {
        throttled = at(&at(&throttled, sent(), NOW), send_refused(send), NOW);
    }
    let doubtful = at(&throttled, sent(), NOW);
    assert!(doubtful.next_at.unwrap() <= later(15), "the payer may have the money: {:?}", doubtful.next_at);
}

#[test]
fn a_refund_is_cancelled_only_while_no_send_can_have_arrived() {
    for (what, may) in [
        (after([]), true),
        (after([sent(), send_refused(1)]), true),
        (after([sent()]), false),
        (after([sent(), denied(1)]), false),
        (after([sent(), sent(), send_refused(2)]), false),
        (after([sent(), RefundEvent::Known { hint: None }, send_refused(1)]), false),
        (after([sent(), accepted()]), false),
        (after([sent(), undelivered()]), false),
        (after([sent(), given_up()]), false),
        (after([sent(), paid_back()]), false),
    ] {
        let RefundStep::Moved(moved) = what.apply(RefundEvent::Cancelled, NOW) else {
            assert!(!may, "{what:?}");
            continue;
        };
        assert!(may, "{what:?}");
        assert_eq!(moved.refund.state, RefundState::Failed { why: "cancelled".into() });
        assert_eq!((moved.shift, moved.refund.next_at), (Shift { reserved: -700, refunded: 0 }, None));
        assert!(matches!(moved.news(), Some(MerchantEvent::Refunded(news)) if news.status == "FAIL"));
        // Nothing is sent of it any more.
        assert!(matches!(moved.refund.apply(sent(), NOW), RefundStep::AlreadyThere));
    }
}

#[test]
fn refunds_by_hand_are_numbered_after_the_policys() {
    let payment = refund(1).out_trade_no();
    let with = |no: RefundNo| Refund { refund_no: no, ..refund(1) };
    let mut made = vec![with(Refund::system_no(payment).unwrap())];
    for n in ["2", "3", "4"] {
        let next = Refund::next_by_hand(payment, &made).unwrap();
        assert_eq!(next.as_str(), format!("SYS-{payment}-{n}"));
        made.push(with(next));
    }
}

#[test]
fn the_bytes_are_frozen_once() {
    let other = RefundEvent::SendRecorded { frozen: Frozen { body: "other".into(), notify_url: String::new() } };
    assert_eq!(after([sent(), other]).frozen.unwrap().body, "{}");
}

#[test]
fn a_refund_by_policy_has_one_number_per_payment() {
    let payment = refund(1).out_trade_no();
    let number = Refund::system_no(payment).unwrap();
    assert_eq!(number.as_str(), format!("SYS-{payment}"));
}

proptest! {
    /// Refunds of one payment, each with any sequence of events: what is set aside and paid back is the sum over the rows, and
    /// as long as no wallet takes back a "failed", never more than was paid.
    #[test]
    fn the_sums_never_pass_what_was_paid(
        amounts in prop::collection::vec(1i64..900, 1..6),
        happens in prop::collection::vec((0usize..6, 0usize..13), 0..80),
    ) {
        const PAID: i64 = 1999;
        let (mut reserved, mut refunded) = (0, 0);
        let mut rows = Vec::new();
        for amount in amounts {
            // The conditional update of the store.
            if reserved + amount <= PAID {
                reserved += amount;
                rows.push(refund(amount));
            }
        }
        let mut reopened = false;
        for (who, what) in happens {
            let Some(row) = rows.get_mut(who) else { continue };
            let (was_back, version) = (row.state.is_paid_back(), row.version);
            if let RefundStep::Moved(moved) = row.apply(events(row)[what].1.clone(), NOW) {
                prop_assert!(!was_back, "paid back is absorbing");
                prop_assert_eq!((moved.from_version, moved.refund.version), (version, version + 1));
                reserved += moved.shift.reserved;
                refunded += moved.shift.refunded;
                reopened |= moved.shift.reserved > 0;
                *row = moved.refund;
            }
        }
        let sum = |of: fn(&RefundState) -> bool| rows.iter().filter(|row| of(&row.state)).map(|row| row.amount.get()).sum::<i64>();
        prop_assert_eq!((reserved, refunded), (sum(RefundState::holds), sum(RefundState::is_paid_back)));
        prop_assert!(refunded <= reserved);
        prop_assert!(reopened || reserved <= PAID);
    }
}
