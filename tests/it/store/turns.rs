//! Whose questions are next: by turns over accounts, a waiting page's first, never faster than a number's pace.

use std::{num::NonZeroU32, time::Duration};

use prepay::{
    domain::{
        id::{AccountId, AttemptNo, OrderId},
        order::OrderEvent,
        time::Timestamp,
    },
    store::{DueAccount, Lane, Leased, Pace, Share, Store},
};

use super::{
    place::Place,
    shop::{NOW, account, attempt, enrolled, inserted, secs, started, step, step_at},
};

type Questions = Leased<(OrderId, AttemptNo)>;

const LEASE: Duration = Duration::from_secs(30);
/// Nothing is held back by it here.
pub const FAST: Pace = pace(10_000);

const fn pace(per_second: u32) -> Pace {
    Pace { per_second: NonZeroU32::new(per_second).unwrap() }
}

/// As a scheduler does it whose accounts all have room.
pub async fn lease_at(store: &Store, now: Timestamp, limit: usize, pace: Pace) -> Questions {
    lease_within(store, now, limit, pace, |_| 1_000).await
}

async fn lease_within(
    store: &Store,
    now: Timestamp,
    limit: usize,
    pace: Pace,
    room: impl Fn(AccountId) -> u32,
) -> Questions {
    let due = store.due_accounts(&Lane::QUESTIONS, now).await.unwrap();
    let shares: Vec<_> =
        due.into_iter().map(|due| Share { room: room(due.account), wallet_room: 1_000, due }).collect();
    store.lease_due_questions(&shares, limit, now, LEASE, pace).await.unwrap()
}

fn of(leased: &Questions, account: AccountId) -> usize {
    leased.taken.iter().filter(|(whose, _)| *whose == account).count()
}

fn after_ms(ms: u64) -> Timestamp {
    NOW.plus(Duration::from_millis(ms))
}

/// So many questions of an account, due then. Rows alone: nobody asks them.
async fn due(place: &Place, account: AccountId, many: usize, at: Timestamp) {
    let row = |id: OrderId| {
        format!(
            "('{id}', 1, 'wechat', {account}, 4, 'wxd678efh567hg6787', 'wechat_openid', 'o', '{{}}', 'https://us.example', \
             'sent', 0, 1, 0, 0, {})",
            at.ms()
        )
    };
    for so_many in (0..many).collect::<Vec<_>>().chunks(1_000) {
        let rows: Vec<_> = so_many.iter().map(|_| row(OrderId::fresh())).collect();
        place
            .sql(&format!(
                "INSERT INTO attempts (order_id, no, wallet, account_id, mini_program_id, app_id, payer_kind, payer_id, \
                 frozen_body, frozen_notify_url, state, started_at, sends, refusals, queries, next_query_at) VALUES {}",
                rows.join(",")
            ))
            .await;
    }
}

pub async fn a_backlog_of_one_account_delays_no_other(place: Place) {
    let store = &place.store;
    let (crowded, quiet) = (account(store, "1900000109").await, account(store, "1900000110").await);
    let broken = account(store, "1900000111").await;
    due(&place, crowded, 10_000, secs(0)).await;
    due(&place, quiet, 1, secs(60)).await;
    due(&place, broken, 1, secs(0)).await;
    place.sql(&format!("UPDATE channel_accounts SET wallet = 'cash' WHERE id = {broken}")).await;
    let leased = lease_at(store, secs(60), 32, FAST).await;
    assert_eq!((of(&leased, crowded), of(&leased, quiet)), (31, 1));
    assert!(leased.held, "more is due");
    assert_eq!(store.due_accounts(&Lane::QUESTIONS, secs(60)).await.unwrap()[0].since, secs(0));
    // Nor where there is a place for one alone: whoever is named first has it.
    due(&place, quiet, 1, secs(61)).await;
    let mut shares = store.due_accounts(&Lane::QUESTIONS, secs(61)).await.unwrap();
    shares.reverse();
    let shares: Vec<_> = shares.into_iter().map(|due| Share { due, room: 9, wallet_room: 9 }).collect();
    let leased = store.lease_due_questions(&shares, 1, secs(61), LEASE, FAST).await.unwrap();
    assert_eq!((of(&leased, crowded), of(&leased, quiet)), (0, 1));
}

pub async fn schedulers_together_keep_a_numbers_pace(place: Place) {
    const PER_S: u64 = 40;
    const BURST: u64 = 10;
    let another = place.another_store(4).await;
    let accounts = [account(&place.store, "1900000109").await, account(&place.store, "1900000109").await];
    for account in accounts {
        due(&place, account, 200, secs(0)).await;
    }
    let mut asked = 0;
    for ms in (0..=2_000).step_by(20) {
        let now = after_ms(ms);
        let (one, two) = tokio::join!(lease_at(&place.store, now, 32, pace(40)), lease_at(&another, now, 32, pace(40)));
        asked += u64::try_from(one.taken.len() + two.taken.len()).unwrap();
        assert!(asked <= BURST + PER_S * ms / 1_000, "{asked} questions after {ms} ms");
        assert!(one.held && two.held, "the rest may be taken soon");
    }
    // Two who choose the same questions at the same moment spend the turns of one in vain.
    assert!(asked >= BURST + PER_S * 2 / 2, "{asked}");
    let left = place.number(&format!("SELECT COUNT(*) FROM attempts WHERE next_query_at = {}", secs(0).ms())).await;
    let leased = place.number("SELECT COUNT(*) FROM attempts WHERE query_token IS NOT NULL").await;
    assert_eq!((left, u64::try_from(leased).unwrap()), (400, asked), "what is held back is not touched");

    // One alone spends every turn, and another number has its own.
    let other = account(&place.store, "1900000110").await;
    due(&place, other, 50, secs(0)).await;
    let mut alone = 0;
    for ms in (10_000..=11_000).step_by(50) {
        let leased =
            lease_within(&place.store, after_ms(ms), 32, pace(40), |whose| u32::from(whose != other) * 32).await;
        alone += leased.taken.len();
    }
    assert_eq!(alone, 50);
    assert_eq!(of(&lease_at(&place.store, secs(11), 32, pace(40)).await, other), 10);
}

pub async fn accounts_under_one_number_take_turns(place: Place) {
    let store = &place.store;
    let provider = "1230000109";
    let (crowded, quiet) = (account(store, provider).await, account(store, provider).await);
    due(&place, crowded, 1_000, secs(0)).await;
    due(&place, quiet, 3, secs(60)).await;
    let slow = pace(16);
    let leased = lease_at(store, secs(60), 32, slow).await;
    assert_eq!((of(&leased, crowded), of(&leased, quiet)), (2, 2), "four are free");
    assert_eq!(lease_at(store, secs(60), 32, slow).await, Leased { taken: vec![], held: true });
    let leased = lease_at(store, secs(61), 32, slow).await;
    assert_eq!((of(&leased, crowded), of(&leased, quiet)), (3, 1));
}

pub async fn a_number_of_many_accounts_keeps_no_other_waiting(place: Place) {
    let store = &place.store;
    for _ in 0..70 {
        due(&place, account(store, "1230000109").await, 1, secs(0)).await;
    }
    let other = account(store, "1900000110").await;
    due(&place, other, 1, secs(60)).await;
    let slow = pace(16);
    let leased = lease_at(store, secs(60), 32, slow).await;
    assert_eq!(
        (leased.taken.len(), of(&leased, other), leased.held),
        (5, 1, true),
        "four of the first number are free"
    );
    let leased = lease_at(store, secs(61), 32, slow).await;
    assert_eq!((leased.taken.len(), leased.held), (4, true), "the next four");
}

/// One wallet's accounts are more than come into a look, and those that do have more due than there are places.
pub async fn a_wallets_accounts_together_leave_the_other_wallet_places(place: Place) {
    let store = &place.store;
    for number in 0..70 {
        due(&place, account(store, &format!("19000{number:05}")).await, 2, secs(0)).await;
    }
    let other = account(store, "2014072300007148").await;
    place.sql(&format!("UPDATE channel_accounts SET wallet = 'alipay' WHERE id = {other}")).await;
    due(&place, other, 2, secs(60)).await;
    let lease = async |room: u32| {
        let shares = store.due_accounts(&Lane::QUESTIONS, secs(60)).await.unwrap().into_iter();
        let wallet_room = |due: &DueAccount| if due.account == other { 8 } else { room };
        let shares: Vec<_> = shares.map(|due| Share { wallet_room: wallet_room(&due), room: 4, due }).collect();
        let leased = store.lease_due_questions(&shares, 8, secs(60), LEASE, FAST).await.unwrap();
        (of(&leased, other), leased.taken.len(), leased.held)
    };
    assert_eq!(lease(6).await, (2, 8, true));
    assert_eq!(lease(0).await, (0, 0, true), "all of its places are taken");
}

pub async fn a_waiting_pages_question_goes_first(place: Place) {
    let store = &place.store;
    enrolled(store).await;
    let ours = attempt(1).account;
    due(&place, ours, 1_000, secs(0)).await;
    let question = |order: OrderId| vec![(ours, (order, AttemptNo::FIRST))];
    let gap = Duration::from_secs(3);
    // Not due yet, and due long since.
    for (now, again) in [(secs(1), secs(20)), (secs(40), secs(50))] {
        let order = inserted(store).await;
        let order = step(store, &order, started(1)).await;
        assert!(store.pull_query_forward(order.id, now, gap).await.unwrap());
        assert_eq!(lease_at(store, now, 1, FAST).await.taken, question(order.id));
        assert!(!store.pull_query_forward(order.id, now.plus(gap), gap).await.unwrap(), "it is being asked");
        // Asked: its next question is one among all.
        let order = store.load_order(order.id).await.unwrap().unwrap();
        step_at(store, &order, OrderEvent::Asked { attempt: AttemptNo::FIRST }, now).await;
        let next = lease_at(store, again, 1, FAST).await.taken;
        assert!(next.len() == 1 && next != question(order.id));
    }
}

pub async fn pages_that_wait_leave_every_fourth_place(place: Place) {
    let store = &place.store;
    let ours = account(store, "1900000109").await;
    due(&place, ours, 64, secs(60)).await;
    place.sql("UPDATE attempts SET query_wanted = TRUE").await;
    due(&place, ours, 32, secs(0)).await;
    let leased = async |wanted: &str| {
        let leased = "SELECT COUNT(*) FROM attempts WHERE query_token IS NOT NULL AND query_wanted =";
        place.number(&format!("{leased} {wanted}")).await
    };
    assert_eq!(lease_at(store, secs(60), 8, FAST).await.taken.len(), 8);
    assert_eq!((leased("TRUE").await, leased("FALSE").await), (6, 2));
    // A busy account is given one place at a time.
    for one in 1..=40 {
        assert_eq!(lease_at(store, after_ms(60_000 + one * 37), 1, FAST).await.taken.len(), 1);
    }
    let others = leased("FALSE").await - 2;
    assert!((4..=20).contains(&others), "{others} of 40");
    // No place is left empty for pages that are not there.
    let left = 96 - 48;
    assert_eq!(lease_at(store, secs(62), 96, FAST).await.taken.len(), left);
}

pub async fn a_clock_that_was_ahead_holds_no_number_up(place: Place) {
    let store = &place.store;
    due(&place, account(store, "1900000109").await, 60, secs(0)).await;
    let slow = pace(40);
    assert_eq!(lease_at(store, secs(3_600), 32, slow).await.taken.len(), 10);
    // It is put right, and the pace holds from then on.
    assert_eq!(lease_at(store, secs(1), 32, slow).await.taken.len(), 10);
    assert_eq!(lease_at(store, secs(1), 32, slow).await, Leased { taken: vec![], held: true });
    assert_eq!(lease_at(store, after_ms(1_025), 32, slow).await.taken.len(), 1);
}

pub async fn what_has_no_room_is_left_alone(place: Place) {
    let store = &place.store;
    let (full, free) = (account(store, "1900000109").await, account(store, "1900000110").await);
    for account in [full, free] {
        due(&place, account, 10, secs(0)).await;
    }
    let room = |whose: AccountId| if whose == full { 0 } else { 4 };
    let leased = lease_within(store, secs(0), 32, FAST, room).await;
    assert_eq!((of(&leased, full), of(&leased, free), leased.held), (0, 4, true));
    assert_eq!(place.number("SELECT COUNT(*) FROM attempts WHERE query_token IS NOT NULL").await, 4);
    let rest = lease_at(store, secs(0), 32, FAST).await;
    assert_eq!((of(&rest, full), of(&rest, free), rest.held), (10, 6, false));
}
