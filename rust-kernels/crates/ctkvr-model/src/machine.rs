//! What this process may really use of the machine: threads and memory, with control groups and affinity counted.

/// More threads than any machine that this runs on has.
pub const MAX_THREADS: usize = 512;

/// Resident memory of this process, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    pub rss_bytes: u64,
    pub peak_rss_bytes: u64,
}

/// Threads this process may run at once: cores, affinity mask and control group quota counted; at least 1.
pub fn num_usable_threads() -> usize {
    // The standard library reads the affinity mask and the quotas of the process's control groups (v1 and v2) on Linux.
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

/// Bytes this process may still allocate without pushing others out: free memory and control group limits counted. 0 = unknown.
pub fn available_memory_bytes() -> u64 {
    platform::available_memory_bytes()
}

/// Resident memory now and at its peak; zeros where the system does not tell.
pub fn process_memory() -> ProcessMemory {
    platform::process_memory()
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs::read_to_string;
    use std::path::Path;

    use super::ProcessMemory;

    pub fn available_memory_bytes() -> u64 {
        let free = read_to_string("/proc/meminfo").ok().and_then(|text| kilobytes(&text, "MemAvailable:")).unwrap_or(0);
        let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
        match control_group_room(Path::new("/sys/fs/cgroup"), &groups) {
            Some(room) if free > 0 => free.min(room),
            Some(room) => room,
            None => free,
        }
    }

    pub fn process_memory() -> ProcessMemory {
        let status = read_to_string("/proc/self/status").unwrap_or_default();
        let rss_bytes = kilobytes(&status, "VmRSS:").unwrap_or(0);
        ProcessMemory { rss_bytes, peak_rss_bytes: kilobytes(&status, "VmHWM:").unwrap_or(rss_bytes) }
    }

    /// The number of a line such as `VmRSS:  1234 kB`, in bytes.
    fn kilobytes(text: &str, label: &str) -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(label))?;
        line[label.len()..].trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kb| kb * 1024)
    }

    /// The least room below a limit of this process's memory control group and those above it. `groups` is /proc/self/cgroup.
    fn control_group_room(root: &Path, groups: &str) -> Option<u64> {
        let mut least: Option<u64> = None;
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
            let (base, limit_file, usage_file, cache_label) = if controllers.is_empty() {
                (root.to_path_buf(), "memory.max", "memory.current", "inactive_file ")
            } else if controllers.split(',').any(|name| name == "memory") {
                (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
            } else {
                continue;
            };
            // Inside a container the path may name the host's tree; then only the group's own mount is visible, at the root.
            let own = base.join(path.trim_start_matches('/'));
            for group in own.ancestors().take_while(|group| group.starts_with(&base)) {
                let number = |file: &str| read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
                let (Some(limit), Some(usage)) = (number(limit_file), number(usage_file)) else { continue };
                let statistics = read_to_string(group.join("memory.stat")).unwrap_or_default();
                // Page cache that can be dropped is room.
                let cache = statistics
                    .lines()
                    .find_map(|line| line.strip_prefix(cache_label))
                    .and_then(|number| number.trim().parse::<u64>().ok())
                    .unwrap_or(0);
                let room = limit.saturating_sub(usage.saturating_sub(cache));
                least = Some(least.map_or(room, |least| least.min(room)));
            }
        }
        least
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn reads_kilobyte_lines() {
            assert_eq!(kilobytes("VmPeak:\t 9 kB\nVmRSS:\t    1234 kB\n", "VmRSS:"), Some(1234 * 1024));
            assert_eq!(kilobytes("VmRSS: many kB", "VmRSS:"), None);
            assert_eq!(kilobytes("", "VmRSS:"), None);
        }

        #[test]
        fn the_tightest_control_group_counts_and_droppable_cache_is_room() {
            let root = std::env::temp_dir().join(format!("ctkvr-cgroup-{}", std::process::id()));
            let inner = root.join("a/b");
            std::fs::create_dir_all(&inner).unwrap();
            let write = |dir: &Path, limit: &str, usage: &str, cache: u64| {
                std::fs::write(dir.join("memory.max"), limit).unwrap();
                std::fs::write(dir.join("memory.current"), usage).unwrap();
                std::fs::write(dir.join("memory.stat"), format!("anon 1\ninactive_file {cache}\n")).unwrap();
            };
            write(&inner, "max\n", "50\n", 0);
            write(&root.join("a"), "1000\n", "700\n", 200);
            assert_eq!(control_group_room(&root, "0::/a/b\n"), Some(500));
            assert_eq!(control_group_room(&root, "0::/elsewhere\n"), None);
            std::fs::remove_dir_all(&root).unwrap();
        }

        #[test]
        fn this_process_has_memory() {
            let memory = process_memory();
            assert!(memory.rss_bytes > 0 && memory.peak_rss_bytes >= memory.rss_bytes);
            assert!(available_memory_bytes() > 0);
            assert!(crate::machine::num_usable_threads() >= 1);
        }
    }
}

#[cfg(target_os = "macos")]
mod platform {
    use super::ProcessMemory;

    pub fn available_memory_bytes() -> u64 {
        let mut total: u64 = 0;
        let mut size = size_of::<u64>();
        // SAFETY: the name is NUL-terminated and the output is a u64 of the size given.
        let failed =
            unsafe { libc::sysctlbyname(c"hw.memsize".as_ptr(), (&raw mut total).cast(), &mut size, std::ptr::null_mut(), 0) };
        let mut free: u32 = 0;
        let mut size = size_of::<u32>();
        // The kernel's own estimate, percent of the whole that is free or can be freed without swapping.
        // SAFETY: as above, with a u32.
        let unknown = unsafe {
            libc::sysctlbyname(c"kern.memorystatus_level".as_ptr(), (&raw mut free).cast(), &mut size, std::ptr::null_mut(), 0)
        };
        match (failed, unknown) {
            (0, 0) => total / 100 * u64::from(free.min(100)),
            (0, _) => total / 2,
            _ => 0,
        }
    }

    pub fn process_memory() -> ProcessMemory {
        // SAFETY: both calls fill plain structures of the sizes given; zeroed ones are valid.
        unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_SELF, &mut usage);
            let mut task: libc::proc_taskinfo = std::mem::zeroed();
            let size = size_of::<libc::proc_taskinfo>() as libc::c_int;
            let filled = libc::proc_pidinfo(libc::getpid(), libc::PROC_PIDTASKINFO, 0, (&raw mut task).cast(), size);
            let peak = u64::try_from(usage.ru_maxrss).unwrap_or(0); // bytes on macOS
            let rss_bytes = if filled == size { task.pti_resident_size } else { peak };
            ProcessMemory { rss_bytes, peak_rss_bytes: peak.max(rss_bytes) }
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod platform {
    use super::ProcessMemory;

    pub fn available_memory_bytes() -> u64 {
        0
    }

    pub fn process_memory() -> ProcessMemory {
        ProcessMemory::default()
    }
}
