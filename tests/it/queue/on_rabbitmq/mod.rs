//! The contract on RabbitMQ, and what a real broker does to us besides.

mod exclusive;
mod faults;
mod lapin_claims;
mod network;
mod tls;

use super::{
    contract::{Rig, keeps_the_contract},
    rabbit::Rabbit,
};

/// Two processes, as far as RabbitMQ can tell.
async fn rig(orders_max: Option<u32>) -> Rig {
    let rabbit = Rabbit::shared();
    let (front, worker) = (rabbit.broker().await, rabbit.broker().await);
    if let Some(max) = orders_max {
        rabbit.limit_orders(max).await;
    }
    Rig { front, worker, orders: rabbit.queue("orders"), _broker: Box::new(rabbit) }
}

keeps_the_contract!(rig);
