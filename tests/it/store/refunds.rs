//! Refunds: a payment's own reserve, one number one refund, and sends that keep their distance.

use std::{collections::HashSet, time::Duration};

use prepay::{
    domain::{
        attempt::Frozen,
        id::{RefundId, RefundNo},
        money::Fen,
        order::{AnomalyKind, Handled, Order, OrderEvent},
        refund::{Initiator, Refund, RefundEvent, RefundState, RefundStep, RefundWish},
        time::Timestamp,
    },
    store::{Commit, Committed, Lane, RefundCommit, RefundCommitted, RefundInserted, Share, Store},
};

use super::{
    place::Place,
    shop::{NOW, account, attempt, enrolled, inserted, moved, payment, secs, started, step},
};

pub(super) async fn paid(store: &Store) -> Order {
    let order = inserted(store).await;
    let order = step(store, &order, started(1)).await;
    step(store, &order, payment(1)).await
}

pub(super) fn refund(order: &Order, no: &str, amount: i64) -> Refund {
    let wish = RefundWish {
        refund_no: RefundNo::parse(no).unwrap(),
        fingerprint: [7; 32],
        amount: Fen::new(amount).unwrap(),
        reason: Some("七天无理由".into()),
        notify_url: None,
        initiator: Initiator::Merchant,
    };
    Refund::new(order, order.paying_attempt().unwrap(), wish, NOW)
}

pub(super) fn sent() -> RefundEvent {
    RefundEvent::SendRecorded {
        frozen: Frozen { body: r#"{"reason":"七天"}"#.into(), notify_url: "https://us.example".into() },
    }
}

/// Applies and commits an event; the refund loaded afterwards is the one that was meant.
pub(super) async fn happen(store: &Store, refund: &Refund, event: RefundEvent) -> Refund {
    let RefundStep::Moved(moved) = refund.apply(event, NOW) else { panic!("the event changes nothing") };
    let commit = RefundCommit { moved: &moved, spacing: Duration::ZERO, told: None, at: NOW };
    assert_eq!(store.commit_refund(commit).await.unwrap(), RefundCommitted::Done);
    let loaded = store.load_refund(refund.id).await.unwrap().unwrap();
    assert_eq!(loaded, moved.refund);
    loaded
}

pub(super) async fn sums(place: &Place) -> (i64, i64, i64) {
    let sum = |column: &'static str| async move { place.number(&format!("SELECT {column} FROM attempts")).await };
    // Counted as rows: the column is a narrower integer than the others.
    let count = place.number("SELECT COUNT(*) FROM refunds r WHERE r.state <> 'failed'").await;
    assert_eq!(place.number(&format!("SELECT COUNT(*) FROM attempts WHERE refund_count = {count}")).await, 1);
    (sum("refund_reserved_fen").await, sum("refunded_fen").await, count)
}

/// Events that say so of an order's refunds.
pub(super) async fn news(place: &Place, order: &Order, what: &str) -> i64 {
    let id = order.id;
    place
        .number(&format!(
            "SELECT COUNT(*) FROM merchant_events WHERE order_id = '{id}' AND kind = 'REFUND' AND facts LIKE '%{what}%'"
        ))
        .await
}

pub async fn every_state_of_a_refund_round_trips(place: Place) {
    let store = &place.store;
    let order = paid(store).await;
    let new = refund(&order, "R1", 700);
    assert_eq!(store.insert_refund(&new).await.unwrap(), RefundInserted::New);
    assert_eq!(store.load_refund_by_no(order.merchant, &new.refund_no).await.unwrap(), Some(new.clone()));
    let row = happen(store, &new, sent()).await;
    let row = happen(store, &row, RefundEvent::SendDenied { send: 1, hint: "INVALID_REQUEST".into() }).await;
    let row = happen(store, &row, sent()).await;
    let again_in = Duration::from_secs(60);
    let row = happen(store, &row, RefundEvent::SendRefused { send: 2, hint: "余额".into(), again_in }).await;
    assert_eq!((row.sent_at, row.doubtful_at, row.known_at), (None, Some(NOW), None));
    let row = happen(store, &row, RefundEvent::Accepted { wallet_refund_no: Some("50".into()) }).await;
    let row = happen(store, &row, RefundEvent::Undelivered { wallet_refund_no: None }).await;
    assert_eq!(sums(&place).await, (700, 0, 1));
    // Its part goes back with a failure, and is taken again when the wallet says it went out after all.
    let row = happen(store, &row, RefundEvent::GivenUp { why: "closed".into() }).await;
    assert_eq!(sums(&place).await, (0, 0, 0));
    let row = happen(store, &row, RefundEvent::PaidBack { at: secs(9), wallet_refund_no: None }).await;
    assert_eq!(row.state, RefundState::Succeeded { at: secs(9) });
    assert_eq!(sums(&place).await, (700, 700, 1));
    assert_eq!(store.load_order(order.id).await.unwrap().unwrap().paying_attempt().unwrap().refunded.get(), 700);
    assert_eq!(store.refunds_of(order.id).await.unwrap(), std::slice::from_ref(&row));
    assert_eq!(store.list_refunds(&["succeeded"], 9).await.unwrap(), [row]);
    assert_eq!(store.list_refunds(&["failed"], 9).await.unwrap(), []);
}

pub async fn refunds_at_once_never_pass_what_was_paid(place: Place) {
    let order = paid(&place.store).await;
    let part = order.amount.get() / 6 - 1;
    let racing: Vec<_> = (0..20)
        .map(|n| {
            let (store, new) = (place.store.clone(), refund(&order, &format!("R{n}"), part));
            tokio::spawn(async move { store.insert_refund(&new).await.unwrap() })
        })
        .collect();
    let mut taken = 0;
    for one in racing {
        match one.await.unwrap() {
            RefundInserted::New => taken += 1,
            RefundInserted::Exceeds { left } => assert!(left < part, "{left}"),
            RefundInserted::Exists(_) | RefundInserted::TooMany | RefundInserted::WentBack => {
                panic!("each has a number of its own, and they are few")
            }
        }
    }
    assert_eq!(taken, 6);
    assert_eq!(place.rows_of("refunds").await, 6);
    assert_eq!(sums(&place).await, (6 * part, 0, 6));
}

pub async fn one_number_at_once_is_one_refund(place: Place) {
    let order = paid(&place.store).await;
    let racing: Vec<_> = (0..10)
        .map(|_| {
            let (store, new) = (place.store.clone(), refund(&order, "R1", 700));
            tokio::spawn(async move { (new.id, store.insert_refund(&new).await.unwrap()) })
        })
        .collect();
    let mut ids = HashSet::new();
    for one in racing {
        match one.await.unwrap() {
            (id, RefundInserted::New) => ids.insert(id),
            (_, RefundInserted::Exists(stored)) => ids.insert(stored.id),
            (_, exceeds) => panic!("{exceeds:?}"),
        };
    }
    assert_eq!(ids.len(), 1);
    assert_eq!(sums(&place).await, (700, 0, 1));
}

pub async fn a_payment_has_fifty_refunds_at_most_and_an_unpaid_number_none(place: Place) {
    let store = &place.store;
    let order = paid(store).await;
    for n in 0..Refund::PER_PAYMENT_MAX {
        assert_eq!(store.insert_refund(&refund(&order, &format!("R{n}"), 1)).await.unwrap(), RefundInserted::New);
    }
    let left = order.amount.get() - 50;
    let one_more = refund(&order, "R50", 1);
    assert_eq!(store.insert_refund(&one_more).await.unwrap(), RefundInserted::TooMany);
    let too_much = refund(&order, "R52", left + 1);
    assert_eq!(store.insert_refund(&too_much).await.unwrap(), RefundInserted::Exceeds { left });
    let mut unpaid = refund(&order, "R51", 1);
    unpaid.attempt = attempt(2).no;
    assert_eq!(store.insert_refund(&unpaid).await.unwrap(), RefundInserted::Exceeds { left: 0 });
}

pub async fn sends_about_one_payment_keep_their_distance(place: Place) {
    let store = &place.store;
    let order = paid(store).await;
    let (one, two) = (refund(&order, "R1", 1), refund(&order, "R2", 1));
    let send = |refund: &Refund, at: Timestamp| {
        let RefundStep::Moved(moved) = refund.apply(sent(), at) else { panic!("it can be sent") };
        async move {
            let commit = RefundCommit { moved: &moved, spacing: Duration::from_secs(60), told: None, at };
            store.commit_refund(commit).await.unwrap()
        }
    };
    for refund in [&one, &two] {
        assert_eq!(store.insert_refund(refund).await.unwrap(), RefundInserted::New);
    }
    assert_eq!(send(&one, secs(0)).await, RefundCommitted::Done);
    assert_eq!(send(&two, secs(59)).await, RefundCommitted::TooSoon { free_at: secs(60) });
    assert_eq!(store.load_refund(two.id).await.unwrap(), Some(two.clone()), "nothing was written");
    assert_eq!(send(&one, secs(99)).await, RefundCommitted::Stale, "its version moved on");
    assert_eq!(send(&two, secs(60)).await, RefundCommitted::Done, "a stale send takes no turn");
}

pub async fn a_due_refund_is_leased_once(place: Place) {
    let store = &place.store;
    enrolled(store).await;
    let order = paid(store).await;
    let new = refund(&order, "R1", 1);
    store.insert_refund(&new).await.unwrap();
    let lease = |now| lease(store, now, 10);
    assert_eq!(lease(secs(0)).await, [new.id]);
    assert_eq!(lease(secs(1)).await, []);
    assert_eq!(lease(secs(30)).await, [new.id], "its holder died");
    store.postpone_refund(new.id, secs(40)).await.unwrap();
    assert_eq!(lease(secs(39)).await, []);
    assert_eq!(lease(secs(40)).await, [new.id]);
    happen(store, &new, RefundEvent::PaidBack { at: NOW, wallet_refund_no: None }).await;
    assert_eq!(lease(secs(4000)).await, []);
}

async fn lease(store: &Store, now: Timestamp, limit: usize) -> Vec<RefundId> {
    let due = store.due_accounts(&Lane::REFUNDS, now).await.unwrap();
    let shares: Vec<_> = due.into_iter().map(|due| Share { due, room: 8, wallet_room: 8 }).collect();
    let leased = store.lease_due_refunds(&shares, limit, now, Duration::from_secs(30)).await.unwrap();
    leased.taken.into_iter().map(|(_, refund)| refund).collect()
}

pub async fn one_accounts_many_refunds_delay_no_others(place: Place) {
    let store = &place.store;
    enrolled(store).await;
    let order = paid(store).await;
    for n in 0..Refund::PER_PAYMENT_MAX {
        store.insert_refund(&refund(&order, &format!("R{n}"), 1)).await.unwrap();
    }
    let order = paid(store).await;
    let others = Refund { account: account(store, "1900000110").await, ..refund(&order, "other", 1) };
    store.insert_refund(&others).await.unwrap();
    store.postpone_refund(others.id, secs(1)).await.unwrap();
    let first = lease(store, secs(1), 8).await;
    assert_eq!(first.len(), 8);
    assert!(first.contains(&others.id), "the newest, of another account");
}

/// The wallet tells of the same second payment again and again.
pub async fn an_anomaly_is_kept_once_and_decided_once(place: Place) {
    let store = &place.store;
    let order = inserted(store).await;
    let order = step(store, &order, OrderEvent::CloseRequested).await;
    assert_eq!(order.close_wanted_at, Some(NOW));
    assert_eq!(order.state.name(), "closed", "nothing was payable");
    place.sql("UPDATE orders SET state = 'waiting', close_wanted_at = NULL, closed_at = NULL").await;
    let order = store.load_order(order.id).await.unwrap().unwrap();
    let order = step(store, &order, started(1)).await;
    let order = step(store, &order, payment(1)).await;
    let other = || {
        let OrderEvent::PaymentConfirmed { attempt, mut payment } = payment(1) else { unreachable!() };
        payment.trade_no = prepay::domain::id::TradeNo::parse("4299").unwrap();
        OrderEvent::PaymentConfirmed { attempt, payment }
    };
    let order = step(store, &order, other()).await;
    step(store, &order, other()).await;
    let due = store.due_anomalies(0, 10).await.unwrap();
    assert_eq!(due.len(), 1, "{due:?}");
    assert_eq!(store.due_anomalies(due[0].id, 10).await.unwrap(), [], "the next page");
    assert_eq!((due[0].kind, due[0].handled), (AnomalyKind::SecondPayment, Handled::Due));
    assert!(store.handle_anomaly(due[0].id, Handled::Person).await.unwrap());
    assert!(!store.handle_anomaly(due[0].id, Handled::Kept).await.unwrap(), "decided already");
    assert_eq!(store.due_anomalies(0, 10).await.unwrap(), []);
    assert_eq!(store.anomalies(order.id).await.unwrap()[0].handled, Handled::Person);
}

/// The refund by policy has what the merchant's own refund left, and that one fails before the policy has noted what it did.
pub async fn money_is_not_noted_as_given_back_while_a_part_of_it_is_free(place: Place) {
    let store = &place.store;
    let order = paid(store).await;
    let OrderEvent::PaymentConfirmed { attempt, mut payment } = payment(1) else { unreachable!() };
    payment.trade_no = prepay::domain::id::TradeNo::parse("4299").unwrap();
    let order = step(store, &order, OrderEvent::PaymentConfirmed { attempt, payment }).await;
    let due = store.due_anomalies(0, 10).await.unwrap().remove(0);
    let (part, rest) = (refund(&order, "R1", 1), refund(&order, "SYS-1", order.amount.get() - 1));
    for refund in [&part, &rest] {
        assert_eq!(store.insert_refund(refund).await.unwrap(), RefundInserted::New);
    }
    happen(store, &part, RefundEvent::GivenUp { why: "closed".into() }).await;
    assert!(!store.note_given_back(&due, order.amount).await.unwrap(), "one fen of it is free");
    assert_eq!(store.due_anomalies(0, 10).await.unwrap(), std::slice::from_ref(&due), "it stays due");
    store.insert_refund(&refund(&order, "R2", 1)).await.unwrap();
    assert!(store.note_given_back(&due, order.amount).await.unwrap());
    assert!(!store.note_given_back(&due, order.amount).await.unwrap(), "noted already");
    assert_eq!(store.anomalies(order.id).await.unwrap()[0].handled, Handled::Refunded);
}

/// The part of a failed refund was given to another, and then the wallet paid the failed one back.
pub async fn an_over_reserved_payment_sends_nothing(place: Place) {
    let store = &place.store;
    let order = paid(store).await;
    let one = refund(&order, "R1", order.amount.get());
    store.insert_refund(&one).await.unwrap();
    let row = happen(store, &one, sent()).await;
    let failed = happen(store, &row, RefundEvent::GivenUp { why: "closed".into() }).await;
    let two = refund(&order, "R2", 1);
    assert_eq!(store.insert_refund(&two).await.unwrap(), RefundInserted::New);
    // Accepted alone is not believed: the sums stay as they are.
    let asked = happen(store, &failed, RefundEvent::Accepted { wallet_refund_no: None }).await;
    assert_eq!(sums(&place).await, (1, 0, 1));
    happen(store, &asked, RefundEvent::PaidBack { at: secs(9), wallet_refund_no: None }).await;
    assert_eq!(sums(&place).await.0, order.amount.get() + 1);
    let at = secs(9999);
    let RefundStep::Moved(moved) = two.apply(sent(), at) else { panic!("it can be sent") };
    let commit = RefundCommit { moved: &moved, spacing: Duration::from_secs(60), told: None, at };
    assert_eq!(store.commit_refund(commit).await.unwrap(), RefundCommitted::OverReserved);
    assert_eq!(store.load_refund(two.id).await.unwrap(), Some(two.clone()), "nothing was written");
    // It can still be said about it why.
    let noted = happen(store, &two, RefundEvent::Unsettled { hint: Some("too much".into()) }).await;
    assert_eq!(noted.state, RefundState::Waiting);
    // And the order stays readable, whatever its sums are.
    place.sql("UPDATE attempts SET refunded_fen = 9999999999999").await;
    assert!(store.load_order(order.id).await.unwrap().unwrap().is_refunded_in_full());
}

/// More is set aside than was paid; a person cancels what was not sent, and the rest goes on.
pub async fn a_cancelled_refund_lets_the_others_of_its_payment_go(place: Place) {
    let store = &place.store;
    let order = paid(store).await;
    let part = order.amount.get() / 2;
    let one = refund(&order, "R1", part);
    store.insert_refund(&one).await.unwrap();
    let row = happen(store, &one, sent()).await;
    let failed = happen(store, &row, RefundEvent::GivenUp { why: "closed".into() }).await;
    let (two, three) = (refund(&order, "R2", part), refund(&order, "R3", part));
    for new in [&two, &three] {
        assert_eq!(store.insert_refund(new).await.unwrap(), RefundInserted::New);
    }
    happen(store, &failed, RefundEvent::PaidBack { at: secs(9), wallet_refund_no: None }).await;
    let send = async |refund: &Refund| {
        let RefundStep::Moved(moved) = refund.apply(sent(), secs(99)) else { panic!("it can be sent") };
        let commit = RefundCommit { moved: &moved, spacing: Duration::from_secs(60), told: None, at: secs(99) };
        store.commit_refund(commit).await.unwrap()
    };
    assert_eq!(send(&three).await, RefundCommitted::OverReserved);
    let cancelled = cancel(store, &order, &two).await.expect("nobody was first");
    assert_eq!(cancelled.state, RefundState::Failed { why: "cancelled".into() });
    assert_eq!(news(&place, &order, "\"refundStatus\":\"FAIL\"").await, 1, "its merchant is told in the same commit");
    assert_eq!(send(&three).await, RefundCommitted::Done);
    assert_eq!(sums(&place).await, (2 * part, part, 2));
}

/// As `prepay refund cancel` writes it. `None`: somebody was first.
async fn cancel(store: &Store, order: &Order, refund: &Refund) -> Option<Refund> {
    let RefundStep::Moved(moved) = refund.apply(RefundEvent::Cancelled, NOW) else { panic!("it may have arrived") };
    let news = moved.news().expect("a failure is news");
    let commit = RefundCommit { moved: &moved, spacing: Duration::ZERO, told: Some((order, &news)), at: NOW };
    (store.commit_refund(commit).await.unwrap() == RefundCommitted::Done).then_some(moved.refund)
}

/// A send is recorded before it leaves, under the version that a cancel needs too.
pub async fn a_cancel_and_a_send_at_once_are_one_of_both(place: Place) {
    let order = paid(&place.store).await;
    let (mut cancelled, mut sends) = (0, 0);
    for n in 0..10 {
        let new = refund(&order, &format!("R{n}"), 1);
        place.store.insert_refund(&new).await.unwrap();
        let RefundStep::Moved(recorded) = new.apply(sent(), NOW) else { panic!("it can be sent") };
        let commit = RefundCommit { moved: &recorded, spacing: Duration::ZERO, told: None, at: NOW };
        let (was_cancelled, sent) = tokio::join!(cancel(&place.store, &order, &new), place.store.commit_refund(commit));
        let leaves = sent.unwrap() == RefundCommitted::Done;
        assert_ne!(was_cancelled.is_some(), leaves);
        cancelled += i64::from(was_cancelled.is_some());
        sends += i64::from(leaves);
    }
    assert_eq!(sums(&place).await, (sends, 0, sends));
    assert_eq!(news(&place, &order, "\"refundStatus\":\"FAIL\"").await, cancelled);
}

/// Money that was left to a person is noted as given back with the refund that a person makes; if that fails, it is a person's
/// again.
pub async fn a_refund_by_hand_notes_the_anomalies_of_its_payment(place: Place) {
    let store = &place.store;
    let order = paid(store).await;
    let (id, OrderEvent::PaymentConfirmed { payment: paid, .. }) = (order.id, payment(1)) else { unreachable!() };
    let its_own = AnomalyKind::of_payment(&paid.trade_no);
    let let_go = AnomalyKind::of_payment_let_go(&paid.trade_no);
    use AnomalyKind::{ClosedNumberPaid, Disputed, LatePayment, SecondPayment};
    use Handled::{Kept, Person, Refunded};
    for (n, (kind, detail, before, made, failed)) in [
        (SecondPayment, its_own.as_str(), Kept, Refunded, Person),
        (SecondPayment, &its_own, Person, Refunded, Person),
        (LatePayment, &its_own, Kept, Refunded, Person),
        (LatePayment, &let_go, Person, Refunded, Person),
        (ClosedNumberPaid, &let_go, Person, Refunded, Person),
        (ClosedNumberPaid, &its_own, Kept, Kept, Kept),
        // Another payment of the same number is not what this refund gives back.
        (SecondPayment, "trade_no 4299", Person, Person, Person),
        (Disputed, "paid 1 fen, ordered 2 fen", Kept, Kept, Kept),
    ]
    .into_iter()
    .enumerate()
    {
        place.sql("DELETE FROM anomalies").await;
        let (kind, before) = (kind.as_str(), before.as_str());
        place
            .sql(&format!(
                "INSERT INTO anomalies (order_id, attempt_no, kind, detail, at, handled) \
                 VALUES ('{id}', 1, '{kind}', '{detail}', 1, '{before}')"
            ))
            .await;
        let handled = async || store.anomalies(id).await.unwrap()[0].handled;
        let by_hand = |name: &str, fen| Refund { initiator: Initiator::System, ..refund(&order, name, fen) };
        let (part, rest) = (by_hand(&format!("P{n}"), 1), by_hand(&format!("R{n}"), order.amount.get() - 1));
        assert_eq!(store.insert_refund_by_hand(&part, &paid.trade_no).await.unwrap(), RefundInserted::New);
        assert_eq!(handled().await.as_str(), before, "a part of it is not all of it");
        assert_eq!(store.insert_refund_by_hand(&rest, &paid.trade_no).await.unwrap(), RefundInserted::New);
        assert_eq!(handled().await, made, "{kind} {detail}");
        for refund in [&rest, &part] {
            let row = happen(store, refund, sent()).await;
            happen(store, &row, RefundEvent::GivenUp { why: "closed".into() }).await;
            assert_eq!(handled().await, failed, "{kind} {detail}");
        }
    }
    // Nothing is noted of a refund that was not made.
    place.sql("UPDATE anomalies SET kind = 'second_payment', handled = 'kept'").await;
    place.sql(&format!("UPDATE anomalies SET detail = '{its_own}'")).await;
    let too_much = Refund { amount: Fen::new(order.amount.get()).unwrap(), ..refund(&order, "R98", 1) };
    let one = refund(&order, "R99", 1);
    assert_eq!(store.insert_refund(&one).await.unwrap(), RefundInserted::New);
    let answer = store.insert_refund_by_hand(&too_much, &paid.trade_no).await.unwrap();
    assert_eq!(answer, RefundInserted::Exceeds { left: order.amount.get() - 1 });
    assert_eq!(store.anomalies(id).await.unwrap()[0].handled, Kept);
}

/// Two people at one moment: one says that the money went back at the wallet, the other one gives it back.
pub async fn money_that_a_person_settled_as_gone_is_not_given_back_beside_it(place: Place) {
    let store = &place.store;
    let mut order = paid(store).await;
    let no = attempt(1).no;
    let OrderEvent::PaymentConfirmed { payment: paid, .. } = payment(1) else { unreachable!() };
    let (id, detail) = (order.id, AnomalyKind::of_payment(&paid.trade_no));
    let person = format!(
        "INSERT INTO anomalies (order_id, attempt_no, kind, detail, at, handled) \
         VALUES ('{id}', 1, 'late_payment', '{detail}', 1, 'person')"
    );
    let end = |stays| OrderEvent::AnomalySettled {
        attempt: no,
        kind: AnomalyKind::LatePayment,
        stays,
        note: "王: 已在商户平台退款".into(),
    };
    let (mut gone, mut made) = (0, 0);
    for round in 0..40 {
        // All of it, whose anomaly is noted as refunded at once, or a part, whose is not.
        let amount = order.amount.get() - round % 2;
        let by_hand = Refund { initiator: Initiator::System, ..refund(&order, "R1", amount) };
        let insert = || store.insert_refund_by_hand(&by_hand, &paid.trade_no);
        for statement in [
            "DELETE FROM refunds",
            "DELETE FROM anomalies",
            "UPDATE attempts SET refund_reserved_fen = 0, refund_count = 0",
        ] {
            place.sql(statement).await;
        }
        place.sql(&person).await;
        order = store.load_order(id).await.unwrap().unwrap();
        let moved = moved(&order, end(false));
        let settle = store.commit(Commit { moved: &moved, outcome: None, at: NOW });
        let (settled, inserted) = match made > gone {
            true => tokio::join!(settle, insert()),
            false => {
                let (inserted, settled) = tokio::join!(insert(), settle);
                (settled, inserted)
            }
        };
        match (settled.unwrap(), inserted.unwrap()) {
            (Committed::Done, RefundInserted::WentBack) => gone += 1,
            (Committed::Stale, RefundInserted::New) => made += 1,
            both => panic!("{both:?}"),
        }
        let set_aside = place.number("SELECT refund_reserved_fen FROM attempts").await;
        assert_eq!(set_aside, if store.load_refund(by_hand.id).await.unwrap().is_some() { amount } else { 0 });
        assert_eq!(insert().await.unwrap() == RefundInserted::WentBack, set_aside == 0);
    }
    // A refund under way keeps a person from settling beside it, whichever end it is; one that failed does not.
    place.sql("DELETE FROM refunds").await;
    place.sql("UPDATE attempts SET refund_reserved_fen = 0, refund_count = 0").await;
    place.sql("UPDATE anomalies SET handled = 'person'").await;
    let part = Refund { initiator: Initiator::System, ..refund(&order, "R2", 1) };
    assert_eq!(store.insert_refund_by_hand(&part, &paid.trade_no).await.unwrap(), RefundInserted::New);
    order = store.load_order(id).await.unwrap().unwrap();
    let settled = async |stays| {
        let moved = moved(&order, end(stays));
        store.commit(Commit { moved: &moved, outcome: None, at: NOW }).await.unwrap()
    };
    assert_eq!((settled(false).await, settled(true).await), (Committed::Stale, Committed::Stale));
    let row = happen(store, &part, sent()).await;
    assert_eq!(settled(false).await, Committed::Stale);
    happen(store, &row, RefundEvent::GivenUp { why: "closed".into() }).await;
    assert_eq!(settled(false).await, Committed::Done);
}

/// Noted as given back, or not noted yet: money that the policy could not give back is a person's.
pub async fn a_refund_by_policy_that_fails_is_a_persons(place: Place) {
    let store = &place.store;
    let order = paid(store).await;
    for (n, (handled, initiator, wanted)) in [
        ("refunded", Initiator::System, Handled::Person),
        ("due", Initiator::System, Handled::Person),
        ("kept", Initiator::System, Handled::Kept),
        ("refunded", Initiator::Merchant, Handled::Person),
        ("due", Initiator::Merchant, Handled::Due),
    ]
    .into_iter()
    .enumerate()
    {
        place.sql("DELETE FROM anomalies").await;
        let id = order.id;
        let kind = AnomalyKind::SecondPayment.as_str();
        place
            .sql(&format!(
                "INSERT INTO anomalies (order_id, attempt_no, kind, detail, at, handled) \
                 VALUES ('{id}', 1, '{kind}', 'trade_no 4299', 1, '{handled}')"
            ))
            .await;
        let mut new = refund(&order, &format!("R{n}"), 1);
        new.initiator = initiator;
        store.insert_refund(&new).await.unwrap();
        let row = happen(store, &new, sent()).await;
        happen(store, &row, RefundEvent::GivenUp { why: "closed".into() }).await;
        assert_eq!(store.anomalies(id).await.unwrap()[0].handled, wanted, "{handled}");
    }
}
