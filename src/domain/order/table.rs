//! Every state against every event, refusals included; and what no sequence of events may do.

use std::{fmt::Write as _, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::domain::{
    attempt::Frozen,
    id::{AccountId, AppId},
    money::Sum,
    payer::{Payer, PayerKind},
};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const ONE: AttemptNo = AttemptNo::FIRST;

fn two() -> AttemptNo {
    AttemptNo::new(2).unwrap()
}

fn order() -> Order {
    Order {
        id: OrderId::from_bytes([1; 16]),
        merchant: MerchantId(1),
        order_no: OrderNo::parse("A1").unwrap(),
        fingerprint: [0; 32],
        amount: Fen::new(1999).unwrap(),
        good_name: "咖啡".into(),
        good_no: None,
        attach: None,
        notify_url: "https://shop.example.com/n".into(),
        wechat_mini_program: Some(MiniProgramId(1)),
        alipay_mini_program: None,
        created_at: NOW,
        expire_at: NOW.plus(Duration::from_secs(7200)),
        link_generation: 0,
        link_key: KeyId::parse("k1").unwrap(),
        state: OrderState::Waiting,
        version: 1,
        lease: None,
        asked_at: None,
        close_wanted_at: None,
        attempts: Vec::new(),
    }
}

fn attempt(no: AttemptNo) -> Attempt {
    Attempt {
        no,
        wallet: Wallet::WechatPay,
        account: AccountId(1),
        mini_program: MiniProgramId(1),
        app_id: AppId::parse("wx1").unwrap(),
        payer: Payer::new(PayerKind::WechatOpenid, "o1").unwrap(),
        frozen: Frozen { body: "{}".into(), notify_url: String::new() },
        state: AttemptState::Sent,
        started_at: NOW,
        sends: 1,
        refusals: 0,
        handed_out_at: None,
        next_query_at: Some(NOW.plus(Duration::from_secs(5))),
        queries: 0,
        refunded: Sum::NOTHING,
    }
}

fn command(byte: u8) -> CommandId {
    CommandId::parse(&format!("00000000-0000-7000-8000-0000000000{byte:02x}")).unwrap()
}

fn started(no: AttemptNo) -> OrderEvent {
    let lease_until = NOW.plus(Duration::from_secs(20));
    OrderEvent::AttemptStarted { attempt: Box::new(attempt(no)), command: command(1), lease_until }
}

fn ticket(attempt: AttemptNo) -> OrderEvent {
    OrderEvent::TicketIssued { attempt, ticket: Ticket("wx1".into()) }
}

fn closed(attempt: AttemptNo) -> OrderEvent {
    OrderEvent::AttemptRetired { attempt, how: Retirement::Closed }
}

fn paid(attempt: AttemptNo) -> OrderEvent {
    let trade_no = TradeNo::parse(format!("4200{}", attempt.get())).unwrap();
    OrderEvent::PaymentConfirmed { attempt, payment: Payment { trade_no, payer_amount: None, paid_at: NOW } }
}

/// The same number paid once more, under another trade.
fn paid_otherwise(attempt: AttemptNo) -> OrderEvent {
    let trade_no = TradeNo::parse("4299").unwrap();
    OrderEvent::PaymentConfirmed { attempt, payment: Payment { trade_no, payer_amount: None, paid_at: NOW } }
}

fn disputed(attempt: AttemptNo) -> OrderEvent {
    OrderEvent::PaymentDisputed { attempt, trade_no: TradeNo::parse("42").unwrap(), what: "amount".into() }
}

fn after(events: impl IntoIterator<Item = OrderEvent>) -> Order {
    events.into_iter().fold(order(), |order, event| match order.apply(event, NOW).unwrap() {
        Step::Moved(moved) => moved.order,
        Step::AlreadyThere => order,
    })
}

/// Paid by its second number, then by its first too.
pub(in crate::domain) fn paid_twice() -> Order {
    after([started(ONE), closed(ONE), started(two()), paid(two()), paid(ONE)])
}

fn states() -> Vec<(&'static str, Order)> {
    vec![
        ("waiting", order()),
        ("waiting, 1 closed", after([started(ONE), closed(ONE)])),
        ("waiting, 1 disputed", after([started(ONE), disputed(ONE)])),
        ("open, 1 sent", after([started(ONE)])),
        ("open, 1 ticket", after([started(ONE), ticket(ONE)])),
        ("open, 1 closed, 2 sent", after([started(ONE), closed(ONE), started(two())])),
        ("open, closing", after([started(ONE), OrderEvent::CloseRequested])),
        ("paid by 1", after([started(ONE), paid(ONE)])),
        ("paid by 1, 2 ticket", after([started(ONE), closed(ONE), started(two()), ticket(two()), paid(ONE)])),
        ("closed", after([OrderEvent::Closed])),
        ("closed, 1 closed", after([started(ONE), closed(ONE), OrderEvent::Closed])),
    ]
}

/// Every event about attempt 1, and a start of the attempt that would be next.
fn events(order: &Order) -> Vec<OrderEvent> {
    let next = order.next_attempt_no().unwrap();
    vec![
        OrderEvent::LeaseTaken { command: command(1), until: NOW.plus(Duration::from_secs(20)) },
        OrderEvent::LeaseReleased { command: command(1) },
        OrderEvent::WalletAsked,
        started(next),
        OrderEvent::SentAgain { attempt: ONE },
        OrderEvent::SendRefused { attempt: ONE },
        ticket(ONE),
        OrderEvent::HandedOut { attempt: ONE },
        closed(ONE),
        OrderEvent::Asked { attempt: ONE },
        paid(ONE),
        disputed(ONE),
        OrderEvent::LinksRevoked { key: KeyId::parse("k2").unwrap() },
        OrderEvent::Closed,
        OrderEvent::CloseRequested,
        paid_otherwise(ONE),
    ]
}

/// Events about attempt 2, for the states that have one.
fn events_about_two() -> Vec<OrderEvent> {
    vec![
        OrderEvent::SentAgain { attempt: two() },
        OrderEvent::SendRefused { attempt: two() },
        ticket(two()),
        OrderEvent::HandedOut { attempt: two() },
        closed(two()),
        OrderEvent::Asked { attempt: two() },
        paid(two()),
        disputed(two()),
    ]
}

fn cell(order: &Order, event: OrderEvent) -> String {
    match order.apply(event, NOW) {
        Err(_) => "-".into(),
        Ok(Step::AlreadyThere) => "=".into(),
        Ok(Step::Moved(moved)) => {
            let mut text = moved.order.state.name().to_owned();
            for anomaly in &moved.anomalies {
                write!(text, " !{}", anomaly.kind.as_str()).unwrap();
            }
            text
        }
    }
}

/// `-` not allowed, `=` a repeat, else the state it moves to; `!` an anomaly for a person's or a policy's eye.
#[test]
fn every_state_meets_every_event() {
    let mut table = String::new();
    for (name, order) in states() {
        writeln!(table, "{name}").unwrap();
        for event in events(&order) {
            writeln!(table, "    {:<18} {}", event.name(), cell(&order, event)).unwrap();
        }
        for event in events_about_two().into_iter().filter(|_| order.attempt(two()).is_some()) {
            writeln!(table, "    2: {:<15} {}", event.name(), cell(&order, event)).unwrap();
        }
    }
    insta::assert_snapshot!("state_table", table);
}

#[test]
fn a_payment_sends_the_scheduler_to_the_other_open_number_at_once() {
    let later = NOW.plus(Duration::from_secs(60));
    let both = after([started(ONE), closed(ONE), started(two()), ticket(two())]);
    let Step::Moved(moved) = both.apply(paid(ONE), later).unwrap() else { panic!("a payment moves an order") };
    assert_eq!(moved.order.attempt(two()).unwrap().next_query_at, Some(later));
    assert!(moved.attempts.contains(&(two(), Write::Reschedule)));
}

#[test]
fn unexpected_money_meets_its_merchants_policy() {
    use crate::domain::policy::{MoneyPolicies, MoneyPolicy};
    let keep = MoneyPolicies { late: MoneyPolicy::Keep, second: MoneyPolicy::Keep };
    let refund = MoneyPolicies { late: MoneyPolicy::Refund, second: MoneyPolicy::Refund };
    let late = after([started(ONE), closed(ONE), OrderEvent::Closed, paid(ONE)]);
    let second = after([started(ONE), closed(ONE), started(two()), paid(two()), paid(ONE)]);
    let only = after([started(ONE), closed(ONE), paid(ONE)]);
    let disputed = after([started(ONE), disputed(ONE)]);
    let (its_own, another) = ("trade_no 42001", "trade_no 4299");
    for (order, kind, detail, wanted) in [
        (&late, AnomalyKind::LatePayment, its_own, [Handled::Kept, Handled::Kept, Handled::Refunded]),
        (&second, AnomalyKind::SecondPayment, its_own, [Handled::Refunded, Handled::Kept, Handled::Refunded]),
        (&only, AnomalyKind::ClosedNumberPaid, its_own, [Handled::Kept; 3]),
        // The anomaly beside it decides.
        (&second, AnomalyKind::ClosedNumberPaid, its_own, [Handled::Kept; 3]),
        // Two payments under one number: a refund would give back the first.
        (&late, AnomalyKind::SecondPayment, another, [Handled::Person; 3]),
        (&disputed, AnomalyKind::Disputed, "amount", [Handled::Person; 3]),
    ] {
        let decided = [MoneyPolicies::default(), keep, refund].map(|policy| policy.decide(order, ONE, kind, detail));
        assert_eq!(decided, wanted, "{kind:?} {detail}");
    }
}

#[test]
fn alipays_second_trade_of_one_number_is_an_anomaly_and_the_first_stays() {
    let mut first = attempt(ONE);
    first.wallet = Wallet::Alipay;
    let lease_until = NOW.plus(Duration::from_secs(20));
    let started = OrderEvent::AttemptStarted { attempt: Box::new(first), command: command(1), lease_until };
    let open = after([started, ticket(ONE)]);
    let other = OrderEvent::TicketIssued { attempt: ONE, ticket: Ticket("other".into()) };
    let Step::Moved(moved) = open.apply(other, NOW).unwrap() else { panic!("an anomaly is recorded") };
    assert_eq!(moved.anomalies[0].kind, AnomalyKind::SecondTicket);
    assert_eq!(moved.order.attempt(ONE).unwrap().state, open.attempt(ONE).unwrap().state);
}

#[test]
fn another_command_keeps_away_while_the_lease_lives() {
    let held = after([OrderEvent::LeaseTaken { command: command(1), until: NOW.plus(Duration::from_secs(20)) }]);
    let take = |at: Timestamp| {
        let until = at.plus(Duration::from_secs(20));
        held.apply(OrderEvent::LeaseTaken { command: command(2), until }, at).is_ok()
    };
    assert!(!take(NOW));
    assert!(!take(NOW.plus(Duration::from_secs(19))));
    assert!(take(NOW.plus(Duration::from_secs(20))), "its time is over");
    assert!(!held.leased_to_another(command(1), NOW), "its own redelivery goes on at once");
}

#[test]
fn a_number_is_retired_as_refused_only_if_every_send_was() {
    let refused = || OrderEvent::SendRefused { attempt: ONE };
    let retire = OrderEvent::AttemptRetired { attempt: ONE, how: Retirement::Refused };
    assert!(after([started(ONE)]).apply(retire.clone(), NOW).is_err(), "no send was refused");
    assert!(after([started(ONE), refused()]).apply(retire.clone(), NOW).is_ok());
    let one_of_two = after([started(ONE), OrderEvent::SentAgain { attempt: ONE }, refused()]);
    assert!(one_of_two.apply(retire, NOW).is_err(), "one send may have arrived");
}

#[test]
fn a_sixth_payer_in_ten_minutes_is_too_many() {
    let mut order = order();
    for no in 1..=6 {
        let mut row = attempt(AttemptNo::new(no).unwrap());
        row.payer = Payer::new(PayerKind::WechatOpenid, format!("o{no}")).unwrap();
        row.state = AttemptState::Retired { how: Retirement::Closed };
        order.attempts.push(row);
    }
    assert_eq!(order.recent_payer_changes(NOW), Order::PAYER_CHANGES_MAX);
    assert_eq!(order.recent_payer_changes(NOW.plus(Order::PAYER_CHANGE_SPAN)), 0);
}

fn is_paid(order: &Order) -> bool {
    order.state.name() == "paid"
}

/// No such number is fine.
fn number_is(order: &Order, no: AttemptNo, state: &str) -> bool {
    order.attempt(no).is_none_or(|attempt| attempt.state.name() == state)
}

fn any_event() -> impl Strategy<Value = usize> {
    0..15usize
}

proptest! {
    /// Whatever happens in whatever order: at most one number may be payable, a payment is never lost, paid stays paid,
    /// and versions have no gap.
    #[test]
    fn no_sequence_loses_a_payment_or_opens_two_numbers(picks in prop::collection::vec((any_event(), any::<bool>()), 0..60)) {
        let mut now = order();
        let mut paid_numbers = Vec::new();
        for (pick, about_last) in picks {
            let about = if about_last { now.attempts.last().map_or(ONE, |last| last.no) } else { ONE };
            let event = match pick {
                4 => OrderEvent::SentAgain { attempt: about },
                5 => OrderEvent::SendRefused { attempt: about },
                6 => ticket(about),
                7 => OrderEvent::HandedOut { attempt: about },
                8 => closed(about),
                9 => OrderEvent::Asked { attempt: about },
                10 => paid(about),
                11 => disputed(about),
                other if now.next_attempt_no().is_some() => events(&now)[other].clone(),
                _ => continue,
            };
            let was_paid = is_paid(&now);
            let is_payment = matches!(event, OrderEvent::PaymentConfirmed { .. });
            match now.apply(event, NOW) {
                Ok(Step::Moved(moved)) => {
                    prop_assert_eq!(moved.order.version, now.version + 1);
                    prop_assert_eq!((moved.from_version, moved.from_state), (now.version, now.state.name()));
                    if is_payment {
                        // It settles the order, or a person is told of it; nothing third.
                        prop_assert!(is_paid(&moved.order) || !moved.anomalies.is_empty());
                        if number_is(&moved.order, about, "paid") && !paid_numbers.contains(&about) {
                            paid_numbers.push(about);
                            let second = moved.anomalies.iter().any(|anomaly| anomaly.kind == AnomalyKind::SecondPayment);
                            prop_assert_eq!(paid_numbers.len() > 1, second);
                        }
                    }
                    now = moved.order;
                }
                Ok(Step::AlreadyThere) => {}
                // A confirmed payment is refused only where a person decides already.
                Err(_) if is_payment => prop_assert!(number_is(&now, about, "disputed")),
                Err(_) => {}
            }
            prop_assert!(now.attempts.iter().filter(|attempt| attempt.may_be_payable()).count() <= 1);
            prop_assert!(!was_paid || is_paid(&now));
            // A close that was asked for ends in the commit that makes it possible.
            let closable = now.state == OrderState::Waiting && !now.is_disputed();
            prop_assert!(now.close_wanted_at.is_none() || !closable);
            prop_assert!(now.state != OrderState::Open || now.payable_attempt().is_some());
            prop_assert!(now.state != OrderState::Waiting || now.payable_attempt().is_none());
            prop_assert!(paid_numbers.iter().all(|no| number_is(&now, *no, "paid")));
        }
    }
}
