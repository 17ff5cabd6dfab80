//! When swath closes half-open connections itself, and what keeps the kernel from doing it twice.
//!
//! The kernel's RST to each SYN-ACK costs two thirds of the rate (0.74 against 2.14 Mpps sent at one answer in four). So
//! above [`ANSWERS_PER_SECOND`] a table of the packet filter drops those SYN-ACKs behind the sockets that hear them, and
//! swath sends the RSTs, inside its rate law.

use crate::closing::{Closing, Who};
use crate::sys::nftables::{SynAcks, Table};

/// Who closes connections now, and the table while it stands.
pub(super) struct Takeover<'a> {
    closing: &'a Closing,
    wanted: SynAcks,
    /// Whether it may still be swath.
    may_take_over: bool,
    table: Option<Table>,
    looked_ns: u64,
    answers: u64,
}

impl<'a> Takeover<'a> {
    /// The state at the start of a scan. `hides_answers` says that the kernel sees no SYN-ACKs in the first place.
    pub(super) fn new(closing: &'a Closing, who: Who, hides_answers: bool, wanted: SynAcks) -> Takeover<'a> {
        if hides_answers {
            closing.take_over();
        }
        let may_take_over = !hides_answers && who != Who::Kernel && !wanted.addresses.is_empty();
        Takeover { closing, wanted, may_take_over, table: None, looked_ns: 0, answers: 0 }
    }

    /// Takes the connections over at once, as the user asked.
    ///
    /// # Errors
    /// A sentence when the kernel refuses the table; then the kernel goes on closing them.
    pub(super) fn now(&mut self) -> Result<(), String> {
        if !self.may_take_over {
            return Ok(());
        }
        self.may_take_over = false;
        match Table::drop_syn_acks(&self.wanted) {
            Ok(table) => {
                self.table = Some(table);
                self.closing.take_over();
                Ok(())
            }
            Err(error) => Err(format!(
                "cannot make a table of the packet filter ({error}), so the kernel's RSTs go on and cost rate; it needs \
                 cap_net_admin and nf_tables"
            )),
        }
    }

    /// Looks at how many SYN-ACKs came so far, and takes over when they are many. Returns what there is to say.
    pub(super) fn observe(&mut self, now_ns: u64, answers: u64) -> Option<String> {
        let elapsed_ns = now_ns.saturating_sub(self.looked_ns);
        if !self.may_take_over || elapsed_ns < LOOK_NS {
            return None;
        }
        let per_second =
            u128::from(answers.saturating_sub(self.answers)) * 1_000_000_000 / u128::from(elapsed_ns);
        (self.looked_ns, self.answers) = (now_ns, answers);
        if per_second < u128::from(ANSWERS_PER_SECOND) {
            return None;
        }
        Some(self.now().err().unwrap_or_else(|| {
            format!(
                "above {ANSWERS_PER_SECOND} answers a second swath closes half-open connections itself (table {})",
                Table::name()
            )
        }))
    }
}

/// Above so many SYN-ACKs a second swath closes connections itself.
pub(super) const ANSWERS_PER_SECOND: u64 = 20_000;
/// How often their rate is looked at.
const LOOK_NS: u64 = 100_000_000;
