//! A link into a capture file: what would have been sent, for other tools to judge.
//!
//! The classic format with nanoseconds (`draft-ietf-opsawg-pcap`), little-endian on every machine. Frame `i` bears
//! the time `i` nanoseconds after the epoch, so the same scan writes the same file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use std::sync::Arc;

use crate::batch::Batch;
use crate::gate::Gate;
use crate::link::digest::Digest;
use crate::link::stamper::Stamper;
use crate::link::{Accepted, Backend, Link, LinkError, LinkSpec, TxQueue};

/// The row of the registry.
pub(super) const BACKEND: Backend = Backend {
    name: "pcap",
    about: "write frames to a capture file (pcap:FILE)",
    transmits: false,
    argument: Some("the file"),
    open,
};

fn open(spec: &LinkSpec) -> Result<Link, LinkError> {
    let Some(path) = &spec.argument else {
        let reason = "name the file to write: --link pcap:FILE".to_owned();
        return Err(LinkError::Unusable { name: "pcap", reason });
    };
    if 1 < spec.queues.tx {
        let reason = "one file is written by one thread; leave --tx-threads out".to_owned();
        return Err(LinkError::Unusable { name: "pcap", reason });
    }
    let file = create(path)?;
    let object = path.display().to_string();
    let about = format!("pcap: frames are written to {object}, not sent");
    let queue = Queue::new(spec, BufWriter::with_capacity(BUFFER, file), object)?;
    Ok(Link { tx: vec![Box::new(queue)], rx: Vec::new(), about, hides_answers: false })
}

/// A new file that only its owner may read: a capture shows who was to be scanned.
fn create(path: &Path) -> Result<File, LinkError> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            let reason = format!("{} exists and is not overwritten; choose another name", path.display());
            LinkError::Unusable { name: "pcap", reason }
        } else {
            LinkError::System { operation: "create", object: path.display().to_string(), source }
        }
    })
}

struct Queue<W: Write> {
    stamper: Stamper,
    digest: Digest,
    writer: W,
    object: String,
}

impl<W: Write> Queue<W> {
    fn new(spec: &LinkSpec, mut writer: W, object: String) -> Result<Queue<W>, LinkError> {
        let mut header = [0; 24];
        header[0..4].copy_from_slice(&MAGIC_NANOSECONDS.to_le_bytes());
        header[4..6].copy_from_slice(&2u16.to_le_bytes());
        header[6..8].copy_from_slice(&4u16.to_le_bytes());
        header[16..20].copy_from_slice(&SNAP_LENGTH.to_le_bytes());
        header[20..24].copy_from_slice(&ETHERNET.to_le_bytes());
        let result = writer.write_all(&header);
        let queue = Queue { stamper: Stamper::new(spec), digest: Digest::new(), writer, object };
        queue.written(result)?;
        Ok(queue)
    }

    fn written(&self, result: io::Result<()>) -> Result<(), LinkError> {
        result.map_err(|source| LinkError::System {
            operation: "write to",
            object: self.object.clone(),
            source,
        })
    }
}

fn write_frame(writer: &mut impl Write, digest: &mut Digest, frame: &[u8]) -> io::Result<()> {
    let (seconds, nanoseconds) = (digest.frames() / NS_PER_S, digest.frames() % NS_PER_S);
    let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
    let length = u32::try_from(frame.len()).map_err(too_large)?;
    let mut header = [0; 16];
    header[0..4].copy_from_slice(&u32::try_from(seconds).map_err(too_large)?.to_le_bytes());
    header[4..8].copy_from_slice(&u32::try_from(nanoseconds).map_err(too_large)?.to_le_bytes());
    header[8..12].copy_from_slice(&length.to_le_bytes());
    header[12..16].copy_from_slice(&length.to_le_bytes());
    writer.write_all(&header)?;
    writer.write_all(frame)?;
    digest.add(frame);
    Ok(())
}

impl<W: Write + Send> TxQueue for Queue<W> {
    fn submit(&mut self, batch: &Batch) -> Result<Accepted, LinkError> {
        self.stamper.stamp(batch)?;
        let (writer, digest) = (&mut self.writer, &mut self.digest);
        let result = self.stamper.frames().try_for_each(|frame| write_frame(writer, digest, frame));
        self.written(result)?;
        Ok(Accepted { lanes: batch.lanes(), stall: None })
    }

    fn replace_gate(&mut self, gate: &Arc<Gate>) {
        self.stamper.replace_gate(gate);
    }

    fn send(&mut self, frame: &[u8]) -> Result<bool, LinkError> {
        self.stamper.check(frame)?;
        let result = write_frame(&mut self.writer, &mut self.digest, frame);
        self.written(result)?;
        Ok(true)
    }

    fn finish(&mut self) -> Result<Option<String>, LinkError> {
        let result = self.writer.flush();
        self.written(result)?;
        Ok(Some(self.digest.to_string()))
    }
}

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const SNAP_LENGTH: u32 = 262_144;
/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;
const BUFFER: usize = 1 << 20;
const NS_PER_S: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::sample;
    use std::process::Command;

    fn digest_of(link: &mut Link, batches: &[Batch]) -> String {
        let queue = &mut link.tx[0];
        for batch in batches {
            assert_eq!(queue.submit(batch).expect("submitted").lanes, batch.lanes());
        }
        queue.finish().expect("finished").expect("a digest")
    }

    #[test]
    fn null_and_pcap_agree_on_the_digest_and_a_script_recomputes_it_from_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("frames.pcap");
        let spec = LinkSpec { argument: Some(path.clone()), ..sample::spec() };
        let batches =
            [sample::batch(0, 64), sample::batch(64, 7), sample::batch(71, 0), sample::batch(71, 64)];
        let written = digest_of(&mut open(&spec).expect("opened"), &batches);
        let null = crate::link::BACKENDS.iter().find(|backend| backend.name == "null").expect("a row");
        assert_eq!(digest_of(&mut (null.open)(&sample::spec()).expect("opened"), &batches), written);
        assert!(written.starts_with("frames 135 digest "), "{written}");

        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pcap_digest.py");
        let output = Command::new("python3").arg(script).arg(&path).output().expect("python3");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), written, "{stderr}");
    }

    #[test]
    fn the_file_is_the_same_every_time_and_belongs_to_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let [first, second] = ["a.pcap", "b.pcap"].map(|name| {
            let path = directory.path().join(name);
            let spec = LinkSpec { argument: Some(path.clone()), ..sample::spec() };
            digest_of(&mut open(&spec).expect("opened"), &[sample::batch(0, 64)]);
            let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            std::fs::read(path).expect("a file")
        });
        assert_eq!(first, second);
        assert_eq!(first.len(), 24 + 64 * (16 + 58));
    }

    #[test]
    fn an_existing_file_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("frames.pcap");
        std::fs::write(&path, "precious").expect("written");
        let error =
            open(&LinkSpec { argument: Some(path.clone()), ..sample::spec() }).err().expect("refused");
        assert!(error.to_string().contains("exists and is not overwritten"), "{error}");
        assert_eq!(std::fs::read(path).expect("a file"), b"precious");
    }

    #[test]
    fn a_file_must_be_named() {
        let error = open(&sample::spec()).err().expect("refused");
        assert!(error.to_string().contains("--link pcap:FILE"), "{error}");
    }

    /// A disk with room for so many bytes.
    struct Disk(usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fitting = bytes.len().min(self.0);
            self.0 -= fitting;
            if fitting == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(fitting) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_an_error_wherever_it_strikes() {
        assert!(Queue::new(&sample::spec(), Disk(10), "disk".into()).is_err());
        let mut queue = Queue::new(&sample::spec(), Disk(24 + 80), "disk".into()).expect("room for a header");
        let error = queue.submit(&sample::batch(0, 2)).expect_err("no room");
        assert!(error.to_string().starts_with("cannot write to disk: "), "{error}");
        let writer = BufWriter::with_capacity(1 << 16, Disk(24 + 80));
        let mut queue = Queue::new(&sample::spec(), writer, "disk".into()).expect("buffered");
        queue.submit(&sample::batch(0, 2)).expect("buffered");
        assert!(queue.finish().is_err(), "what is still in the buffer is not forgotten");
    }
}
