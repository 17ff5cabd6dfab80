//! The kernel's clocks.

use std::io;

/// Nanoseconds of a clock that never jumps, from an arbitrary start; it stops while the machine sleeps.
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds since the Unix epoch: the clock of the receive timestamps. It may jump.
pub fn realtime_ns() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// Nanoseconds that the calling thread has had of a processor.
pub fn thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Nanoseconds that all threads of this process have had of processors, in user space and kernel.
pub fn process_cpu_ns() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Sleeps until [`monotonic_ns`] has reached `deadline_ns`; returns at once when it has. Signals do not end it.
pub fn sleep_until(deadline_ns: u64) {
    let deadline = libc::timespec {
        tv_sec: libc::time_t::try_from(deadline_ns / NS_PER_S).unwrap_or(libc::time_t::MAX),
        tv_nsec: (deadline_ns % NS_PER_S) as libc::c_long,
    };
    loop {
        // SAFETY: `deadline` is a valid timespec that outlives the call, and a null remainder is allowed for an
        // absolute deadline.
        let error = unsafe {
            libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &deadline, std::ptr::null_mut())
        };
        if error != libc::EINTR {
            return;
        }
    }
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec the kernel may write for the time of the call.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert!(result == 0, "the kernel has no clock {clock}: {}", io::Error::last_os_error());
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * NS_PER_S + u64::try_from(time.tv_nsec).unwrap_or(0)
}

const NS_PER_S: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_until_a_moment_does_not_end_before_it() {
        let deadline = monotonic_ns() + 2_000_000;
        sleep_until(deadline);
        assert!(deadline <= monotonic_ns());
        sleep_until(0);
    }

    #[test]
    fn a_thread_that_sleeps_uses_no_processor() {
        let (elapsed, used) = (monotonic_ns(), thread_cpu_ns());
        sleep_until(elapsed + 20_000_000);
        assert!(thread_cpu_ns() - used < monotonic_ns() - elapsed);
    }

    #[test]
    fn what_any_thread_uses_counts_for_the_process() {
        let before = process_cpu_ns();
        let used = std::thread::spawn(|| {
            let begun = thread_cpu_ns();
            while thread_cpu_ns() - begun < 5_000_000 {}
            thread_cpu_ns() - begun
        });
        let used = used.join().expect("no panic");
        assert!(before + used <= process_cpu_ns());
    }

    #[test]
    fn the_real_time_is_after_the_year_2020() {
        assert!(1_577_836_800 * NS_PER_S < realtime_ns());
    }
}
