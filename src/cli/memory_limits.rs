//! The memory budget of the service: the configured one, or a share of the memory limit of its cgroup.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    config,
    memory::{MemoryBudget, MemoryLimits},
};

/// The budget without a configured one and without a limit of the cgroup: room for `max_streams` (1,000) of blobs.
const DEFAULT_BYTES: usize = 1024 * 1024 * 1024;

/// The minimum budget; the configuration has the same minimum.
const MIN_BYTES: usize = 1024 * 1024;

/// The budget, and where it comes from.
pub(super) struct Chosen {
    pub(super) limits: MemoryLimits,
    pub(super) source: &'static str,
}

impl Chosen {
    pub(super) fn budget(&self) -> MemoryBudget {
        MemoryBudget::new(self.limits)
    }
}

/// The memory budget for this configuration on this machine.
pub(super) fn choose(limits: &config::Limits) -> Chosen {
    choose_within(limits, cgroup_limit(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup")))
}

/// Half of the cgroup's memory: the rest is for the process itself, its connections and memory that the allocator keeps.
fn choose_within(limits: &config::Limits, cgroup: Option<u64>) -> Chosen {
    let half = cgroup.map(|bytes| usize::try_from(bytes / 2).unwrap_or(usize::MAX).max(MIN_BYTES));
    let (total, source) = match (limits.memory_bytes, half) {
        (Some(configured), _) => (configured, "limits.memory_bytes"),
        (None, Some(half)) => (half, "half of the cgroup's limit"),
        (None, None) => (DEFAULT_BYTES, "default"),
    };
    let per = |configured: Option<usize>| configured.unwrap_or(total / 2).min(total);
    let limits = MemoryLimits {
        total,
        per_peer: per(limits.memory_bytes_per_peer),
        per_caller: per(limits.memory_bytes_per_caller),
    };
    Chosen { limits, source }
}

/// The smallest limit of the process' memory cgroup and those above it, of version 1 or 2 (cgroups(7)).
///
/// `cgroups` is `/proc/self/cgroup`, `root` the directory where cgroups are mounted. A container may see the host's path in
/// the first and its own cgroup at the top of the second: directories that do not exist are skipped.
fn cgroup_limit(cgroups: &Path, root: &Path) -> Option<u64> {
    let text = fs::read_to_string(cgroups).ok()?;
    let files = text.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (mount, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        Path::new(path.trim_start_matches('/')).ancestors().map(|path| mount.join(path).join(file)).collect()
    });
    files.filter_map(|file| limit_in(&file)).min()
}

/// The limit in a file: `max` and version 1's largest number of pages mean that there is none.
fn limit_in(file: &PathBuf) -> Option<u64> {
    let bytes: u64 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    Some(bytes).filter(|bytes| *bytes < 1 << 60)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// The limit that is found with these cgroups and files.
    fn limit(cgroups: &str, files: &[(&str, &str)]) -> Option<u64> {
        let directory = tempfile::tempdir().unwrap();
        let (root, list) = (directory.path().join("cgroup"), directory.path().join("list"));
        fs::write(&list, cgroups).unwrap();
        for (path, text) in files {
            let file = root.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        cgroup_limit(&list, &root)
    }

    #[test]
    fn the_smallest_limit_of_a_cgroup_and_its_parents_is_used() {
        let files = [
            ("memory.max", "max\n"),
            ("kubepods/memory.max", "536870912\n"),
            ("kubepods/pod/memory.max", "1073741824\n"),
        ];
        assert_eq!(limit("0::/kubepods/pod\n", &files), Some(512 * MIB));
        assert_eq!(limit("0::/\n", &[("memory.max", "max\n")]), None);
        assert_eq!(limit("0::/\n", &[("memory.max", "1048576\n")]), Some(MIB));
    }

    #[test]
    fn in_version_1_only_the_memory_controller_is_used() {
        let cgroups = "12:cpu,cpuacct:/a\n7:memory:/docker/b\n";
        let limited = [("memory/memory.limit_in_bytes", "268435456\n"), ("cpu,cpuacct/memory.max", "1\n")];
        assert_eq!(limit(cgroups, &limited), Some(256 * MIB), "a container sees its own cgroup at the top");
        let unlimited = [("memory/docker/b/memory.limit_in_bytes", "9223372036854771712\n")];
        assert_eq!(limit(cgroups, &unlimited), None);
    }

    #[test]
    fn the_configuration_takes_precedence_over_the_cgroup_and_that_over_the_default() {
        let configured = config::Limits { memory_bytes: Some(100), ..config::Limits::default() };
        let unset = config::Limits::default();
        let total = |limits, cgroup| choose_within(limits, cgroup).limits.total;
        assert_eq!(total(&configured, Some(512 * MIB)), 100);
        assert_eq!(total(&unset, Some(512 * MIB)), 256 << 20);
        assert_eq!(total(&unset, Some(1)), MIN_BYTES);
        assert_eq!(total(&unset, None), DEFAULT_BYTES);
    }

    #[test]
    fn a_peer_and_a_caller_get_half_unless_configured_otherwise() {
        let limits = config::Limits {
            memory_bytes: Some(100),
            memory_bytes_per_peer: Some(1000),
            ..config::Limits::default()
        };
        let expected = MemoryLimits { total: 100, per_peer: 100, per_caller: 50 };
        assert_eq!(choose_within(&limits, None).limits, expected);
    }
}
