//! Users of the database and of the broker, with passwords that nobody else has.

use reqwest::{Method, Url};
use serde_json::json;

use crate::{
    queue::rabbit::Rabbit,
    store::place::{On, Place},
};

/// Between fronts and workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Road {
    Embedded,
    Rabbitmq,
}

/// Where the deployment finds its servers, and the passwords in those addresses.
#[derive(Clone)]
pub struct Servers {
    pub database_url: String,
    pub broker_url: String,
    pub broker_prefix: String,
    pub passwords: Vec<String>,
}

/// The users themselves: they go when the test has ended, however it did.
pub struct Users {
    pub servers: Servers,
    database: Option<String>,
    broker: Option<(Rabbit, String)>,
}

impl Users {
    pub async fn of(place: &Place, road: Road) -> Self {
        let mut passwords = Vec::new();
        let mut user_at = |url: &str| {
            let [name, password] = ["u", "pw"].map(|kind| format!("{kind}{}", uuid::Uuid::now_v7().simple()));
            let mut url = Url::parse(url).unwrap();
            url.set_username(&name).unwrap();
            url.set_password(Some(&password)).unwrap();
            passwords.push(password.clone());
            (url.to_string(), name, password)
        };
        let (database_url, database) = if place.on == On::Sqlite {
            (place.url.clone(), None)
        } else {
            let (url, name, password) = user_at(&place.url);
            let owned = Url::parse(&place.url).unwrap().path().trim_start_matches('/').to_owned();
            for sql in if place.on == On::Postgres {
                [
                    format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'"),
                    format!("ALTER DATABASE {owned} OWNER TO {name}"),
                ]
            } else {
                [
                    format!("CREATE USER {name} IDENTIFIED BY '{password}'"),
                    format!("GRANT ALL PRIVILEGES ON {owned}.* TO {name}"),
                ]
            } {
                place.sql(&sql).await;
            }
            (url, Some(name))
        };
        let (broker_url, broker_prefix, broker) = if road == Road::Embedded {
            ("embedded".to_owned(), "prepay".to_owned(), None)
        } else {
            let rabbit = Rabbit::shared();
            let (url, name, password) = user_at(rabbit.url());
            rabbit.ask(Method::PUT, &format!("users/{name}"), Some(json!({ "password": password, "tags": "" }))).await;
            let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
            rabbit.ask(Method::PUT, &format!("permissions/%2f/{name}"), Some(all)).await;
            (url, rabbit.prefix.clone(), Some((rabbit, name)))
        };
        let servers = Servers { database_url, broker_url, broker_prefix, passwords };
        Self { servers, database, broker }
    }

    pub async fn forget(self, place: &Place) {
        if let Some(name) = self.database {
            if place.on == On::Postgres {
                place.sql(&format!("REASSIGN OWNED BY {name} TO CURRENT_USER")).await;
                place.sql(&format!("DROP ROLE {name}")).await;
            } else {
                place.sql(&format!("DROP USER {name}")).await;
            }
        }
        if let Some((rabbit, name)) = self.broker {
            rabbit.ask(Method::DELETE, &format!("users/{name}"), None).await;
        }
    }
}
