//! Every state against every event, and what no sequence of events may do to a payment.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn refund(amount: i64) -> Refund {
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

fn refused_once() -> RefundEvent {
    RefundEvent::SendRefused { hint: "NOT_ENOUGH".into(), again_in: Duration::from_secs(60) }
}

fn events() -> Vec<(&'static str, RefundEvent)> {
    vec![
        ("send recorded", sent()),
        ("send refused", refused_once()),
        ("refused", RefundEvent::Refused { why: "PARAM_ERROR".into() }),
        ("unsettled", RefundEvent::Unsettled { hint: None }),
        ("accepted", RefundEvent::Accepted { wallet_refund_no: None }),
        ("paid back", paid_back()),
        ("given up", given_up()),
        ("undelivered", RefundEvent::Undelivered { wallet_refund_no: None }),
        ("look wanted", RefundEvent::LookWanted),
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
        ("sent, refused", after([sent(), refused_once()])),
        ("sent twice, refused once", after([sent(), sent(), refused_once()])),
        ("processing", after([sent(), RefundEvent::Accepted { wallet_refund_no: None }])),
        ("abnormal", after([sent(), RefundEvent::Undelivered { wallet_refund_no: None }])),
        ("failed", after([sent(), given_up()])),
        ("succeeded", after([sent(), paid_back()])),
    ]
}

/// `=` a repeat, else the state it moves to; `+`/`-` what it takes from the payment or gives it back, `!` news for the merchant.
#[test]
fn every_state_meets_every_event() {
    let mut table = String::new();
    for (name, refund) in states() {
        writeln!(table, "{name}").unwrap();
        for (event, happened) in events() {
            let cell = match refund.apply(happened, NOW) {
                RefundStep::AlreadyThere => "=".to_owned(),
                RefundStep::Moved(moved) => {
                    let mut cell = moved.refund.state.name().to_owned();
                    let Shift { reserved, refunded } = moved.shift;
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
    let doubtful = after([sent(), sent(), refused_once()]);
    let refused = || RefundEvent::Refused { why: "PARAM_ERROR".into() };
    assert!(matches!(doubtful.apply(refused(), NOW), RefundStep::AlreadyThere));
    let later = NOW.plus(Refund::LAPSED_AFTER).plus(Duration::from_secs(1));
    assert!(matches!(doubtful.apply(refused(), later), RefundStep::Moved(_)));
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
        happens in prop::collection::vec((0usize..6, 0usize..9), 0..80),
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
            if let RefundStep::Moved(moved) = row.apply(events()[what].1.clone(), NOW) {
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
