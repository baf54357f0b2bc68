//! Every state against every event, refusals included; and what no sequence of events may do.

use std::{fmt::Write as _, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::domain::{
    attempt::{Frozen, Mismatch},
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

/// Of the order's amount, to another payee.
fn disputed(attempt: AttemptNo) -> OrderEvent {
    disputed_as(attempt, "42", foreign())
}

fn disputed_as(attempt: AttemptNo, trade_no: &str, what: Mismatch) -> OrderEvent {
    let dispute = Dispute { what, payer_amount: None, paid_at: Some(NOW) };
    OrderEvent::PaymentDisputed { attempt, trade_no: TradeNo::parse(trade_no).unwrap(), dispute }
}

fn foreign() -> Mismatch {
    Mismatch::Foreign { field: "mchid".into() }
}

/// Another trade of the number, with another amount.
fn disputed_otherwise(attempt: AttemptNo) -> OrderEvent {
    let what = Mismatch::Amount { paid: Fen::new(1).unwrap(), ordered: Fen::new(1999).unwrap() };
    disputed_as(attempt, "43", what)
}

fn taken(attempt: AttemptNo) -> OrderEvent {
    OrderEvent::DisputeTaken { attempt, note: "王: it is ours".into() }
}

fn let_go(attempt: AttemptNo) -> OrderEvent {
    OrderEvent::DisputeLetGo { attempt, note: "王: given back".into() }
}

fn settled(attempt: AttemptNo, kind: AnomalyKind) -> OrderEvent {
    OrderEvent::AnomalySettled { attempt, kind, stays: true, note: "王: it stays".into() }
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
        ("waiting, 1 disputed by amount", after([started(ONE), disputed_otherwise(ONE)])),
        ("waiting, 1 let go", after([started(ONE), disputed(ONE), let_go(ONE)])),
        ("waiting, closing, 1 disputed", after([started(ONE), disputed(ONE), OrderEvent::CloseRequested])),
        ("open, 1 sent", after([started(ONE)])),
        ("open, 1 ticket", after([started(ONE), ticket(ONE)])),
        ("open, 1 closed, 2 sent", after([started(ONE), closed(ONE), started(two())])),
        ("open, 1 let go, 2 sent", after([started(ONE), disputed(ONE), let_go(ONE), started(two())])),
        ("open, closing", after([started(ONE), OrderEvent::CloseRequested])),
        ("paid by 1", after([started(ONE), paid(ONE)])),
        ("paid by 1, 2 ticket", after([started(ONE), closed(ONE), started(two()), ticket(two()), paid(ONE)])),
        (
            "paid by 2, 1 disputed",
            after([started(ONE), closed(ONE), started(two()), ticket(two()), disputed(ONE), paid(two())]),
        ),
        ("closed", after([OrderEvent::Closed])),
        ("closed, 1 closed", after([started(ONE), closed(ONE), OrderEvent::Closed])),
        ("closed, 1 disputed", after([started(ONE), closed(ONE), OrderEvent::Closed, disputed(ONE)])),
        ("closed, 1 let go", after([started(ONE), disputed(ONE), let_go(ONE), OrderEvent::Closed])),
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
        disputed_otherwise(ONE),
        taken(ONE),
        let_go(ONE),
        settled(ONE, AnomalyKind::SecondPayment),
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
        taken(two()),
        let_go(two()),
        settled(two(), AnomalyKind::SecondPayment),
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
            if let Some(decision) = &moved.decision {
                write!(text, " ({})", decision.handled.as_str()).unwrap();
            }
            text
        }
    }
}

/// `-` not allowed, `=` a repeat, else the state it moves to; `!` an anomaly for a person's or a policy's eye, `()` what became of
/// an anomaly that waited for a person.
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

/// A page asks every three seconds until its phone is put away, and then its payer pays: found as if no page had asked.
#[test]
fn a_page_that_asks_all_the_time_does_not_use_the_timetable_up() {
    let mut open = after([started(ONE), ticket(ONE)]);
    let age = |age| NOW.plus(Duration::from_secs(age));
    for (asked_at, next) in
        [(3, 5), (6, 15), (9, 15), (12, 15), (15, 30), (18, 30), (21, 30), (24, 30), (27, 30), (31, 60)]
    {
        let Step::Moved(moved) = open.apply(OrderEvent::Asked { attempt: ONE }, age(asked_at)).unwrap() else {
            panic!()
        };
        open = moved.order;
        assert_eq!(open.attempt(ONE).unwrap().next_query_at, Some(age(next)), "asked at {asked_at} s");
    }
}

/// A phone that comes back after eight minutes is shown its payment as soon as one that has just come.
#[test]
fn each_prepay_begins_the_timetable_anew() {
    let age = |age| NOW.plus(Duration::from_secs(age));
    let mut open = after([started(ONE), ticket(ONE)]);
    for (event, at, next) in [
        (OrderEvent::Asked { attempt: ONE }, 305, 600),
        (ticket(ONE), 480, 485),
        (OrderEvent::Asked { attempt: ONE }, 485, 495),
        (OrderEvent::Asked { attempt: ONE }, 495, 510),
    ] {
        let Step::Moved(moved) = open.apply(event, age(at)).unwrap() else { panic!("it moves the order") };
        open = moved.order;
        assert_eq!(open.attempt(ONE).unwrap().next_query_at, Some(age(next)), "at {at} s");
        assert!(moved.attempts.contains(&(ONE, Write::Reschedule)), "at {at} s");
    }
    assert_eq!(open.attempt(ONE).unwrap().queries, 2, "those before the last prepay do not count");
}

#[test]
fn an_expiry_begins_ninety_seconds_after_it() {
    assert_eq!(Order::SETTLED_AFTER_EXPIRY, Duration::from_secs(90));
}

/// Beside a payment, an old number is asked about soon until it is ended, answered or not, and then less and less often.
#[test]
fn a_number_beside_a_payment_is_not_left_open_for_the_timetable_of_its_age() {
    let later = NOW.plus(Duration::from_secs(3_000));
    let mut both = after([started(ONE), closed(ONE), started(two()), ticket(two())]);
    for event in [OrderEvent::Asked { attempt: two() }, paid(ONE)] {
        let Step::Moved(moved) = both.apply(event, later).unwrap() else { panic!("it moves the order") };
        both = moved.order;
    }
    let gap = |asked, queries| {
        let attempt = Attempt { queries, ..both.attempt(two()).unwrap().clone() };
        both.ask_again_in(&attempt, asked, later).as_secs()
    };
    assert_eq!(both.attempt(two()).unwrap().queries, 0);
    assert_eq!([0, 1, 2, 8].map(|queries| gap(Asked::Answered, queries)), [5, 10, 15, 600]);
    assert_eq!([0, 1, 2, 8].map(|queries| gap(Asked::InVain, queries)), [10, 10, 15, 600]);
}

#[test]
fn unexpected_money_meets_its_merchants_policy() {
    use crate::domain::policy::{MoneyPolicies, MoneyPolicy};
    let keep = MoneyPolicies { late: MoneyPolicy::Keep, second: MoneyPolicy::Keep };
    let refund = MoneyPolicies { late: MoneyPolicy::Refund, second: MoneyPolicy::Refund };
    let late = after([started(ONE), closed(ONE), OrderEvent::Closed, paid(ONE)]);
    let second = after([started(ONE), closed(ONE), started(two()), paid(two()), paid(ONE)]);
    let only = after([started(ONE), closed(ONE), paid(ONE)]);
    let taken_beside = after([started(ONE), closed(ONE), started(two()), paid(two()), disputed(ONE), taken(ONE)]);
    let confirmed = after([started(ONE), disputed_as(ONE, "42001", foreign()), let_go(ONE), paid(ONE)]);
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
        // Taken, it is money like any other; confirmed after it was let go, it may have gone back by hand.
        (
            &taken_beside,
            AnomalyKind::SecondPayment,
            "trade_no 42",
            [Handled::Refunded, Handled::Kept, Handled::Refunded],
        ),
        (&confirmed, AnomalyKind::ClosedNumberPaid, "trade_no 42001, which was let go", [Handled::Person; 3]),
    ] {
        let decided = [MoneyPolicies::default(), keep, refund].map(|policy| policy.decide(order, ONE, kind, detail));
        assert_eq!(decided, wanted, "{kind:?} {detail}");
    }
}

#[test]
fn what_was_let_go_and_is_confirmed_after_all_is_money_and_a_persons() {
    let let_it_go = |trade_no: &str| after([started(ONE), disputed_as(ONE, trade_no, foreign()), let_go(ONE)]);
    for (trade_no, detail) in [("42001", "trade_no 42001, which was let go"), ("42", "trade_no 42001")] {
        let Step::Moved(moved) = let_it_go(trade_no).apply(paid(ONE), NOW).unwrap() else {
            panic!("money moves an order")
        };
        assert_eq!(moved.order.state, OrderState::Paid { by: ONE });
        let anomaly = Anomaly { attempt: ONE, kind: AnomalyKind::ClosedNumberPaid, detail: detail.into() };
        assert_eq!(moved.anomalies, [anomaly]);
    }
}

#[test]
fn a_payment_that_is_taken_is_the_wallets_with_its_time() {
    let later = NOW.plus(Duration::from_secs(9));
    let before = after([started(ONE), disputed(ONE)]);
    let Step::Moved(moved) = before.apply(taken(ONE), later).unwrap() else { panic!("it is taken") };
    let payment = Payment { trade_no: TradeNo::parse("42").unwrap(), payer_amount: None, paid_at: NOW };
    assert_eq!(moved.order.attempt(ONE).unwrap().state, AttemptState::Paid { payment });
    let decision = Decision {
        attempt: ONE,
        kind: AnomalyKind::Disputed,
        handled: Handled::Kept,
        is_settlement: false,
        note: "王: it is ours".into(),
    };
    assert_eq!((moved.decision, moved.anomalies), (Some(decision), vec![]));
}

/// Beside a payment, what waits for a person is ended without a change of the order; a dispute is decided.
#[test]
fn what_waits_beside_a_payment_is_settled_with_a_note() {
    let both = after([started(ONE), closed(ONE), started(two()), disputed(ONE), paid(two())]);
    let told = |event| match both.apply(event, NOW) {
        Ok(Step::Moved(moved)) => Ok((moved.order.attempts == both.attempts, moved.decision.unwrap())),
        Ok(Step::AlreadyThere) => panic!("each is written down"),
        Err(refused) => Err(refused.to_string()),
    };
    let note = "王: it stays";
    let kept = |kind| Decision { attempt: ONE, kind, handled: Handled::Kept, is_settlement: true, note: note.into() };
    for kind in [AnomalyKind::SecondTicket, AnomalyKind::ClosedNumberPaid] {
        assert_eq!(told(settled(ONE, kind)), Ok((true, kept(kind))));
    }
    let gone =
        OrderEvent::AnomalySettled { attempt: two(), kind: AnomalyKind::Disputed, stays: false, note: note.into() };
    assert_eq!(told(gone).unwrap().1.handled, Handled::LetGo);
    assert!(told(settled(ONE, AnomalyKind::Disputed)).unwrap_err().contains("its dispute is to be decided"));
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
    0..20usize
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
                15 => paid_otherwise(about),
                16 => disputed_otherwise(about),
                17 => taken(about),
                18 => let_go(about),
                19 => settled(about, AnomalyKind::Disputed),
                other if now.next_attempt_no().is_some() => events(&now)[other].clone(),
                _ => continue,
            };
            let was_paid = is_paid(&now);
            let is_payment = matches!(event, OrderEvent::PaymentConfirmed { .. } | OrderEvent::DisputeTaken { .. });
            let is_decision = matches!(event, OrderEvent::DisputeTaken { .. } | OrderEvent::DisputeLetGo { .. });
            let is_settled = matches!(event, OrderEvent::AnomalySettled { .. });
            let was_disputed = number_is(&now, about, "disputed") && now.attempt(about).is_some();
            match now.apply(event, NOW) {
                Ok(Step::Moved(moved)) => {
                    prop_assert_eq!(moved.order.version, now.version + 1);
                    prop_assert_eq!((moved.from_version, moved.from_state), (now.version, now.state.name()));
                    // Nothing but a person's decision, with its note, ends a dispute.
                    prop_assert_eq!(moved.decision.is_some(), is_decision || is_settled);
                    prop_assert!(!is_settled || (&moved.order.attempts, &moved.order.state) == (&now.attempts, &now.state));
                    let still = number_is(&moved.order, about, "disputed");
                    prop_assert!(!was_disputed || still != is_decision);
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
                Err(_) if is_payment && !is_decision => prop_assert!(number_is(&now, about, "disputed")),
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
