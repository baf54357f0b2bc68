//! Endpoints that fail: paused, tried by one event at a time, and resumed.

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Value,
    sea_query::{Expr, ExprTrait},
};

use super::{
    deliveries::{DueEvent, EARLIER, EndpointId},
    entity::{endpoints, merchant_events},
    error::StoreError,
    merchant_events::endpoint,
    pool::Store,
    rows::{self, In},
    run::Rows,
};
use crate::domain::{
    event::{EventState, origin},
    id::MerchantId,
    time::Timestamp,
};

/// How an endpoint is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRow {
    pub merchant: MerchantId,
    /// Scheme, host and port.
    pub origin: String,
    /// Tries in a row that were not accepted.
    pub failures: u32,
    pub paused: bool,
    /// Paused by a person, until a person resumes it.
    pub by_hand: bool,
    /// When one event tries it again.
    pub probe_at: Option<Timestamp>,
    pub changed_at: Timestamp,
}

/// When an endpoint is paused, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PauseRule {
    /// So many failures in a row pause it.
    pub after_failures: u32,
    /// The first pause; each further failure doubles it.
    pub first: Duration,
    pub most: Duration,
}

impl PauseRule {
    /// How long it is left alone after so many failures in a row; `None`: it is not.
    pub fn pause(&self, failures: u32) -> Option<Duration> {
        let beyond = failures.checked_sub(self.after_failures)?;
        let doubled = self.first.saturating_mul(1 << Ord::min(beyond, 20));
        Some(Ord::min(doubled, self.most))
    }
}

/// What may try a paused endpoint again: held, due, nobody is sending it, and nothing earlier of its order stands before it.
fn can_probe() -> String {
    format!(
        "e.state = 'held' AND e.next_at <= ? AND (e.lease_until IS NULL OR e.lease_until <= ?) AND NOT EXISTS ({EARLIER})"
    )
}

impl Store {
    /// Its last try was not accepted. Answers whether it is paused by now.
    ///
    /// Only a probe makes a pause longer: the tries that were under way when it began say nothing new.
    pub async fn endpoint_failed(&self, event: &DueEvent, rule: PauseRule, now: Timestamp) -> Result<bool, StoreError> {
        use endpoints::{Column, Entity};

        let id = &event.endpoint.0;
        self.know_endpoint(event.merchant, &event.url, now).await?;
        // Tries that fail at the same moment count up to the first pause, not past it.
        let counts = match event.probe {
            true => Condition::all(),
            false => Condition::all().add(Column::Paused.eq(false)).add(Column::Failures.lt(rule.after_failures)),
        };
        let count = Entity::update_many()
            .set(endpoints::ActiveModel { changed_at: Set(now.ms()), ..Default::default() })
            .col_expr(Column::Failures, Expr::col(Column::Failures).add(1))
            .filter(Column::Id.eq(id))
            .filter(counts)
            .into_query();
        self.execute(self.build(&count)).await?;
        let select = Entity::find_by_id(id);
        let row = self.read("endpoints", |db| async move { select.one(&*db).await }).await?;
        let Some(row) = row else { return Ok(false) };
        let pause = rule.pause(u32::try_from(row.failures).unwrap_or(u32::MAX));
        let Some(pause) = pause.filter(|_| event.probe || !row.paused) else { return Ok(row.paused) };
        let mut update = Entity::update_many()
            .set(endpoints::ActiveModel {
                paused: Set(true),
                probe_at: Set(Some(now.plus(pause).ms())),
                probed_until: Set(None),
                ..Default::default()
            })
            .filter(Column::Id.eq(id))
            .filter(Column::ByHand.eq(false))
            // Whoever got through meanwhile is right.
            .filter(Column::Failures.gte(row.failures));
        if !event.probe {
            update = update.filter(Column::Paused.eq(false));
        }
        Ok(self.execute(self.build(&update.into_query())).await? > 0 || row.paused)
    }

    /// Its last try was accepted. Costs a read when it never failed.
    pub async fn endpoint_answered(&self, endpoint: &EndpointId, now: Timestamp) -> Result<(), StoreError> {
        use endpoints::{Column, Entity};

        let select = Entity::find_by_id(&endpoint.0).filter(Column::Failures.gt(0));
        if self.read("endpoints", |db| async move { select.one(&*db).await }).await?.is_none() {
            return Ok(());
        }
        let update = Entity::update_many()
            .set(endpoints::ActiveModel {
                failures: Set(0),
                paused: Set(false),
                probe_at: Set(None),
                probed_until: Set(None),
                changed_at: Set(now.ms()),
                ..Default::default()
            })
            .filter(Column::Id.eq(&endpoint.0))
            .filter(Column::ByHand.eq(false))
            .into_query();
        self.execute(self.build(&update)).await?;
        Ok(())
    }

    /// For each paused endpoint whose time has come, at most `limit`, the event that waited longest: nobody else gets it, nor
    /// another of its endpoint, for `lease_for`.
    ///
    /// First the first endpoint of every merchant, then the second of every merchant; at most `per_merchant` of one are tried
    /// at once.
    pub async fn lease_probes(
        &self,
        now: Timestamp,
        lease_for: Duration,
        limit: u64,
        per_merchant: u32,
    ) -> Result<Vec<DueEvent>, StoreError> {
        use endpoints::{Column, Entity};

        if limit == 0 {
            return Ok(Vec::new());
        }
        // One of whose events none can go now would stand before the others for ever.
        let can_probe = can_probe();
        let sql = format!(
            "SELECT id FROM ( \
               SELECT p.id, p.probe_at, CASE WHEN p.probed_until > ? THEN 1 ELSE 0 END AS under_way, ROW_NUMBER() OVER ( \
                 PARTITION BY p.merchant_id ORDER BY CASE WHEN p.probed_until > ? THEN 0 ELSE 1 END, p.probe_at, p.id) AS place \
               FROM endpoints p WHERE p.paused AND (p.probed_until > ? OR (p.probe_at <= ? \
                 AND EXISTS (SELECT 1 FROM merchant_events e WHERE e.endpoint = p.id AND {can_probe}))) \
             ) fair WHERE under_way = 0 AND place <= ? ORDER BY place, probe_at, id LIMIT ?"
        );
        let at = Value::from(now.ms());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut values = vec![at.clone(); 7];
        values.extend([i64::from(per_merchant).into(), limit.into()]);
        let mut probes = Vec::new();
        for endpoint in self.event_ids(&sql, values).await? {
            let sql = format!(
                "SELECT e.id FROM merchant_events e WHERE e.endpoint = ? AND {can_probe} ORDER BY e.next_at LIMIT 1"
            );
            let values = [endpoint.clone().into(), at.clone(), at.clone(), at.clone()];
            let ids = self.event_ids(&sql, values).await?;
            if ids.is_empty() {
                continue;
            }
            let until = Some(now.plus(lease_for).ms());
            let claim = Entity::update_many()
                .set(endpoints::ActiveModel { probe_at: Set(until), probed_until: Set(until), ..Default::default() })
                .filter(Column::Id.eq(endpoint))
                .filter(Column::Paused.eq(true))
                .filter(Column::ProbeAt.lte(now.ms()))
                .into_query();
            if self.execute(self.build(&claim)).await? > 0 {
                probes.extend(self.lease_events(&ids, EventState::Held, now, lease_for).await?);
            }
        }
        Ok(probes)
    }

    /// Pauses a merchant's endpoint until [`Store::resume_endpoint`]: its events wait and are not given up.
    pub async fn pause_endpoint(&self, merchant: MerchantId, url: &str, now: Timestamp) -> Result<(), StoreError> {
        self.know_endpoint(merchant, url, now).await?;
        let paused = endpoints::ActiveModel {
            paused: Set(true),
            by_hand: Set(true),
            probe_at: Set(None),
            changed_at: Set(now.ms()),
            ..Default::default()
        };
        let update = endpoints::Entity::update_many()
            .set(paused)
            .filter(endpoints::Column::Id.eq(endpoint(merchant, url)))
            .into_query();
        self.execute(self.build(&update)).await?;
        Ok(())
    }

    /// Resumes an endpoint, whoever paused it. What waited for it begins its schedule anew: it is not the events' fault that
    /// they were not tried. Answers whether there was anything to resume.
    pub async fn resume_endpoint(&self, merchant: MerchantId, url: &str, now: Timestamp) -> Result<bool, StoreError> {
        use merchant_events::{Column, Entity};

        let resumed = endpoints::ActiveModel {
            failures: Set(0),
            paused: Set(false),
            by_hand: Set(false),
            probe_at: Set(None),
            changed_at: Set(now.ms()),
            ..Default::default()
        };
        let id = endpoint(merchant, url);
        let resume = endpoints::Entity::update_many().set(resumed).filter(endpoints::Column::Id.eq(&id)).into_query();
        let anew = Entity::update_many()
            .set(merchant_events::ActiveModel { scheduled_from: Set(now.ms()), ..Default::default() })
            .filter(Column::Endpoint.eq(&id))
            .filter(Column::State.is_in([EventState::Pending, EventState::Held].map(EventState::as_str)))
            .into_query();
        self.run_if(self.build(&resume), vec![(self.build(&anew), Rows::Any)]).await
    }

    /// Endpoints that failed or were paused, by merchant.
    pub async fn list_endpoints(&self, limit: u64) -> Result<Vec<EndpointRow>, StoreError> {
        let select = endpoints::Entity::find()
            .order_by_asc(endpoints::Column::MerchantId)
            .order_by_asc(endpoints::Column::Id)
            .limit(limit);
        let rows = self.read("endpoints", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(endpoint_row).collect()
    }

    pub(in crate::store) async fn know_endpoint(
        &self,
        merchant: MerchantId,
        url: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let row = endpoints::ActiveModel {
            id: Set(endpoint(merchant, url)),
            merchant_id: Set(i64::from(merchant.0)),
            origin: Set(origin(url)),
            failures: Set(0),
            paused: Set(false),
            by_hand: Set(false),
            probe_at: Set(None),
            changed_at: Set(now.ms()),
            probed_until: Set(None),
        };
        self.insert_if_absent(endpoints::Entity::insert(row).into_query()).await?;
        Ok(())
    }
}

fn endpoint_row(row: endpoints::Model) -> Result<EndpointRow, StoreError> {
    let id = row.id;
    let read = || {
        Ok(EndpointRow {
            merchant: rows::merchant_id(row.merchant_id)?,
            origin: row.origin,
            failures: u32::try_from(row.failures).at("failures")?,
            paused: row.paused,
            by_hand: row.by_hand,
            probe_at: row.probe_at.map(Timestamp::from_ms),
            changed_at: Timestamp::from_ms(row.changed_at),
        })
    };
    read().map_err(|column: rows::Column| column.of("endpoints", id))
}
