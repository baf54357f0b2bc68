//! The lengths that operators import: what Kubernetes is given is what the program prints. That a broker keeps to them:
//! `trip/queue_gone.rs`, `a_full_queue_is_told_at_once_and_calls_no_wallet`.

use std::{fs, path::Path};

use prepay::{config::Settings, queue::topology::definitions};
use serde_json::Value;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// `settings.toml` out of the ConfigMap of all roles.
fn settings() -> Settings {
    let (_, block) =
        read("k8s/config.yaml").split_once("  settings.toml: |\n").map(|(a, b)| (a.len(), b.to_owned())).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines: Vec<&str> = block.lines().map(|line| line.strip_prefix("    ").unwrap_or_default()).collect();
    fs::write(file.path(), lines.join("\n")).unwrap();
    Settings::read(Some(file.path()), []).unwrap()
}

#[test]
fn kubernetes_imports_the_lengths_that_its_settings_ask_for() {
    let settings = settings();
    assert_eq!(settings.public_url().unwrap(), "https://pay.example.com", "the settings were read");
    let imported: Value = serde_json::from_str(&read("k8s/policies.json")).unwrap();
    let printed = definitions(&settings.topology_settings());
    assert_eq!(imported, printed, "print them anew: prepay queue definitions > k8s/policies.json");
}
