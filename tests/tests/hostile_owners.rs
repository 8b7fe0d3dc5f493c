//! Hostile packets beside live sockets of a target and of a bystander, whose ports and
//! addresses they bear or seem to bear: those are hit that are the target's by another
//! account, and those counted that are nobody's.

#[path = "../../injector-common/tests/support/dice.rs"]
mod dice;
#[path = "../../injector-common/tests/support/hostile.rs"]
mod hostile;

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd as _, BorrowedFd},
};

use aya::maps::{Array, MapData, PerCpuArray, SkStorage};
use dice::{Dice, PACKETS, seed};
use hostile::{Packet, packet};
use injector_common::{
    FaultKind, RuleStats,
    filter::PacketFilter,
    names::{MAP_SOCKETS, MAP_STATS, MAP_UNATTRIBUTED, PROG_EGRESS, PROG_INGRESS},
    packet::{self as reading, Facts},
    uses::Uses,
};
use injector_tests::{
    kernel::Where,
    netns::{Ip, Netns, loopback},
    require,
    test_run::{self, ETHERNET, Frame, LOST, NEXT},
};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where the target waits for packets and connections, and where the bystander does.
const TARGETS: u16 = 7001;
const BYSTANDERS: u16 = 7002;
/// Where a socket of the target's takes packets from one peer alone, and that peer's port.
const CONNECTED: u16 = 7003;
const PEERS: u16 = 7004;

/// As `hostile.rs` has it.
fn packets() -> u64 {
    if Where::current().is_virtual() {
        PACKETS / 200
    } else {
        PACKETS
    }
}

#[test]
fn hostile_packets_are_hit_if_they_are_the_targets() {
    require!(NetLoss);
    Netns::new().enter(check);
}

fn check() {
    let seed = seed();
    let mut ebpf = test_run::load_for(Uses::kind(FaultKind::NetLoss));
    let [ingress, egress] =
        [PROG_INGRESS, PROG_EGRESS].map(|name| test_run::program(&mut ebpf, name));
    let mut table = |name| ebpf.take_map(name).expect("the object has the map");
    let mut owned: SkStorage<_, u64> = table(MAP_SOCKETS).try_into().expect("a storage");
    let stats: Array<_, RuleStats> = table(MAP_STATS).try_into().expect("an array");
    let nobodys: PerCpuArray<_, u64> = table(MAP_UNATTRIBUTED).try_into().expect("an array");
    let sockets = [Ip::V4, Ip::V6].map(|ip| Sockets::open(loopback(ip), &mut owned));
    // No packet that leaves here is the target's.
    let mut rules = test_run::arm_for_nobody(&mut ebpf);
    let rule = test_run::loss(PacketFilter::ANY);
    rules.set(0, rule, 0).expect("write the rule");

    let mut counts = [0_u64; 4];
    for number in 0..packets() {
        let dice = &mut Dice::new(seed, number);
        let packet = packet(seed, number);
        let mut frame = framed(&packet);
        readdress(dice, &mut frame, &sockets);
        let found = found(&frame, &packet, &sockets);
        let context = || format!("packet {number} of seed {seed}, {found:?}: {frame:02x?}");
        let leaving = test_run::run(egress.as_fd(), &mut frame.clone(), packet.gso_size);
        let Ok(verdict) = test_run::run(ingress.as_fd(), &mut frame.clone(), packet.gso_size)
        else {
            continue;
        };
        let expected = if found == Found::Targets { LOST } else { NEXT };
        assert_eq!(verdict, expected, "{}", context());
        assert_eq!(leaving.ok(), Some(NEXT), "{}", context());
        counts[found as usize] += 1;
    }
    println!("nothing, the target's, a bystander's, nobody's: {counts:?}");
    assert!(counts.iter().all(|&count| count > packets() / 50));
    let [_, targets, _, no_ones] = counts;
    let stats = stats.get(&0, 0).expect("the rule's counts");
    assert_eq!((stats.matched, stats.injected), (targets, targets));
    let counted = nobodys.get(&1, 0).expect("a count for each processor");
    assert_eq!(counted.iter().sum::<u64>(), no_ones);
}

/// Whose a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// It is none, or what a tunnel brings.
    Nothing,
    Targets,
    Bystanders,
    Nobodys,
}

/// Open sockets at one address, of both.
struct Sockets {
    address: IpAddr,
    /// The ports of a connection to the target, and of one that it has made.
    clients: [u16; 2],
    _udp: [UdpSocket; 4],
    _listeners: [TcpListener; 2],
    _streams: [TcpStream; 4],
}

impl Sockets {
    #[track_caller]
    fn open(address: IpAddr, owned: &mut SkStorage<MapData, u64>) -> Self {
        let mut own = |socket: BorrowedFd<'_>| {
            owned
                .insert(&socket, 1, 0)
                .expect("leave the rule in a socket");
        };
        let ports = [TARGETS, BYSTANDERS, CONNECTED, PEERS];
        let udp = ports.map(|port| UdpSocket::bind((address, port)).expect("a socket"));
        udp[2].connect((address, PEERS)).expect("a peer");
        let listeners = [TARGETS, BYSTANDERS]
            .map(|port| TcpListener::bind((address, port)).expect("a socket that listens"));
        for socket in [udp[0].as_fd(), udp[2].as_fd(), listeners[0].as_fd()] {
            own(socket);
        }
        let connect = |port| TcpStream::connect((address, port)).expect("a connection");
        let (to_target, of_target) = (connect(TARGETS), connect(BYSTANDERS));
        let accepted = [&listeners[0], &listeners[1]].map(|listener| {
            let (stream, _) = listener.accept().expect("a connection");
            stream
        });
        own(of_target.as_fd());
        let port = |stream: &TcpStream| stream.local_addr().map(|end| end.port());
        let clients = [&to_target, &of_target].map(|stream| port(stream).expect("a port"));
        let [first, second] = accepted;
        Self {
            address,
            clients,
            _udp: udp,
            _listeners: listeners,
            _streams: [to_target, of_target, first, second],
        }
    }

    /// Whose a packet is that comes from one end to another.
    fn owner(&self, number: u8, from: SocketAddr, to: SocketAddr) -> Found {
        if to.ip() != self.address {
            return Found::Nobodys;
        }
        let is_from = |port| from == SocketAddr::new(self.address, port);
        let [to_target, of_target] = self.clients;
        match (number, to.port()) {
            (TCP | UDP, TARGETS) => Found::Targets,
            (TCP | UDP, BYSTANDERS) => Found::Bystanders,
            (UDP, CONNECTED) if is_from(PEERS) => Found::Targets,
            (UDP, PEERS) => Found::Bystanders,
            (TCP, port) if port == to_target && is_from(TARGETS) => Found::Bystanders,
            (TCP, port) if port == of_target && is_from(BYSTANDERS) => Found::Targets,
            _ => Found::Nobodys,
        }
    }
}

/// The packet behind an Ethernet header.
fn framed(packet: &Packet) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET];
    frame[12..].copy_from_slice(&packet.ether_type.to_ne_bytes());
    let l2_len = packet.l2_len as usize;
    frame.extend(packet.bytes.get(l2_len..).unwrap_or_default());
    frame
}

/// Gives most packets addresses and ports of somebody's, wherever there are any, or would
/// be if the packet went on.
fn readdress(dice: &mut Dice, frame: &mut [u8], sockets: &[Sockets; 2]) {
    let is_v4 = frame.get(ETHERNET).is_some_and(|byte| byte >> 4 == 4);
    let sockets = &sockets[usize::from(!is_v4)];
    let strange = if is_v4 {
        [
            [127, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            [192; 16],
        ]
    } else {
        [[0; 16], [0xfd; 16]]
    };
    let (at, own) = match sockets.address {
        IpAddr::V4(address) => (12, address.octets().to_vec()),
        IpAddr::V6(address) => (8, address.octets().to_vec()),
    };
    for end in 0..2 {
        let strange = dice.of(&strange);
        let address = if dice.one_in(8) {
            &strange[..own.len()]
        } else {
            &own
        };
        put(frame, ETHERNET + at + end * own.len(), address);
    }
    let [to_target, of_target] = sockets.clients;
    let ports = [
        TARGETS, BYSTANDERS, CONNECTED, PEERS, to_target, of_target, 9,
    ];
    let pairs = [
        [TARGETS, to_target],
        [BYSTANDERS, of_target],
        [of_target, BYSTANDERS],
        [PEERS, CONNECTED],
    ];
    let any = [0, 1].map(|_| dice.of(&ports));
    let [from, to] = if dice.one_in(2) { any } else { dice.of(&pairs) };
    let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
    let mut place = ETHERNET + if is_v4 { 20 } else { 40 };
    let mut facts = Facts::NONE;
    let ether_type = u16::from_ne_bytes([frame[12], frame[13]]);
    let l2_len = test_run::L2_LEN;
    if reading::parse(&Frame(frame, 0), ether_type, l2_len, &mut facts) {
        place = facts.transport_offset.min(facts.payload_offset) as usize;
    }
    put(frame, place, &[from, to].concat());
}

/// Writes bytes as far as there is room.
fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    for (place, byte) in frame.iter_mut().skip(at).zip(bytes) {
        *place = *byte;
    }
}

/// Whose a packet is that arrives.
fn found(frame: &[u8], packet: &Packet, sockets: &[Sockets; 2]) -> Found {
    let mut facts = Facts::NONE;
    let (ether_type, l2_len) = (packet.ether_type, test_run::L2_LEN);
    if !reading::parse(
        &Frame(frame, packet.gso_size),
        ether_type,
        l2_len,
        &mut facts,
    ) {
        return Found::Nothing;
    }
    let sockets = &sockets[usize::from(facts.family == 6)];
    if facts.is_fragment() {
        // Nobody's, but not counted where all that is missing is what its length leaves out,
        // and the rest is a bystander's.
        let seeming = seeming_owner(&frame[ETHERNET..], sockets);
        return match seeming {
            Some(Found::Bystanders) => Found::Bystanders,
            _ => Found::Nobodys,
        };
    }
    if !matches!(facts.number, TCP | UDP) {
        let is_tunnel = matches!(facts.number, 4 | 41 | 47 | 50);
        return if is_tunnel {
            Found::Nothing
        } else {
            Found::Nobodys
        };
    }
    owner_at(
        &frame[ETHERNET..],
        facts.transport_offset as usize - ETHERNET,
        facts.number,
        sockets,
    )
}

/// Whose a packet would be by the bytes where most have their ports.
fn seeming_owner(bytes: &[u8], sockets: &Sockets) -> Option<Found> {
    let is_v4 = bytes[0] >> 4 == 4;
    let (ports, number) = if is_v4 {
        (20, bytes[9])
    } else {
        (40, bytes[6])
    };
    let later = is_v4 && u16::from_be_bytes([bytes[6], bytes[7]]) & 0x1fff != 0;
    let plain = !later && (!is_v4 || bytes[0] == 0x45) && matches!(number, TCP | UDP);
    (plain && bytes.len() >= ports + 4).then(|| owner_at(bytes, ports, number, sockets))
}

/// Whose a packet is that has its ports there.
fn owner_at(bytes: &[u8], ports: usize, number: u8, sockets: &Sockets) -> Found {
    let [from, to] = [0, 1].map(|end| {
        let address: IpAddr = if bytes[0] >> 4 == 4 {
            let address: [u8; 4] = bytes[12 + end * 4..][..4].try_into().expect("four bytes");
            address.into()
        } else {
            let address: [u8; 16] = bytes[8 + end * 16..][..16].try_into().expect("16 bytes");
            address.into()
        };
        let port = [bytes[ports + end * 2], bytes[ports + end * 2 + 1]];
        SocketAddr::new(address, u16::from_be_bytes(port))
    });
    sockets.owner(number, from, to)
}
