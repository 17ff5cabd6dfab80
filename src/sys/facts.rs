//! Small facts about the running system: limits, privileges, settings.

use std::fs;

/// The capabilities that links need, by number (`linux/capability.h`).
pub const CAPABILITIES: [(u32, &str); 4] =
    [(13, "cap_net_raw"), (12, "cap_net_admin"), (39, "cap_bpf"), (38, "cap_perfmon")];

/// The effective capabilities of this process, one bit each; none where they cannot be read.
pub fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// The release of the kernel, as `uname -r` prints it.
pub fn kernel_release() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned())
}

/// How many bytes this process may lock; `None` for any number.
pub fn locked_memory_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes to `limit`, which outlives the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Whether a file is there.
pub fn exists(path: &str) -> bool {
    fs::metadata(path).is_ok()
}

/// The number that a file of `/proc/sys` holds; `None` where it is not there.
pub fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// How many processors this process may use.
pub fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_or_missing() {
        assert!(kernel_release().is_some_and(|release| release.contains('.')));
        assert!(number("/proc/sys/net/ipv4/ip_forward").is_some() && number("/no/such/file").is_none());
        assert!(1 <= processors() && exists("/proc/self"));
    }
}
