#[path = "../tests/xdp_lab/mod.rs"]
mod xdp_lab;
use std::time::*;
use swath::sys::ebpf::Register::*;
use swath::sys::ebpf::*;
use swath::sys::ebpf_kernel::*;
use swath::sys::tun::TunDevice;
use xdp_lab::*;
fn main() {
    let lab = Lab::new().unwrap();
    let sink = Sink::counting(&lab);
    let mut frame = vec![0u8; 58];
    frame[12] = 8; frame[23] = 6;
    lab.near(|| {
        let words = SharedWords::new(4096).unwrap();
        let idx = swath::host::Host::read().unwrap().interface("v0").unwrap().index;
        let dev = DeviceMap::new(idx).unwrap();
        for copy in [false, true] {
        let mut p = Assembler::new();
        p.set(R6, R1);
        p.load_map_memory(R7, MapSlot(0), 0);
        p.load(Size::Word, R8, R7, 0);
        p.set(R1, R8);
        p.compute(Operation::Add, R1, 1);
        p.store(Size::Word, R7, 0, R1);
        if copy {
        let drop = p.label();
        p.load_context(R2, R6, ContextField::Data);
        p.load_context(R3, R6, ContextField::DataEnd);
        p.set(R1, R2);
        p.compute(Operation::Add, R1, 58);
        p.jump_if(Test::Greater, R1, R3, drop);
        p.compute(Operation::And, R8, 31);
        p.compute(Operation::ShiftLeft, R8, 6);
        p.load_map_memory(R9, MapSlot(0), 1024);
        p.compute(Operation::Add, R9, R8);
        for i in 2..7 { p.load(Size::Double, R0, R9, i*8); p.store(Size::Double, R2, i*8, R0); }
        p.store(Size::Word, R2, 12, 8);
        p.store(Size::Byte, R2, 23, 6);
        p.bind(drop);
        }
        p.load_map(R1, MapSlot(1));
        p.set(R2, 0);
        p.set(R3, 1);
        p.call(Helper::RedirectMap);
        p.exit();
        let prog = LoadedProgram::load(ProgramKind::Xdp, &p.finish().unwrap(), &[&words, &dev]).unwrap_or_else(|e| panic!("{e}"));
        let tun = TunDevice::open("swath").unwrap();
        let _pin = Attachment::xdp(&prog, tun.index(), XdpMode::Generic).unwrap();
        for (count, batch) in [(64, 64), (64, 32), (128, 64), (128,128), (256, 64), (256,128), (512, 64), (1024, 64), (4096, 64), (65536, 64)] {
            let mut rates = vec![];
            for _ in 0..3 {
            let before = sink.settled();
            let t = Instant::now();
            let mut n = 0u64;
            while t.elapsed() < Duration::from_millis(300) { prog.run_live(&frame, count, batch).unwrap(); n += u64::from(count); }
            let e = t.elapsed();
            let seen = sink.settled() - before;
            rates.push((seen as f64 / e.as_secs_f64() / 1e6, n - seen));
            }
            rates.sort_by(|a,b| a.0.total_cmp(&b.0));
            println!("copy {copy} repeat {count} batch {batch}: {:.2} Mpps lost {}", rates[1].0, rates.iter().map(|r| r.1).sum::<u64>());
        }
        }
    });
}
