//! Looking after what merchants are told, from the command line.

mod on_sqlite {
    use std::time::Duration;

    use prepay::{
        domain::{event::EventState, id::MerchantId, order::Order, time::Timestamp},
        store::{Commit, Committed, DeliveryCaps, EventFilter, Tried, TryEnd},
    };

    use crate::{
        cli::deployment::{Deployment, field},
        store::{place, shop},
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn events_are_listed_and_sent_again_and_endpoints_paused() {
        let mut at = Deployment::empty().await;
        at.set_up().await;
        at.ok(&["merchant", "add", "C1", "--name", "测试商户"]).await;
        let made = at.ok(&["merchant", "key", "add", "C1", "--webhook"]).await;
        assert!(field(&made, "secret").starts_with("whsec_"), "{made}");
        assert!(at.ok(&["merchant", "key", "list", "C1"]).await.contains("webhook"));
        let endpoint = "https://merchant.example/notify";
        assert!(at.fails(&["event", "resume", "C1", endpoint]).await.contains("neither failed nor was paused"));
        assert!(at.ok(&["event", "pause", "C1", endpoint]).await.contains("https://merchant.example of C1 is paused"));
        assert!(at.ok(&["event", "endpoints"]).await.contains("https://merchant.example"));
        assert!(at.ok(&["event", "resume", "C1", endpoint]).await.contains("is resumed"));

        let store = place::connect(&format!("sqlite://{}", at.path("prepay.db").display()), 2).await;
        // One event made long ago, and one that will be made in 2096: of those until now it is none.
        let later = Timestamp::from_secs(4_000_000_000);
        let mut orders = Vec::new();
        for made_at in [Timestamp::from_secs(1_700_000_000), later] {
            let order = Order { merchant: MerchantId(1), ..shop::order() };
            store.insert_order(&order).await.unwrap();
            let order = shop::step(&store, &order, shop::started(1)).await;
            let paid = shop::moved(&order, shop::payment(1));
            assert_eq!(
                store.commit(Commit { moved: &paid, outcome: None, at: made_at }).await.unwrap(),
                Committed::Done
            );
            orders.push(order.id);
        }
        let caps = DeliveryCaps { per_endpoint: 10, per_merchant: 10 };
        for event in
            store.lease_due_events(later.plus(Duration::from_secs(1)), Duration::from_secs(9), 10, caps).await.unwrap()
        {
            let last = Tried { status: None, end: TryEnd::Not { trouble: "connect", again_at: None } };
            store.record_try(&event, last, later.plus(Duration::from_secs(1))).await.unwrap();
        }
        let parked = at.ok(&["event", "list", "--customer", "C1", "--state", "parked"]).await;
        assert!(parked.contains("PAY") && orders.iter().all(|id| parked.contains(&id.to_string())), "{parked}");
        let span = ["--from", "2020-01-01T00:00:00+08:00", "--to", "2100-01-01T00:00:00+08:00"];
        let many = [&["event", "resend", "--customer", "C1"][..], &span].concat();
        assert!(at.ok(&many).await.contains("1 events of C1 are sent again"));
        assert_eq!(store.events_of_order(orders[0]).await.unwrap()[0].state, EventState::Pending);
        assert_eq!(store.events_of_order(orders[1]).await.unwrap()[0].state, EventState::Parked);
        assert!(at.ok(&many).await.contains("0 events of C1 are sent again"));
        let id = store.list_events(EventFilter::default(), 1).await.unwrap()[0].id;
        assert!(at.ok(&["event", "resend", &id.to_string()]).await.contains("is sent again"));
        assert_eq!(store.event(id).await.unwrap().unwrap().state, EventState::Pending);
        let nobody = "0198f3a4-0000-7000-8000-000000000001";
        assert!(at.fails(&["event", "resend", nobody]).await.contains("there is no event"));
        assert_eq!(at.run(&["event", "resend"]).await.code, 2, "neither one nor many");
        assert_eq!(at.run(&["event", "resend", nobody, "--customer", "C1"]).await.code, 2, "both");
        store.close().await;
        at.assert_no_secret_printed();
        at.stop().await;
    }
}
