//! How random the order is: for a thousand seeds, a p-value of each property; the p-values themselves must be uniform
//! (Kolmogorov and Smirnov), which a bias too small for one seed does not survive.
//!
//! Everything is deterministic: the seeds are 0 to 999. Thresholds are those of 1 in 10,000.

use swath::batch::LANES;
use swath::order::Order;
use swath::target::Cursor;

/// All of IPv4 without the special-purpose prefixes.
const INTERNET: u64 = 3_702_257_664;
const SEEDS: u64 = 1000;
/// Outputs looked at for each seed.
const OUTPUTS: usize = 1 << 15;

#[test]
fn p_values_of_the_spread_over_blocks_are_uniform() {
    for (name, cells) in [("/8", 1u64 << 8), ("/16", 1 << 16), ("/20", 1 << 20)] {
        let p_values: Vec<f64> = (0..SEEDS).map(|seed| upper_tail(spread(seed, cells))).collect();
        assert_uniform(name, p_values);
    }
}

#[test]
fn p_values_of_neighbours_in_time_are_uniform_at_every_lag() {
    let mut by_lag: Vec<Vec<f64>> = vec![Vec::new(); 64];
    for seed in 0..SEEDS {
        let values: Vec<f64> =
            outputs(seed).iter().map(|&target| target as f64 / INTERNET as f64 - 0.5).collect();
        let values = &values[..4096];
        for (lag, p_values) in (1..).zip(&mut by_lag) {
            let products: f64 = values.iter().zip(&values[lag..]).map(|(x, y)| x * y).sum();
            // The product of two independent uniform values on -1/2..1/2 has the standard deviation 1/12.
            p_values.push(upper_tail(12.0 * products / ((values.len() - lag) as f64).sqrt()));
        }
    }
    for (lag, p_values) in (1..).zip(by_lag) {
        assert_uniform(&format!("lag {lag}"), p_values);
    }
}

/// At 1 Mpps, an aligned second shows no /24 more than 8 probes and ten seconds no more than 14, each with a probability
/// below 1 in 1,000 over a whole scan if the order is random.
#[test]
fn no_network_of_256_is_hit_in_bursts() {
    let order = Order::new(INTERNET, 7);
    for (probes, most) in [(1_000_000usize, 8), (10_000_000, 14)] {
        let mut hits = vec![0u8; 1 << 24];
        let mut lanes = [0; LANES];
        let mut worst = 0;
        for first in (0..probes).step_by(LANES) {
            order.fill(Cursor(first as u64), LANES, &mut lanes);
            for target in lanes {
                let network = usize::try_from(target >> 8).expect("a /24");
                hits[network] += 1;
                worst = worst.max(hits[network]);
            }
        }
        assert!(worst <= most, "{probes} probes: {worst} to one /24");
    }
}

/// A test that cannot fail proves nothing: the order that counts upwards, and one with a bias of 5 %, are found out.
#[test]
fn orders_that_are_not_random_are_found_out() {
    let biased = |seed: u64| {
        let mut targets = outputs(seed);
        targets.iter_mut().step_by(20).for_each(|target| *target /= 2);
        upper_tail(spread_of(&targets, 1 << 8))
    };
    assert!(0.1 < distance_from_uniform((0..100).map(biased).collect()));
    let counting = |seed: u64| {
        let targets: Vec<u64> = (seed..).take(OUTPUTS).collect();
        upper_tail(spread_of(&targets, 1 << 8))
    };
    assert!(0.9 < distance_from_uniform((0..100).map(counting).collect()));
}

fn outputs(seed: u64) -> Vec<u64> {
    let order = Order::new(INTERNET, seed);
    let mut targets = vec![0; OUTPUTS];
    let mut lanes = [0; LANES];
    for (batch, targets) in targets.chunks_mut(LANES).enumerate() {
        order.fill(Cursor((batch * LANES) as u64), targets.len(), &mut lanes);
        targets.copy_from_slice(&lanes[..targets.len()]);
    }
    targets
}

/// Chi-square of the first outputs over equal blocks, as a standard normal value.
fn spread(seed: u64, cells: u64) -> f64 {
    spread_of(&outputs(seed), cells)
}

fn spread_of(targets: &[u64], cells: u64) -> f64 {
    let mut counts = vec![0u32; usize::try_from(cells).expect("fits")];
    for &target in targets {
        let cell = u128::from(target) * u128::from(cells) / u128::from(INTERNET);
        counts[usize::try_from(cell).expect("a cell")] += 1;
    }
    let outputs = targets.len() as f64;
    let squares: f64 = counts.iter().map(|&count| f64::from(count).powi(2)).sum();
    let freedom = (cells - 1) as f64;
    // Blocks are of equal size to within one target, far below what this many outputs can tell.
    let chi_square = squares * cells as f64 / outputs - outputs;
    if cells <= 1 << 12 {
        let spread = 2.0 / (9.0 * freedom); // Wilson and Hilferty
        ((chi_square / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
    } else {
        // Most cells are empty: then the sum is normal by the number of pairs that share a cell.
        (chi_square - freedom) / (2.0 * freedom * (outputs - 1.0) / outputs).sqrt()
    }
}

/// The probability that a standard normal value is above `z` (Abramowitz and Stegun 26.2.17, error below 1e-7).
fn upper_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let polynomial = t
        * (0.319_381_530
            + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * polynomial;
    if z < 0.0 { 1.0 - tail } else { tail }
}

fn distance_from_uniform(mut p_values: Vec<f64>) -> f64 {
    p_values.sort_by(f64::total_cmp);
    let count = p_values.len() as f64;
    let steps = p_values.iter().zip(0u32..);
    steps
        .map(|(p, rank)| (p - f64::from(rank) / count).max(f64::from(rank + 1) / count - p))
        .fold(0.0, f64::max)
}

/// Kolmogorov and Smirnov: below 2.225 over the root of the count but for 1 time in 10,000.
fn assert_uniform(name: &str, p_values: Vec<f64>) {
    let limit = 2.225 / (p_values.len() as f64).sqrt();
    let distance = distance_from_uniform(p_values);
    assert!(distance < limit, "{name}: distance {distance:.4}, allowed {limit:.4}");
    eprintln!("{name}: distance of {SEEDS} p-values from uniform {distance:.4}, allowed {limit:.4}");
}
