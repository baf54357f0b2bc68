use prepay::{
    domain::{
        attempt::{AttemptState, Dispute, Mismatch, Retirement},
        id::{KeyId, MerchantId, OrderNo, TradeNo},
        money::{Fen, Sum},
        order::{AnomalyKind, Handled, Order, OrderEvent, OrderState},
    },
    store::{Commit, Committed, Inserted, Store},
};

use super::{
    place::Place,
    shop::{self, attempt, inserted, order, payment, secs, started, step, ticket},
};

pub async fn every_state_of_order_and_attempt_round_trips(place: Place) {
    let store = &place.store;
    open_after_refused_and_closed(store).await;
    paid_late_and_twice(store).await;
    disputed(store).await;
    other_columns(store).await;
}

async fn open_after_refused_and_closed(store: &Store) {
    let order = inserted(store).await;
    assert_eq!(store.load_order(order.id).await.unwrap(), Some(order.clone()));

    let order = step(store, &order, started(1)).await;
    let order = step(store, &order, OrderEvent::SendRefused { attempt: attempt(1).no }).await;
    let order =
        step(store, &order, OrderEvent::AttemptRetired { attempt: attempt(1).no, how: Retirement::Refused }).await;
    let order = step(store, &order, started(2)).await;
    let order =
        step(store, &order, OrderEvent::AttemptRetired { attempt: attempt(2).no, how: Retirement::Closed }).await;
    let order = step(store, &order, started(3)).await;
    let order = step(store, &order, OrderEvent::SentAgain { attempt: attempt(3).no }).await;
    let order = step(store, &order, ticket(3)).await;
    let order = step(store, &order, OrderEvent::HandedOut { attempt: attempt(3).no }).await;
    let query = OrderEvent::Asked { attempt: attempt(3).no };
    let order = step(store, &order, query).await;
    assert_eq!(order.attempts.iter().map(|a| a.state.name()).collect::<Vec<_>>(), ["refused", "closed", "open"]);
    assert_eq!(order.state, OrderState::Open);
    assert_eq!(order.attempts[2].sends, 2);
}

async fn paid_late_and_twice(store: &Store) {
    let order = inserted(store).await;
    let order = step(store, &order, started(1)).await;
    let order =
        step(store, &order, OrderEvent::AttemptRetired { attempt: attempt(1).no, how: Retirement::Closed }).await;
    let order = step(store, &order, started(2)).await;
    let order =
        step(store, &order, OrderEvent::AttemptRetired { attempt: attempt(2).no, how: Retirement::Closed }).await;
    let order = step(store, &order, OrderEvent::Closed).await;
    assert!(matches!(order.state, OrderState::Closed { .. }));
    let order = step(store, &order, payment(1)).await;
    let order = step(store, &order, payment(2)).await;
    assert_eq!(order.state, OrderState::Paid { by: attempt(1).no });
    let kinds: Vec<_> = store.anomalies(order.id).await.unwrap().iter().map(|row| row.kind).collect();
    use AnomalyKind::{ClosedNumberPaid, LatePayment, SecondPayment};
    assert_eq!(kinds, [ClosedNumberPaid, LatePayment, ClosedNumberPaid, SecondPayment]);
    let listed = |handled, limit| async move {
        let rows = store.list_anomalies(handled, limit).await.unwrap();
        rows.into_iter().map(|row| row.kind).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, 1).await, [SecondPayment]);
    let late = store.anomalies(order.id).await.unwrap()[1].clone();
    assert_eq!(listed(Some(Handled::Person), 50).await, []);
    assert!(store.handle_anomaly(late.id, Handled::Person).await.unwrap());
    assert_eq!(listed(Some(Handled::Person), 1).await, [LatePayment]);
    assert_eq!(listed(Some(Handled::Due), 2).await, [SecondPayment, ClosedNumberPaid]);
}

pub fn disputed_by(trade_no: &str, what: Mismatch) -> OrderEvent {
    let dispute = Dispute { what, payer_amount: Some(Sum::new(7).unwrap()), paid_at: Some(secs(3)) };
    OrderEvent::PaymentDisputed { attempt: attempt(1).no, trade_no: TradeNo::parse(trade_no).unwrap(), dispute }
}

pub fn other_amount() -> Mismatch {
    Mismatch::Amount { paid: Fen::new(1).unwrap(), ordered: order().amount }
}

fn other_payee() -> Mismatch {
    Mismatch::Foreign { field: "sub_mchid".into() }
}

async fn disputed(store: &Store) {
    for what in [other_amount(), other_payee(), Mismatch::ForeignWithoutAmount { field: "appid".into() }] {
        let order = inserted(store).await;
        let order = step(store, &order, started(1)).await;
        let order = step(store, &order, disputed_by("2013112011001004330000121536", what)).await;
        assert!(matches!(order.attempts[0].state, AttemptState::Disputed { .. }));
        let order = step(store, &order, let_go("x")).await;
        assert!(matches!(order.attempts[0].state, AttemptState::LetGo { .. }));
        step(store, &order, payment(1)).await;
    }
}

fn let_go(note: &str) -> OrderEvent {
    OrderEvent::DisputeLetGo { attempt: attempt(1).no, note: note.into() }
}

/// A row of a release that kept no time: readable, and not to be taken.
pub async fn a_dispute_of_an_earlier_release_is_read(place: Place) {
    let order = inserted(&place.store).await;
    let order = step(&place.store, &order, started(1)).await;
    let order = step(&place.store, &order, disputed_by("42", other_payee())).await;
    place.sql("UPDATE attempts SET paid_at = NULL, payer_amount_fen = NULL").await;
    let order = place.store.load_order(order.id).await.unwrap().unwrap();
    let no = attempt(1).no;
    assert!(order.apply(OrderEvent::DisputeTaken { attempt: no, note: "x".into() }, shop::NOW).is_err());
    step(&place.store, &order, let_go("x")).await;
    place.sql("UPDATE attempts SET dispute = 'nonsense'").await;
    let error = place.store.load_order(order.id).await.unwrap_err().to_string();
    assert!(error.contains("dispute"), "{error}");
}

/// What a person decides is one commit: the attempt, the note in the history, the anomaly, and the merchant's event.
pub async fn a_persons_decision_ends_a_dispute(place: Place) {
    let store = &place.store;
    let anomaly = async |order: &Order| {
        let all = store.anomalies(order.id).await.unwrap();
        let [row] = all.as_slice() else { panic!("{all:?}") };
        (row.kind, row.handled, row.detail.clone(), row.at)
    };
    let pay = "SELECT COUNT(*) FROM merchant_events WHERE kind = 'PAY'";
    let disputed_anew = async || {
        let order = inserted(store).await;
        let order = step(store, &order, started(1)).await;
        step(store, &order, disputed_by("42", other_payee())).await
    };
    let order = disputed_anew().await;
    assert_eq!(anomaly(&order).await.1, Handled::Person);
    let order = step(store, &order, let_go("王: 已退款")).await;
    assert_eq!(anomaly(&order).await.1, Handled::LetGo);
    let history = store.history(order.id).await.unwrap();
    let last = history.last().unwrap();
    assert_eq!((last.events.join(","), last.note.as_deref()), ("dispute_let_go".to_owned(), Some("王: 已退款")));
    assert!(history.iter().rev().skip(1).all(|row| row.note.is_none()));
    assert_eq!(place.number(pay).await, 0);
    // Another trade of the number is another dispute, with an anomaly that waits for a person again.
    let order = step(store, &order, disputed_by("43", other_amount())).await;
    let (kind, handled, detail, _) = anomaly(&order).await;
    assert_eq!((kind, handled, detail), (AnomalyKind::Disputed, Handled::Person, other_amount().to_string()));

    let order = disputed_anew().await;
    let take = OrderEvent::DisputeTaken { attempt: attempt(1).no, note: "王".into() };
    let order = step(store, &order, take).await;
    assert_eq!(order.state, OrderState::Paid { by: attempt(1).no });
    assert_eq!(anomaly(&order).await.1, Handled::Kept);
    assert_eq!(place.number(pay).await, 1);
}

/// What a person ends beside a payment is one commit, and stays with its trade: the next trade of the number is news.
pub async fn what_a_person_settled_gives_its_place_to_the_next_trade(place: Place) {
    let store = &place.store;
    let no = attempt(1).no;
    let order = inserted(store).await;
    let mut order = step(store, &order, started(1)).await;
    let closed = OrderEvent::AttemptRetired { attempt: no, how: Retirement::Closed };
    for event in [closed, started(2), payment(2), payment(1)] {
        order = step(store, &order, event).await;
    }
    let second = async || {
        let rows = store.anomalies(order.id).await.unwrap();
        rows.into_iter().find(|row| row.kind == AnomalyKind::SecondPayment).unwrap()
    };
    let settle = |stays| OrderEvent::AnomalySettled {
        attempt: no,
        kind: AnomalyKind::SecondPayment,
        stays,
        note: "王: 已退款".into(),
    };
    // It is its policy's still, so the commit is refused whole.
    let moved = shop::moved(&order, settle(false));
    let refused = store.commit(Commit { moved: &moved, outcome: None, at: shop::NOW }).await.unwrap();
    assert_eq!((refused, second().await.handled), (Committed::Stale, Handled::Due));
    assert!(store.history(order.id).await.unwrap().iter().all(|row| row.note.is_none()));
    store.handle_anomaly(second().await.id, Handled::Person).await.unwrap();
    let order_then = step(store, &order, settle(false)).await;
    assert_eq!(second().await.handled, Handled::LetGo);
    let order_then = step(store, &order_then, settle(true)).await;
    assert_eq!(second().await.handled, Handled::Kept);

    let mut other = payment(1);
    let OrderEvent::PaymentConfirmed { payment, .. } = &mut other else { panic!("a payment") };
    payment.trade_no = TradeNo::parse("4299").unwrap();
    step(store, &order_then, other).await;
    let row = second().await;
    assert_eq!((row.handled, row.detail.as_str()), (Handled::Due, "trade_no 4299"));
}

async fn other_columns(store: &Store) {
    let mut order = order();
    order.link_generation = 1;
    order.good_no = None;
    order.attach = Some("{}".into());
    order.alipay_mini_program = order.wechat_mini_program.take();
    assert_eq!(store.insert_order(&order).await.unwrap(), Inserted::New);
    let order = step(store, &order, OrderEvent::LinksRevoked { key: KeyId::parse("k2").unwrap() }).await;
    let order = step(store, &order, OrderEvent::WalletAsked).await;
    let lease = OrderEvent::LeaseTaken { command: prepay::domain::id::CommandId::fresh(), until: secs(9) };
    let order = step(store, &order, lease).await;
    let order = step(store, &order, OrderEvent::LeaseReleased { command: order.lease.unwrap().command }).await;
    assert_eq!(order.version, 4);
}

pub async fn one_number_makes_one_order(place: Place) {
    for _ in 0..5 {
        let number = order().order_no;
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let (store, mut order) = (place.store.clone(), order());
                order.order_no = number.clone();
                tokio::spawn(async move {
                    let inserted = store.insert_order(&order).await.unwrap();
                    (order.id, inserted)
                })
            })
            .collect();
        let mut made = Vec::new();
        let mut found = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                (id, Inserted::New) => made.push(id),
                (_, Inserted::Exists(order)) => found.push(order.id),
            }
        }
        assert_eq!(made.len(), 1);
        assert_eq!(found, vec![made[0]; 9]);
    }
}

pub async fn identifiers_compare_byte_for_byte(place: Place) {
    let store = &place.store;
    let named = |no: &str| {
        let mut order = order();
        order.order_no = OrderNo::parse(no).unwrap();
        order
    };
    let (mixed, lower) = (named("aB"), named("ab"));
    assert_eq!(store.insert_order(&mixed).await.unwrap(), Inserted::New);
    assert_eq!(store.load_order_by_no(MerchantId(7), &lower.order_no).await.unwrap(), None);
    assert_eq!(store.insert_order(&lower).await.unwrap(), Inserted::New);
    let found = store.load_order_by_no(MerchantId(7), &mixed.order_no).await.unwrap().unwrap();
    assert_eq!(found.id, mixed.id);
    assert_eq!(store.load_order_by_no(MerchantId(8), &mixed.order_no).await.unwrap(), None, "another merchant's");
}

pub async fn texts_of_four_byte_characters_round_trip(place: Place) {
    let mut order = order();
    order.good_name = "𠮷野家 🍚\u{0}茶".replace('\u{0}', "");
    order.attach = Some("'\"\\%_\u{10FFFF}\r\n".into());
    assert_eq!(place.store.insert_order(&order).await.unwrap(), Inserted::New);
    assert_eq!(place.store.load_order(order.id).await.unwrap(), Some(order));
}

pub async fn the_history_has_no_gaps(place: Place) {
    let store = &place.store;
    let order = inserted(store).await;
    let order = step(store, &order, started(1)).await;
    let two = shop::moved(&order, ticket(1)).then(OrderEvent::HandedOut { attempt: attempt(1).no }, shop::NOW).unwrap();
    let commit = prepay::store::Commit { moved: &two, outcome: None, at: secs(1) };
    assert_eq!(store.commit(commit).await.unwrap(), prepay::store::Committed::Done);
    let order = store.load_order(order.id).await.unwrap().unwrap();
    assert_eq!(order, two.order);
    step(store, &order, payment(1)).await;

    let history = store.history(order.id).await.unwrap();
    assert_eq!(history.iter().map(|row| row.version).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(history[1].events, ["ticket_issued", "handed_out"]);
    assert_eq!(history.iter().map(|row| row.state.as_str()).collect::<Vec<_>>(), ["open", "open", "paid"]);
    assert_eq!(history[0].command, order.lease.map(|lease| lease.command));
    assert_eq!(history[1].at, secs(1));
}
