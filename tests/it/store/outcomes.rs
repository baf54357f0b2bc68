use prepay::{
    domain::{
        id::{AppId, CommandId, OrderId},
        outcome::{Outcome, PayParams, Refusal},
    },
    store::{Commit, Committed},
};

use super::{
    place::Place,
    shop::{NOW, inserted, moved, secs, started},
};

fn ready() -> Outcome {
    Outcome::Ready {
        params: PayParams::Wechat {
            app_id: AppId::parse("wxd678efh567hg6787").unwrap(),
            time_stamp: "1800000000".into(),
            nonce_str: "5K8264ILTKCH16CQ2502SI8ZNMTM67VS".into(),
            package: "prepay_id=wx201410272009395522657a690389285100".into(),
            sign_type: "RSA".into(),
            pay_sign: "x".repeat(344),
        },
    }
}

pub async fn the_first_outcome_stays(place: Place) {
    let store = &place.store;
    let (command, order) = (CommandId::fresh(), OrderId::fresh());
    assert_eq!(store.outcome(command).await.unwrap(), None);
    assert_eq!(store.put_outcome(command, order, &ready(), NOW).await.unwrap(), ready());
    assert_eq!(store.put_outcome(command, order, &Outcome::Expired, secs(1)).await.unwrap(), ready());
    assert_eq!(store.outcome(command).await.unwrap(), Some(ready()));

    // The same inside a commit: a command that was settled is not settled twice, and nothing of the change is written.
    let order = inserted(store).await;
    let change = moved(&order, started(1));
    let commit = Commit { moved: &change, outcome: Some((command, &Outcome::Processing)), at: NOW };
    assert_eq!(store.commit(commit).await.unwrap(), Committed::Stale);
    assert_eq!(store.load_order(order.id).await.unwrap().unwrap(), order);
    assert_eq!(store.outcome(command).await.unwrap(), Some(ready()));
}

pub async fn many_outcomes_in_one_look(place: Place) {
    let store = &place.store;
    let all = [
        ready(),
        Outcome::Ready { params: PayParams::Alipay { trade_no: "2013112011001004330000121536".into() } },
        Outcome::refused(Refusal::LoginExpired),
        Outcome::Processing,
        Outcome::Busy { retry_after_s: 3 },
        Outcome::Expired,
    ];
    let mut put = Vec::new();
    for outcome in all {
        let command = CommandId::fresh();
        store.put_outcome(command, OrderId::fresh(), &outcome, NOW).await.unwrap();
        put.push((command, outcome));
    }
    // More than one statement holds, most of them not there.
    let mut asked: Vec<_> = (0..1200).map(|_| CommandId::fresh()).collect();
    asked.extend(put.iter().map(|(command, _)| *command));
    let mut found = store.outcomes(&asked).await.unwrap();
    found.sort_by_key(|(command, _)| *command);
    put.sort_by_key(|(command, _)| *command);
    assert_eq!(found, put);
    assert_eq!(store.outcomes(&[]).await.unwrap(), []);
}

pub async fn a_sweep_takes_the_oldest(place: Place) {
    let store = &place.store;
    let mut commands = Vec::new();
    for age in 0..10 {
        let command = CommandId::fresh();
        store.put_outcome(command, OrderId::fresh(), &Outcome::Processing, secs(age)).await.unwrap();
        commands.push(command);
    }
    assert_eq!(store.sweep_outcomes(secs(6), 4).await.unwrap(), 4);
    assert_eq!(store.sweep_outcomes(secs(6), 4).await.unwrap(), 2);
    assert_eq!(store.sweep_outcomes(secs(6), 4).await.unwrap(), 0);
    assert_eq!(store.outcomes(&commands).await.unwrap().len(), 4);
    assert_eq!(store.outcome(commands[5]).await.unwrap(), None);
    assert!(store.outcome(commands[6]).await.unwrap().is_some());
}
