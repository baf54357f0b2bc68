//! One number that changes whenever anything an operator registers does, so that caches look at one row and reload seldom.

use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, Insert, PrimaryKeyTrait, QueryFilter, QueryTrait, Statement,
    sea_query::{Expr, ExprTrait, InsertStatement, UpdateStatement},
};

use super::{
    entity::registry::{Column, Entity},
    error::{Cause, StoreError},
    pool::Store,
    run::{End, Rows, retried},
};

impl Store {
    /// Changes whenever a merchant, a key, an account or a mini-program does. One row of one table.
    ///
    /// It counts what goes through the store; whoever edits these tables by hand adds one to `registry.stamp`.
    pub async fn registry_stamp(&self) -> Result<i64, StoreError> {
        let row = self.read("registry", |db| async move { Entity::find_by_id(1).one(&*db).await }).await?;
        row.map(|row| row.stamp).ok_or_else(|| StoreError::corrupt("registry", "id", 1))
    }

    fn count_change(&self) -> Statement {
        let update = Entity::update_many()
            .col_expr(Column::Stamp, Expr::col(Column::Stamp).add(1))
            .filter(Column::Id.eq(1))
            .into_query();
        self.build(&update)
    }

    /// Changes one registered row and counts it. Answers whether there was such a row.
    pub(in crate::store) async fn register_change(&self, update: UpdateStatement) -> Result<bool, StoreError> {
        self.run_if(self.build(&update), vec![(self.count_change(), Rows::One)]).await
    }

    /// Inserts a row that has a key of its own. Errors: [`StoreError::Conflict`].
    pub(in crate::store) async fn register(
        &self,
        insert: InsertStatement,
        what: &'static str,
    ) -> Result<(), StoreError> {
        let written = self.run_if(self.build(&insert), vec![(self.count_change(), Rows::One)]).await;
        match written {
            Ok(_) => Ok(()),
            Err(StoreError::Conflict { .. }) => Err(StoreError::Conflict { what }),
            Err(err) => Err(err),
        }
    }

    /// Inserts a row the database numbers. Errors: [`StoreError::Conflict`].
    pub(in crate::store) async fn register_numbered<A>(&self, row: A, what: &'static str) -> Result<u32, StoreError>
    where
        A: ActiveModelTrait + Clone + Send + Sync + 'static,
        <<A as ActiveModelTrait>::Entity as EntityTrait>::PrimaryKey: PrimaryKeyTrait<ValueType = i64>,
    {
        use sea_orm::ConnectionTrait;

        let store = self.clone();
        let inserted = self
            .finish(async move {
                let count = store.count_change();
                retried(|| async {
                    let tx = store.begin().await?;
                    let work = async {
                        let inserted = Insert::one(row.clone()).exec(&tx.tx).await?;
                        tx.tx.execute_raw(count.clone()).await?;
                        Ok::<_, sea_orm::DbErr>(End::Commit(inserted.last_insert_id))
                    };
                    let result = work.await.map_err(StoreError::from);
                    tx.end(result).await
                })
                .await
            })
            .await;
        match inserted {
            Ok(id) => {
                u32::try_from(id).map_err(|_| StoreError::Rejected { cause: Cause::new("a number beyond 32 bits") })
            }
            Err(StoreError::Conflict { .. }) => Err(StoreError::Conflict { what }),
            Err(err) => Err(err),
        }
    }
}
