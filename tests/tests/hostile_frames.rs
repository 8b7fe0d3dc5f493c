//! Hostile frames on the cable of a target and a bystander, as their peer sends them: the
//! target loses those that are its own by another account, and the bystander none.

#[path = "../../injector-common/tests/support/dice.rs"]
mod dice;
#[path = "../../injector-common/tests/support/hostile.rs"]
#[expect(dead_code, reason = "no super-packet is on a cable")]
mod hostile;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, TcpListener, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    thread,
    time::Duration,
};

use dice::{Dice, PACKETS, seed};
use hostile::packet;
use injector_common::packet::{self as reading, Facts};
use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    kernel::Where,
    netns::{Ip, Netns, Pair},
    require,
    test_run::{self, ETHERNET, Frame},
    traffic::{TcpFlow, UdpFlow},
    wait,
};
use nix::{
    net::if_::if_nametoindex,
    sys::socket::{setsockopt, sockopt::RcvBufForce},
};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where the target waits, and where the bystander does.
const TARGETS: u16 = 7001;
const BYSTANDERS: u16 = 7002;

/// How many frames are sent before the receiver is looked after.
const ROUND: u64 = 100;

fn frames() -> u64 {
    if Where::current().is_virtual() {
        PACKETS / 200
    } else {
        PACKETS / 10
    }
}

#[test]
fn a_target_loses_hostile_frames_and_a_bystander_none() {
    require!(NetLoss);
    let seed = seed();
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let (near, far) = (Place::netns(&pair.near), Place::netns(&pair.far));
    let ends = [Ip::V4, Ip::V6].map(Pair::near_address);
    let targets = ends.map(|address| {
        let mut flow = UdpFlow::new(
            (Pair::far_address(Ip::V4), TARGETS).into(),
            (address, TARGETS).into(),
        );
        flow.start_receiver(near.and_cgroup(&cgroup));
        let to = (address, TARGETS).into();
        let stream = TcpFlow::start_kept(far, near.and_cgroup(&cgroup), to);
        let arrived = stream.round(1000);
        assert_eq!((arrived.bytes, arrived.bad_bytes), (1000, 0));
        (flow, stream)
    });
    // Somebody else's too, or all packets there were the target's.
    let _resident = near.spawn("sleep", &["600"]);
    let bystander = Bystander::open(&pair.near, ends);
    let wire = Wire::open(&pair);

    let target = cgroup.target();
    let line = ["net-loss", "--direction", "ingress", "--target", &target];
    let injection = Injection::start(&[&line[..], &["--for", "120s"]].concat());
    let (mut lost, mut nobodys) = (0, 0);
    let (mut expected, mut arrived) = (BTreeSet::new(), BTreeSet::new());
    for number in 0..frames() {
        let dice = &mut Dice::new(seed, number);
        let frame = if dice.one_in(5) {
            expected.insert(number);
            wire.honest(ends[0], number)
        } else {
            wire.hostile(dice, number, seed, ends)
        };
        match found(&frame, ends) {
            Found::Targets => lost += 1,
            Found::Nobodys => nobodys += 1,
            Found::Bystanders | Found::Nothing => {}
        }
        wire.send(&frame);
        if number.is_multiple_of(ROUND) {
            // A queue of the kernel's would overflow.
            thread::sleep(Duration::from_millis(1));
            bystander.take(&mut arrived);
        }
    }
    wait::until("the bystander's packets", || {
        bystander.take(&mut arrived);
        expected.is_subset(&arrived).then_some(())
    });
    let report = injection.stop().report();
    println!(
        "{lost} were the target's, {nobodys} nobody's, {} reached the bystander",
        arrived.len()
    );
    let rule = report.only();
    assert_eq!((rule.matched, rule.injected), (lost, lost));
    assert!(lost > frames() / 50 && nobodys > frames() / 50);
    // The kernels at both ends say more than was asked of them.
    let counted = report.unattributed.expect("a count").ingress;
    assert!(counted >= nobodys, "{counted} of {nobodys}");
    for (_, stream) in &targets {
        let arrived = stream.round(1000);
        assert_eq!((arrived.bytes, arrived.bad_bytes), (1000, 0));
    }
}

/// Sockets that no rule is aimed at.
struct Bystander {
    udp: [UdpSocket; 2],
    _listeners: [TcpListener; 2],
}

impl Bystander {
    fn open(near: &Netns, ends: [IpAddr; 2]) -> Self {
        let (udp, listeners) = near.enter(|| {
            let udp = ends.map(|end| UdpSocket::bind((end, BYSTANDERS)).expect("a socket"));
            let listeners = ends
                .map(|end| TcpListener::bind((end, BYSTANDERS)).expect("a socket that listens"));
            (udp, listeners)
        });
        for socket in &udp {
            socket.set_nonblocking(true).expect("do not wait");
            setsockopt(socket, RcvBufForce, &(8 << 20)).expect("enlarge the receive buffer");
        }
        Self {
            udp,
            _listeners: listeners,
        }
    }

    /// Adds the numbers of honest packets that have arrived.
    fn take(&self, arrived: &mut BTreeSet<u64>) {
        let mut bytes = [0; 2048];
        for socket in &self.udp {
            loop {
                match socket.recv(&mut bytes) {
                    Ok(8) => {
                        let number = bytes.first_chunk().expect("eight bytes");
                        arrived.insert(u64::from_be_bytes(*number));
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

/// The far end of the cable, below all that the kernel there would say of a packet.
struct Wire {
    socket: OwnedFd,
    index: i32,
    /// The hardware addresses of the near end and of the far one.
    addresses: Vec<u8>,
}

impl Wire {
    fn open(pair: &Pair) -> Self {
        let address = |netns: &Netns, link| {
            let shown = netns.ip(&["-o", "link", "show", "dev", link]);
            let mut words = shown.split_whitespace();
            words.find(|word| *word == "link/ether").expect("Ethernet");
            let address = words.next().expect("an address").to_owned();
            let byte = |digits| u8::from_str_radix(digits, 16).expect("a byte");
            address.split(':').map(byte).collect::<Vec<_>>()
        };
        let addresses = [
            address(&pair.near, Pair::NEAR_LINK),
            address(&pair.far, Pair::FAR_LINK),
        ]
        .concat();
        let (socket, index) = pair.far.enter(|| {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            // SAFETY: makes a descriptor, which nobody else has.
            let socket = unsafe {
                let socket = libc::socket(libc::AF_PACKET, kind, 0);
                assert!(socket >= 0, "{}", io::Error::last_os_error());
                OwnedFd::from_raw_fd(socket)
            };
            (
                socket,
                if_nametoindex(Pair::FAR_LINK).expect("an interface"),
            )
        });
        Self {
            socket,
            index: i32::try_from(index).expect("a small index"),
            addresses,
        }
    }

    /// A datagram for the bystander of which everything is right, with a number.
    fn honest(&self, to: IpAddr, number: u64) -> Vec<u8> {
        let (IpAddr::V4(to), IpAddr::V4(from)) = (to, Pair::far_address(Ip::V4)) else {
            panic!("{to} is no IPv4 address");
        };
        let mut header = vec![0x45, 0, 0, 36, 0, 1, 0x40, 0, 64, UDP, 0, 0];
        header.extend(from.octets());
        header.extend(to.octets());
        let words = header.chunks(2).map(|word| [word[0], word[1]]);
        let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(word))).sum();
        let [_, _, high, low] = (!((sum >> 16) + (sum & 0xffff))).to_be_bytes();
        [header[10], header[11]] = [high, low];
        let ports = [9_u16, BYSTANDERS].map(u16::to_be_bytes).concat();
        // No checksum.
        let rest = [&ports[..], &[0, 16, 0, 0], &number.to_be_bytes()].concat();
        [&self.addresses[..], &[8, 0], &header, &rest].concat()
    }

    /// A hostile frame with ports and addresses of somebody's, wherever there are any.
    fn hostile(&self, dice: &mut Dice, number: u64, seed: u64, ends: [IpAddr; 2]) -> Vec<u8> {
        let packet = packet(seed, number);
        let bytes = packet.bytes.get(packet.l2_len as usize..);
        let bytes = bytes.unwrap_or_default();
        let is_v6 = bytes.first().is_some_and(|byte| byte >> 4 == 6);
        let ether_type = packet.ether_type;
        let mut frame = [&self.addresses[..], &ether_type.to_ne_bytes(), bytes].concat();
        let ip = if is_v6 { Ip::V6 } else { Ip::V4 };
        let near = ends[usize::from(is_v6)];
        let strange = Pair::far_address(ip);
        let to = dice.of(&[near, near, near, near, near, strange]);
        let (at, addresses) = match (strange, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => (12, [from.octets(), to.octets()].concat()),
            (IpAddr::V6(from), IpAddr::V6(to)) => (8, [from.octets(), to.octets()].concat()),
            _ => panic!("addresses of two kinds"),
        };
        put(&mut frame, ETHERNET + at, &addresses);
        let mut facts = Facts::NONE;
        let l2_len = test_run::L2_LEN;
        if reading::parse(&Frame(&frame, 0), ether_type, l2_len, &mut facts)
            && matches!(facts.number, TCP | UDP)
        {
            let place = facts.transport_offset.min(facts.payload_offset) as usize;
            let port: u16 = dice.of(&[TARGETS, TARGETS, BYSTANDERS, 7003]);
            put(&mut frame, place + 2, &port.to_be_bytes());
        }
        frame
    }

    #[track_caller]
    fn send(&self, frame: &[u8]) {
        // SAFETY: all zero is a valid address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).expect("16 bits");
        address.sll_ifindex = self.index;
        let size = u32::try_from(size_of::<libc::sockaddr_ll>()).expect("small");
        // SAFETY: the address and the frame have the sizes that are stated.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size,
            )
        };
        let error = io::Error::last_os_error();
        assert_eq!(usize::try_from(sent), Ok(frame.len()), "{error}");
    }
}

/// Writes bytes as far as there is room.
fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    for (place, byte) in frame.iter_mut().skip(at).zip(bytes) {
        *place = *byte;
    }
}

/// Whose a frame is.
enum Found {
    /// It brings no packet, or one that no rule hits.
    Nothing,
    Targets,
    Bystanders,
    Nobodys,
}

/// By its addresses and ports, at the place where the reading says that they are.
fn found(frame: &[u8], ends: [IpAddr; 2]) -> Found {
    let mut facts = Facts::NONE;
    let ether_type = u16::from_ne_bytes([frame[12], frame[13]]);
    let l2_len = test_run::L2_LEN;
    if !reading::parse(&Frame(frame, 0), ether_type, l2_len, &mut facts)
        || facts.protected != 0
        || facts.is_fragment()
        || !matches!(facts.number, TCP | UDP)
    {
        return Found::Nothing;
    }
    let place = facts.transport_offset as usize + 2;
    let to: IpAddr = if facts.family == 4 {
        let address: [u8; 4] = frame[ETHERNET + 16..][..4].try_into().expect("four bytes");
        address.into()
    } else {
        let address: [u8; 16] = frame[ETHERNET + 24..][..16].try_into().expect("16 bytes");
        address.into()
    };
    let port = u16::from_be_bytes([frame[place], frame[place + 1]]);
    match port {
        _ if !ends.contains(&to) => Found::Nobodys,
        TARGETS => Found::Targets,
        BYSTANDERS => Found::Bystanders,
        _ => Found::Nobodys,
    }
}
