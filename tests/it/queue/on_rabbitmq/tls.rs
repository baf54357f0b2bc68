//! `amqps`: trusted with the right authority, refused without.

use std::{process::Command, time::Duration};

use prepay::queue::{
    Broker, Health,
    rabbitmq::{BrokerUrl, RabbitBroker, RabbitSettings},
};
use tokio::time::timeout;

use crate::queue::{
    command, kept,
    rabbit::{Rabbit, setting},
};
use crate::trip::harness::free_addr;

/// Makes an authority and a certificate for `localhost` inside the node, and listens with it. The authority goes to a file.
const LISTEN: &str = r#"
    Key = {key, {rsa, 2048, 65537}}, Digest = {digest, sha256},
    Name = {extensions, [{'Extension', {2,5,29,17}, false, [{dNSName, "localhost"}]}]},
    Chain = #{root => [Key, Digest], intermediates => [], peer => [Key, Digest, Name]},
    #{server_config := Server, client_config := Client} =
        public_key:pkix_test_data(#{server_chain => Chain, client_chain => Chain}),
    Trusted = [{'Certificate', Der, not_encrypted} || Der <- proplists:get_value(cacerts, Client)],
    ok = file:write_file("@FILE@", public_key:pem_encode(Trusted)),
    Options = [{cert, proplists:get_value(cert, Server)}, {key, proplists:get_value(key, Server)}],
    rabbit_networking:start_ssl_listener({"127.0.0.1", @PORT@, inet}, Options, 2).
"#;

#[tokio::test]
async fn amqps_is_trusted_with_its_authority_and_refused_without() {
    let rabbit = Rabbit::shared();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    let port = free_addr().port();
    let program = LISTEN.replace("@FILE@", ca_file.to_str().unwrap()).replace("@PORT@", &port.to_string());
    let ran = Command::new(setting("PREPAY_TEST_RABBITMQCTL")).args(["eval", &program]).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert!(ca_file.exists(), "{ran:?}");

    let (head, tail) = rabbit.url().split_once('@').unwrap();
    let login = head.split_once("://").unwrap().1;
    let vhost = tail.split_once('/').unwrap().1;
    let url = BrokerUrl::parse(&format!("amqps://{login}@localhost:{port}/{vhost}")).unwrap();
    let settings = RabbitSettings { url, ..rabbit.settings() };

    let stranger = RabbitBroker::start(settings.clone());
    let broker = rabbit.broker_with(RabbitSettings { ca_file: Some(ca_file), ..settings }).await;
    kept(&*broker, &command()).await;

    let mut health = stranger.health_changes();
    let connected = timeout(Duration::from_secs(1), health.wait_for(|health| *health == Health::Ready));
    assert!(connected.await.is_err(), "a certificate of nobody was trusted");
}
