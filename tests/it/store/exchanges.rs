use prepay::{
    domain::{
        id::{AppId, CommandId, OrderId},
        payer::{Payer, PayerKind},
    },
    store::{CodeHash, Exchange},
};

use super::{
    place::Place,
    shop::{NOW, secs},
};

const HASH: CodeHash = CodeHash([0xfe; 32]);

fn app() -> AppId {
    AppId::parse("wxd678efh567hg6787").unwrap()
}

pub async fn one_of_twenty_exchanges_a_code(place: Place) {
    let order = OrderId::fresh();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let store = place.store.clone();
            tokio::spawn(async move {
                let command = CommandId::fresh();
                (command, store.begin_exchange(&app(), HASH, order, command, NOW).await.unwrap())
            })
        })
        .collect();
    let (mut started, mut running) = (Vec::new(), Vec::new());
    for task in tasks {
        match task.await.unwrap() {
            (command, Exchange::Started) => started.push(command),
            (_, Exchange::Running { command, since }) => {
                assert_eq!(since, NOW);
                running.push(command);
            }
            (_, other) => panic!("{other:?}"),
        }
    }
    assert_eq!(started.len(), 1);
    assert_eq!(running, vec![started[0]; 19]);
}

pub async fn an_exchange_ends_once(place: Place) {
    let store = &place.store;
    let (order, command, other) = (OrderId::fresh(), CommandId::fresh(), CommandId::fresh());
    let begin =
        |order, command, hash| async move { store.begin_exchange(&app(), hash, order, command, NOW).await.unwrap() };
    assert_eq!(begin(order, command, HASH).await, Exchange::Started);
    assert_eq!(begin(order, command, HASH).await, Exchange::Burnt, "its own redelivery");
    assert_eq!(begin(OrderId::fresh(), other, HASH).await, Exchange::OtherOrder);

    let payer = Payer::new(PayerKind::WechatOpenid, "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o").unwrap();
    let end =
        |command, payer| async move { store.finish_exchange(&app(), HASH, command, payer, secs(1)).await.unwrap() };
    assert!(!end(other, Some(&payer)).await, "not its exchange");
    assert!(end(command, Some(&payer)).await);
    assert!(!end(command, None).await, "it ended before");
    assert_eq!(begin(order, other, HASH).await, Exchange::Known(payer));

    let second = CodeHash([1; 32]);
    assert_eq!(begin(order, command, second).await, Exchange::Started);
    assert!(store.finish_exchange(&app(), second, command, None, secs(1)).await.unwrap());
    assert_eq!(begin(order, other, second).await, Exchange::Refused);
    assert_eq!(store.sweep_exchanges(secs(1), 1).await.unwrap(), 1);
    assert_eq!(place.rows_of("code_exchanges").await, 1);
}
