//! A bill's place on the disk while it is matched.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::store::BillRun;

const PREFIX: &str = "prepay-bill-";
/// No download takes so long, and a file that is being read does not need its name.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(3600);

/// Gone with its owner: a bill names payers.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub fn of(folder: &Path, run: &BillRun) -> Self {
        let name = format!("{PREFIX}{}-{}-{}", run.account, run.date, uuid::Uuid::now_v7().simple());
        Self(folder.join(name))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have come about.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Deletes bills that a killed process left here, an hour old or older. Answers how many. Blocking.
///
/// Errors: the folder cannot be read.
pub fn sweep_left_over(folder: &Path, now: SystemTime) -> std::io::Result<usize> {
    let mut swept = 0;
    for entry in std::fs::read_dir(folder)? {
        let Ok(entry) = entry else { continue };
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let written = entry.metadata().and_then(|about| about.modified());
        let is_old = written.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age >= LEFT_OVER_AFTER));
        // Another process may be first; what will not go is told by its being there.
        swept += usize::from(is_old && std::fs::remove_file(entry.path()).is_ok());
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["prepay-bill-1-2026-03-01-a", "prepay-bill-1-2026-03-01-a.packed", "somebody-elses"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let now = SystemTime::now();
        assert_eq!(sweep_left_over(folder.path(), now).unwrap(), 0, "they may be in use");
        assert_eq!(sweep_left_over(folder.path(), now + LEFT_OVER_AFTER * 2).unwrap(), 2);
        assert!(folder.path().join("somebody-elses").exists());
        assert!(sweep_left_over(&folder.path().join("none"), now).is_err());
    }
}
