//! The house: imports point at the domain, SQL stays in the store, the front calls no wallet.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Rooms from the domain outwards; rooms of one step do not import each other.
const STEPS: &[&[&str]] = &[
    &["domain"],
    &["clock", "keys", "telemetry"],
    &["queue", "gateway", "webhook", "store", "listen"],
    &["steps"],
    &["front", "worker", "scheduler", "operations"],
    &["enrol", "config"],
    &["app"],
    &["demo"],
    &["cli"],
];

/// Arrows that the steps would allow and the design forbids: what a front wants from a wallet besides a prepay is an intent
/// row; it holds no wallet secret.
const ALSO_FORBIDDEN: &[(&str, &str)] = &[("front", "steps"), ("operations", "steps")];

fn sources(under: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(under).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The room of a file: its folder under `src`, or its own name at the top.
fn room(path: &Path) -> String {
    let inside = path.strip_prefix(src()).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn step_of(room: &str) -> Option<usize> {
    STEPS.iter().position(|rooms| rooms.contains(&room))
}

/// Rooms that a file names after `crate::`, in `use` lists and in paths.
fn named_rooms(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let names: Vec<&str> = if let Some(list) = rest.strip_prefix('{') {
            top_level_names(list)
        } else {
            vec![rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()]
        };
        rooms.extend(names.into_iter().map(str::to_owned));
    }
    rooms
}

/// The first names of a `use crate::{…}` list.
fn top_level_names(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(&list[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    names.into_iter().filter_map(|name| name.trim().split("::").next()).filter(|name| !name.is_empty()).collect()
}

#[test]
fn imports_point_at_the_domain() {
    let mut wrong = Vec::new();
    for path in sources(&src()) {
        let from = room(&path);
        if matches!(from.as_str(), "simulator" | "lib" | "main") {
            continue;
        }
        let from_step = step_of(&from).unwrap_or_else(|| panic!("{from} has no step: add it to STEPS"));
        let text = fs::read_to_string(&path).unwrap();
        for to in named_rooms(&text) {
            let Some(to_step) = step_of(&to) else { continue };
            let pair = (from.as_str(), to.as_str());
            let fine = from == to || (to_step < from_step && !ALSO_FORBIDDEN.contains(&pair));
            if !fine {
                wrong.push(format!("{}: {from} imports {to}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows against the direction:\n{}", wrong.join("\n"));
}

#[test]
fn the_simulator_leans_on_nothing_it_checks() {
    let manifest = fs::read_to_string(src().join("simulator/Cargo.toml")).unwrap();
    assert!(!manifest.contains("prepay ="), "the simulator must not depend on prepay");
}

#[test]
fn sql_stays_in_the_store_and_lapin_in_the_queue() {
    for (word, rooms) in [("sea_orm", &["store", "cli"][..]), ("sqlx", &["store"]), ("lapin::", &["queue"])] {
        for path in sources(&src()) {
            let room = room(&path);
            if rooms.contains(&room.as_str()) || room == "simulator" {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let uses =
                text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(&format!("use {word}")));
            assert!(!uses, "{} uses {word}", path.display());
        }
    }
}

#[test]
fn money_is_never_a_fraction() {
    for room in ["domain", "gateway", "store", "steps", "worker"] {
        for path in sources(&src().join(room)) {
            let text = fs::read_to_string(&path).unwrap();
            let fraction = text.lines().any(|line| {
                let code = line.split("//").next().unwrap_or_default();
                code.contains("f64") || code.contains("f32")
            });
            assert!(!fraction, "{} has a floating-point type", path.display());
        }
    }
}
