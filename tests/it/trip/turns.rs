//! Whose numbers are asked about next: a wallet that answers one account badly delays no other account's questions.

use std::time::{Duration, Instant};

use simulator::{Call, Fault, FaultKind, Match};

use super::{harness::World, sides::Side};

/// Eight numbers of one account are due before another's, in a scheduler with four places; then its wallet behaves again.
async fn questions_go_on_beside(world: World, trouble: FaultKind) -> World {
    let world = world
        .restart(|settings| {
            settings.scheduler.question_concurrency = 4;
            // The breaker is no help here where nothing is answered.
            settings.worker.account_failures_to_open = 1_000;
            settings.worker.account_open_ms = 3_000;
            settings.worker.wallet_timeout_ms = 12_000;
        })
        .await;
    world.lose_all_notices();
    let fault = Fault::once(Side::Wechat.sim(), Call::Query, trouble).when(Match::any()).always();
    let fault = world.sim.faults().add(fault);
    let began = Instant::now();
    for order in 0..8 {
        world.paid_unheard(&format!("bad-{order}"), Side::Wechat).await;
    }
    let started = Instant::now();
    world.paid_unheard("good", Side::Alipay).await;
    world.until_status("good", "SUCCESS").await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "found by asking after {took:?}");
    let struck = world.sim.faults().struck(fault);
    // Once a second at most, and nobody is asked in the first five.
    assert!((1..=began.elapsed().as_secs()).contains(&struck), "{struck} questions to a wallet that is left alone");
    world.sim.faults().clear();
    world.until_status("bad-7", "SUCCESS").await;
    world
}

pub async fn a_wallet_that_hangs_delays_no_other_accounts_questions(world: World) -> World {
    questions_go_on_beside(world, FaultKind::HangBefore { ms: 30_000 }).await
}

pub async fn a_wallet_that_throttles_delays_no_other_accounts_questions(world: World) -> World {
    questions_go_on_beside(world, FaultKind::FrequencyLimited).await
}
