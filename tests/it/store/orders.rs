use prepay::{
    domain::{
        attempt::{AttemptState, Retirement},
        id::{KeyId, MerchantId, OrderNo, TradeNo},
        order::{AnomalyKind, OrderEvent, OrderState},
    },
    store::{Inserted, Store},
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
    assert_eq!(store.list_anomalies(1).await.unwrap()[0].kind, SecondPayment);
}

async fn disputed(store: &Store) {
    let order = inserted(store).await;
    let order = step(store, &order, started(1)).await;
    let event = OrderEvent::PaymentDisputed {
        attempt: attempt(1).no,
        trade_no: TradeNo::parse("2013112011001004330000121536").unwrap(),
        what: "amount 1 fen".into(),
    };
    let order = step(store, &order, event).await;
    assert!(matches!(order.attempts[0].state, AttemptState::Disputed { .. }));
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
