//! Looking after what merchants are told, from the command line.

mod on_sqlite {
    use prepay::{
        domain::{event::EventState, id::MerchantId},
        store::EventFilter,
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
        let order = prepay::domain::order::Order { merchant: MerchantId(1), ..shop::order() };
        store.insert_order(&order).await.unwrap();
        let order = shop::step(&store, &order, shop::started(1)).await;
        shop::step(&store, &order, shop::payment(1)).await;
        store.park_overdue_events(shop::secs(1), shop::secs(1), 10).await.unwrap();
        let parked = at.ok(&["event", "list", "--customer", "C1", "--state", "parked"]).await;
        assert!(parked.contains("PAY") && parked.contains(&order.id.to_string()), "{parked}");
        let span = ["--from", "2020-01-01T00:00:00+08:00", "--to", "2100-01-01T00:00:00+08:00"];
        // Made in the year 2027 of the tests: not yet.
        let many = [&["event", "resend", "--customer", "C1"][..], &span].concat();
        assert!(at.ok(&many).await.contains("events of C1 are sent again"));
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
