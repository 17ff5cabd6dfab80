//! `--top-ports`: our own ranking of TCP ports.
//!
//! Ranked by judgement, not by a measurement: how likely it is that a host with any service has one there today,
//! then how much it matters to know. First comes what nearly every exposed host runs (web, remote access, mail,
//! names), then the services that should not be exposed and often are (databases, caches, container and cluster
//! control planes, message brokers, monitoring), then the alternate ports that self-hosted software uses, then
//! appliances, cameras, printers and industrial control, and last the old services that still linger. No list of
//! another scanner was copied.
//!
//! Invariant: a rank, once released, may change with the version: the digest of a plan holds the ports themselves.

use super::error::{Reason, SpecError};
use super::ports::PortSet;
use super::{Port, Protocol};

/// The `count` highest ranked TCP ports among those that are not excluded.
///
/// # Errors
/// When `count` is 0 or above the number of ranked ports left; says how many there are.
pub fn top_ports(count: usize, excluded: &PortSet) -> Result<PortSet, SpecError> {
    let ranked = RANKED.iter().map(|&number| Port { protocol: Protocol::TCP, number });
    let left: Vec<Port> = ranked.filter(|&port| !excluded.contains(port)).collect();
    if count == 0 || left.len() < count {
        return Err(Reason::TopPorts(left.len()).ports(&format!("top {count}")));
    }
    Ok(PortSet::from_unsorted(left[..count].to_vec()))
}

/// TCP ports, most worth asking first.
#[rustfmt::skip]
pub const RANKED: &[u16] = &[
    // What nearly every exposed host runs: web, shell, desktop, mail, files, names.
    443, 80, 22, 8080, 8443, 3389, 21, 25, 53, 445, 587, 993, 110, 143, 995, 465, 3306, 23, 7547, 8000,
    // Remote administration, tunnels and proxies.
    5985, 5900, 1723, 2222, 8888, 3000, 10000, 8081, 9090, 5432, 135, 139, 111, 1433, 5060, 554, 179, 2000, 4443, 5986,
    // Databases and caches.
    6379, 27017, 9200, 11211, 1521, 5984, 9042, 8086, 7474, 7687, 28017, 27018, 9300, 5433, 33060, 50000, 26257, 8123, 9000, 6432,
    // Containers, clusters, continuous integration, monitoring.
    2375, 2376, 6443, 10250, 10255, 2379, 2380, 5000, 8500, 9100, 9093, 5601, 8200, 4646, 9443, 10256, 30000, 9091, 3100, 16443,
    // Brokers, queues, search, big data.
    5672, 15672, 1883, 8883, 9092, 2181, 61616, 8161, 4222, 8983, 50070, 9870, 8088, 7077, 4040, 18080, 61613, 9999, 8020, 6650,
    // Web on its other ports.
    8008, 8001, 8089, 8082, 8083, 8084, 8085, 8090, 8880, 81, 82, 88, 8181, 8444, 8445, 9001, 9080, 9081, 3001, 5001,
    8002, 8003, 8010, 8087, 8091, 8099, 8180, 8280, 8383, 8800, 8889, 9002, 9003, 9010, 10443, 2082, 2083, 2086, 2087, 2095,
    2096, 2052, 2053, 444, 447, 4444, 5443, 6080, 7000, 7001, 7002, 7070, 7080, 7443, 7777, 4200, 5173, 8765, 8843, 12443,
    // Virtual private networks, directories, authentication, virtualisation, backup.
    389, 636, 3268, 464, 1194, 500, 902, 8006, 16509, 5480, 9392, 9390, 10051, 10050, 1701, 943, 8834, 49152, 6556,
    // Files and synchronisation.
    2049, 873, 548, 990, 2121, 69, 3260, 8384, 22000, 115, 9418, 3690, 24007, 6789, 7480, 9898, 4505, 4506, 8140,
    // Remote desktops, consoles and debuggers.
    5901, 5902, 5800, 5938, 4899, 6000, 6001, 5555, 3283, 5500, 2323, 4022, 222, 22222, 9222, 9229, 5005, 8787, 1099,
    // Voice, video and cameras.
    5061, 8554, 1935, 1720, 34567, 37777, 8899, 9530, 5062, 10554, 5222, 5269, 3478, 5349, 8009, 6667, 6697, 64738, 25565,
    // Printers, appliances, routers.
    631, 515, 8291, 8728, 8729, 4567, 30005, 5678, 5357, 49153, 49154, 49155, 62078, 1900, 52869, 37215, 7676, 9998, 32764,
    // Industrial and building control.
    502, 102, 44818, 20000, 4840, 47808, 1911, 4911, 2404, 789, 9600, 1962, 5006, 5007, 18245, 20547, 10001, 2455, 17185, 4712,
    // Old services that still linger.
    513, 514, 512, 79, 113, 119, 7, 9, 13, 17, 19, 37, 70, 109, 199, 427, 1080, 3128, 1024, 1025,
    1026, 1027, 2001, 4000, 5631, 6666, 8118, 9050, 1234, 12345, 31337, 3299, 1352, 1434, 2483, 50030, 5351, 5353, 6346,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::ports::parse_ports;
    use super::*;

    #[test]
    fn the_list_is_long_enough_and_ranks_no_port_twice() {
        let distinct: BTreeSet<u16> = RANKED.iter().copied().collect();
        assert!(200 <= distinct.len());
        assert_eq!(distinct.len(), RANKED.len());
    }

    #[test]
    fn modern_services_are_among_the_first_hundred() {
        let top = top_ports(100, &PortSet::default()).expect("top ports");
        assert_eq!(top.len(), 100);
        for number in [22, 80, 443, 2375, 3000, 5985, 6379, 6443, 8443, 9090, 9200, 10250, 11211, 27017] {
            assert!(top.contains(Port { protocol: Protocol::TCP, number }), "{number}");
        }
    }

    #[test]
    fn an_excluded_port_makes_room_for_the_next() {
        let excluded = parse_ports("443,22").expect("ports");
        assert_eq!(top_ports(3, &excluded).expect("top ports").to_string(), "80,8080,8443");
    }

    #[test]
    fn more_than_the_list_has_is_refused_with_the_maximum() {
        let most = RANKED.len();
        assert_eq!(top_ports(most, &PortSet::default()).expect("all").len(), most);
        for count in [0, most + 1] {
            let error = top_ports(count, &PortSet::default()).expect_err("not that many").to_string();
            assert!(error.contains(&format!("ask for 1 to {most}")), "{error}");
        }
    }
}
