//! What `prepay queue depth` and `prepay doctor` say of a RabbitMQ that is there.

mod on_rabbitmq {
    use prepay::domain::{id::AccountId, wallet::Wallet};
    use prepay::queue::{Broker, Envelope, NoticeMessage, Published};
    use reqwest::Method;
    use serde_json::{Value, json};
    use tokio::time::Duration;

    use crate::{
        cli::deployment::{Deployment, Done},
        queue::{node::Node, rabbit::Rabbit},
        trip::harness::until,
    };

    /// A deployment without anything but a broker; the database is none of these tests' matter.
    async fn at(rabbit: &Rabbit) -> Deployment {
        let mut at = Deployment::empty().await;
        at.set("PREPAY_BROKER__URL", rabbit.url());
        at.set("PREPAY_BROKER__PREFIX", &rabbit.prefix);
        at
    }

    /// The doctor's lines about the broker.
    async fn lines(at: &Deployment, args: &[&str], input: &str) -> Vec<String> {
        let Done { out, err, .. } = at.run_with_input(&[&["doctor", "--offline"], args].concat(), input).await;
        assert_eq!(err, "", "{out}");
        let about = |line: &&str| ["broker", "queue", "length of"].iter().any(|what| line[7..].starts_with(what));
        out.lines().filter(|line| line.len() > 7).filter(about).map(str::to_owned).collect()
    }

    fn line<'a>(lines: &'a [String], about: &str) -> &'a str {
        lines.iter().find(|line| line[7..].starts_with(about)).unwrap_or_else(|| panic!("no {about}: {lines:#?}"))
    }

    async fn queues(rabbit: &Rabbit) -> Vec<String> {
        let all = rabbit.ask(Method::GET, "queues/%2f?columns=name", None).await;
        let names = all.as_array().unwrap().iter().filter_map(|queue| queue["name"].as_str());
        names.filter(|name| name.starts_with(&rabbit.prefix)).map(str::to_owned).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn queues_that_are_missing_are_named_and_not_made() {
        let rabbit = Rabbit::shared();
        let at = at(&rabbit).await;
        let depth = at.run(&["queue", "depth"]).await;
        assert_eq!(depth.code, 1, "{depth:?}");
        assert!(depth.err.contains("not there: ") && depth.err.contains(&rabbit.queue("orders")), "{depth:?}");
        assert_eq!(depth.err.lines().count(), 1, "{depth:?}");
        let lines = lines(&at, &[], "").await;
        assert_eq!(line(&lines, "broker"), "ok     broker: connected, and it takes messages");
        for name in ["orders", "notifications", "parked"] {
            let line = line(&lines, &format!("queue {}", rabbit.queue(name)));
            assert!(line.starts_with("hint") && line.contains("not there yet"), "{line}");
        }
        assert_eq!(queues(&rabbit).await, Vec::<String>::new(), "a look makes no queue");
        at.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn queues_that_stand_are_counted() {
        let rabbit = Rabbit::shared();
        let at = at(&rabbit).await;
        let broker = rabbit.broker().await;
        for _ in 0..3 {
            let notice = NoticeMessage { account: AccountId(1), wallet: Wallet::Alipay, raw: "{}".to_owned() };
            let published = broker.publish(&Envelope::notice(notice), Duration::from_secs(10)).await;
            assert_eq!(published, Published::Kept);
        }
        let _orders = broker.consume(prepay::queue::QueueName::Orders, 1).await;
        let row = |out: &str, name: &str| -> Vec<String> {
            let line = out.lines().find(|line| line.starts_with(&format!("{} ", rabbit.queue(name))));
            line.unwrap_or_else(|| panic!("no {name}: {out}")).split_whitespace().skip(1).map(str::to_owned).collect()
        };
        until("the numbers are right", || async {
            let out = at.ok(&["queue", "depth"]).await;
            row(&out, "orders") == ["0", "1"]
                && row(&out, "notifications") == ["3", "0"]
                && row(&out, "parked") == ["0", "0"]
        })
        .await;
        let lines = lines(&at, &[], "").await;
        let notifications = line(&lines, &format!("queue {}", rabbit.queue("notifications")));
        assert!(
            notifications.starts_with("ok") && notifications.ends_with("3 waiting, 0 consumers"),
            "{notifications}"
        );
        broker.close().await;
        at.stop().await;
    }

    /// As an older version might have left it: the roles are refused with 406 for as long as it stands.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_queue_with_other_arguments_is_named_with_the_argument() {
        let rabbit = Rabbit::shared();
        let at = at(&rabbit).await;
        let queue = rabbit.queue("orders");
        let body = json!({ "durable": true, "arguments": { "x-queue-type": "quorum", "x-delivery-limit": 5 } });
        rabbit.ask(Method::PUT, &format!("queues/%2f/{queue}"), Some(body)).await;
        let lines = lines(&at, &[], "").await;
        let line = line(&lines, &format!("queue {queue}"));
        assert!(line.starts_with("failed") && line.contains("inequivalent arg"), "{line}");
        assert!(line.contains(&format!("rabbitmqctl delete_queue {queue}")), "{line}");
        let depth = at.run(&["queue", "depth"]).await;
        assert!(depth.out.contains(&queue) && !depth.err.contains(&queue), "it can be counted: {depth:?}");
        at.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_lengths_in_force_are_compared_with_the_settings() {
        let rabbit = Rabbit::shared();
        let mut at = at(&rabbit).await;
        let broker = rabbit.broker().await;
        let untold = lines(&at, &[], "").await;
        assert!(line(&untold, "queue lengths").starts_with("hint"), "{untold:#?}");

        let orders = format!("length of {}", rabbit.queue("orders"));
        let seen = lines(&at, &["--policies-file", "-"], &listed(&rabbit).await).await;
        assert!(line(&seen, &orders).starts_with("lacks"), "{seen:#?}");
        assert!(line(&seen, &orders).contains("no max-length is in force: `prepay queue definitions"), "{seen:#?}");

        let printed: Value = serde_json::from_str(&at.ok(&["queue", "definitions"]).await).unwrap();
        rabbit.ask(Method::POST, "definitions", Some(printed)).await;
        until("the printed policies are in force", || async {
            let seen = lines(&at, &["--policies-file", "-"], &listed(&rabbit).await).await;
            ["orders", "notifications", "parked"]
                .iter()
                .all(|name| line(&seen, &format!("length of {}", rabbit.queue(name))).starts_with("ok"))
        })
        .await;

        at.set("PREPAY_BROKER__DRAIN_PER_S", "999");
        at.file("policies.json", &listed(&rabbit).await);
        let seen = lines(&at, &["--policies-file", "policies.json"], "").await;
        assert!(line(&seen, &orders).contains("max-length 2400 is in force, the settings ask for 7992"), "{seen:#?}");
        let seen = lines(&at, &["--policies-file", "-"], "Error: unable to connect").await;
        assert!(line(&seen, "queue lengths").starts_with("failed"), "{seen:#?}");
        broker.close().await;
        at.stop().await;
    }

    /// What the printed call is answered.
    async fn listed(rabbit: &Rabbit) -> String {
        rabbit.ask(Method::GET, "queues/%2F?columns=name,effective_policy_definition", None).await.to_string()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_may_not_come_in_is_told_so_without_the_password() {
        let rabbit = Rabbit::shared();
        let mut at = at(&rabbit).await;
        let host = rabbit.url().split('@').next_back().unwrap();
        at.set("PREPAY_BROKER__URL", format!("amqp://nobody:hunter2@{host}"));
        let lines = lines(&at, &[], "").await;
        let line = line(&lines, "broker");
        assert!(line.starts_with("failed") && line.contains("ACCESS_REFUSED"), "{line}");
        assert!(at.fails(&["queue", "depth"]).await.contains("ACCESS_REFUSED"));
        assert!(!at.printed().contains("hunter2"));
        at.stop().await;
    }

    /// An alarm is silent: whoever has not published hears nothing of it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_broker_with_an_alarm_is_told_from_a_good_one() {
        let node = Node::start().await;
        let at = at(&node.rabbit()).await;
        node.ctl(&["set_vm_memory_high_watermark", "0.0000001"]).await;
        until("the alarm is up", || async {
            let lines = lines(&at, &[], "").await;
            line(&lines, "broker").starts_with("failed") && line(&lines, "broker").contains("takes no message")
        })
        .await;
        node.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
        until("the alarm is over", || async { line(&lines(&at, &[], "").await, "broker").starts_with("ok") }).await;
        at.stop().await;
    }
}
