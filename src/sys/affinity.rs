//! Which processors a thread may run on (`man 2 sched_setaffinity`).

/// A processor for each of so many threads: those this process may use, in turn.
pub fn spread(threads: usize) -> Vec<usize> {
    let allowed = allowed();
    if allowed.is_empty() { Vec::new() } else { allowed.iter().copied().cycle().take(threads).collect() }
}

/// The processors that the calling thread may run on; none where the kernel does not tell.
pub fn allowed() -> Vec<usize> {
    // SAFETY: a set of processors is an array of bits, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the size given to `set`, which outlives the call; 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    let most = if result == 0 { libc::CPU_SETSIZE as usize } else { 0 };
    // SAFETY: `CPU_ISSET` reads the bit of a processor below `CPU_SETSIZE`, which the set holds.
    (0..most).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Keeps the calling thread on one processor; returns whether the kernel does.
pub fn pin(cpu: usize) -> bool {
    if libc::CPU_SETSIZE as usize <= cpu {
        return false;
    }
    // SAFETY: as in `allowed`; the bit lies inside of the set, and the kernel only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_runs_on_that_processor_and_threads_are_spread_in_turn() {
        let all = allowed();
        assert!(!all.is_empty());
        assert_eq!(spread(all.len() + 1)[..], [&all[..], &all[..1]].concat());
        let pinned = std::thread::spawn(move || (pin(all[0]), allowed() == [all[0]]));
        assert_eq!(pinned.join().expect("no panic"), (true, true));
        assert!(!pin(usize::MAX));
    }
}
