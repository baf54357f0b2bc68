//! A RabbitMQ of one test's own, for what would disturb the others: restarts and alarms.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use tokio::task::spawn_blocking;

use super::rabbit::Rabbit;

/// Stops its server when it goes.
pub struct Node {
    folder: TempDir,
    url: String,
    admin: String,
    ctl: PathBuf,
}

fn service(verb: &str, folder: &Path) -> std::process::Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/rabbitmq");
    Command::new(&script).arg(verb).arg(folder).output().unwrap_or_else(|error| panic!("{}: {error}", script.display()))
}

impl Node {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node");
        let up = spawn_blocking(move || service("up", &path)).await.unwrap();
        let told = String::from_utf8_lossy(&up.stdout).into_owned();
        assert!(up.status.success(), "{told}{}", String::from_utf8_lossy(&up.stderr));
        let setting = |name: &str| {
            let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_else(|| panic!("no {name} in {told}")).to_owned()
        };
        Self {
            url: setting("PREPAY_TEST_AMQP_URL"),
            admin: setting("PREPAY_TEST_AMQP_ADMIN_URL"),
            ctl: setting("PREPAY_TEST_RABBITMQCTL").into(),
            folder,
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Needs no sweeping: the node goes with everything on it.
    pub fn rabbit(&self) -> Rabbit {
        Rabbit::at(self.url.clone(), self.admin.clone())
    }

    pub async fn ctl(&self, arguments: &[&str]) {
        let mut command = Command::new(&self.ctl);
        command.args(arguments);
        let ended = spawn_blocking(move || command.output()).await.unwrap().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        service("down", &self.folder.path().join("node"));
    }
}
