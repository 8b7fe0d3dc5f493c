//! DNS victims: one asks, the other is the name server.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    str::FromStr,
    sync::atomic::Ordering::{Relaxed, Release},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use injector_common::dns::{TYPE_A, TYPE_AAAA};

use super::{serving, udp::READY};
use crate::board::Board;

/// What a name server that nobody disturbs answers.
const GENUINE: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(203, 0, 113, 9),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x99),
);
const GENUINE_TTL: u32 = 60;
/// Bit of a header that only this server sets: it has authority.
const AUTHORITY: u8 = 0x04;
/// The addresses that tests choose instead, as the command line has them.
pub const CHOSEN_ADDRESSES: &str = "192.0.2.7,2001:db8::7";
/// How long these may be kept, in seconds.
pub const CHOSEN_TTL: u32 = 30;
const CHOSEN: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(192, 0, 2, 7),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7),
);

/// Stands on the board, where error numbers stand, for a truncated answer.
/// Response codes stand for themselves.
pub const TRUNCATED: u32 = 100;
/// There was no answer.
pub const NO_ANSWER: u32 = 101;
/// The answer was one of the chosen addresses.
pub const CHOSEN_ANSWER: u32 = 102;
/// The answer had no address.
pub const NO_ADDRESS: u32 = 103;
/// What came was no answer to the question, or the connection went on after it.
pub const WRONG: u32 = 104;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(1200);

/// One question.
#[derive(Clone, Debug)]
pub struct Question {
    name: String,
    kind: u16,
}

impl FromStr for Question {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, kind) = text.split_once('/').context("no type")?;
        let kind = match kind {
            "A" => TYPE_A,
            "AAAA" => TYPE_AAAA,
            number => number.parse()?,
        };
        let name = name.to_owned();
        Ok(Self { name, kind })
    }
}

/// Options of one who asks.
#[derive(Debug, clap::Args)]
pub struct AskOptions {
    /// Address and port of the name server
    #[arg(long)]
    pub to: SocketAddr,
    /// Ask over TCP
    #[arg(long)]
    pub tcp: bool,
    /// Ask over TCP for each name's IPv4 and IPv6 address, both at once
    #[arg(long)]
    pub pair: bool,
    /// Say that EDNS is known, with an option
    #[arg(long)]
    pub edns: bool,
    /// What to ask: NAME/TYPE
    #[arg(long, value_delimiter = ',')]
    pub questions: Vec<Question>,
}

/// Options of a name server.
#[derive(Debug, clap::Args)]
pub struct ServeOptions {
    /// Address and port to listen on, by UDP and TCP
    #[arg(long)]
    pub on: SocketAddr,
}

/// Asks every question so many times per round, and records the answers to each
/// as one actor's.
///
/// # Errors
///
/// When no socket can be made, or there are more questions than actors.
pub fn ask(board: &Board, rounds: u32, options: &AskOptions) -> anyhow::Result<()> {
    board.flow.receiver_round.store(READY, Release);
    let mut last = 0;
    for _ in 0..rounds {
        let Some(round) = board.next_round(last) else {
            break;
        };
        for _ in 0..board.count.load(Relaxed) {
            for (question, actor) in options.questions.iter().zip(&board.actors) {
                let begin = Instant::now();
                let outcome = one(options, question);
                let took = u64::try_from(begin.elapsed().as_nanos())?;
                board.flow.min_delay_ns.fetch_min(took, Relaxed);
                actor.record(outcome);
            }
        }
        board.flow.sender_round.store(round, Release);
        last = round;
    }
    Ok(())
}

fn one(options: &AskOptions, question: &Question) -> Result<(), u32> {
    let exchange = |queries: &[Vec<u8>]| match options.tcp || options.pair {
        true => by_tcp(options.to, queries),
        false => by_udp(options.to, &queries[0]).map(|answer| vec![answer]),
    };
    let kinds = match options.pair {
        true => vec![TYPE_A, TYPE_AAAA],
        false => vec![question.kind],
    };
    let queries: Vec<Vec<u8>> = kinds
        .iter()
        .map(|kind| query(&question.name, *kind, options.edns))
        .collect();
    let answers = exchange(&queries).map_err(|_| NO_ANSWER)?;
    let outcomes = queries.iter().zip(&kinds).zip(&answers);
    let mut outcomes = outcomes.map(|((query, kind), answer)| judge(query, *kind, answer));
    let first = outcomes.next().unwrap_or(Err(WRONG));
    if outcomes.any(|other| other != first) {
        return Err(WRONG);
    }
    first
}

fn query(name: &str, kind: u16, edns: bool) -> Vec<u8> {
    // Recursion is desired.
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, edns.into()];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    if edns {
        // Its size is 1232, DNSSEC is wanted, and there is a cookie of a client.
        bytes.extend([0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0, 0, 12, 0, 10, 0, 8]);
        bytes.extend(*b"a cookie");
    }
    bytes
}

/// What an answer says; `Ok` if it is the name server's own.
fn judge(query: &[u8], kind: u16, answer: &[u8]) -> Result<(), u32> {
    let question_end = 12 + name_len(&query[12..]) + 4;
    let (Some(head), Some(question)) = (answer.get(..12), answer.get(12..question_end)) else {
        return Err(WRONG);
    };
    // A response to this query, with recursion.
    if head[..2] != query[..2]
        || head[2] & 0xf9 != 0x81
        || head[3] & 0xf0 != 0x80
        || head[4..6] != [0, 1]
        || question != &query[12..question_end]
    {
        return Err(WRONG);
    }
    let mut rest = &answer[question_end..];
    let record = if head[7] == 1 {
        read_record(&mut rest)
    } else {
        None
    };
    let own = head[2] & AUTHORITY != 0;
    // The server of these tests knows nothing of EDNS.
    let knows_edns = !own && query[11] == 1;
    let opt: &[u8] = if knows_edns {
        &[0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0, 0, 0]
    } else {
        &[]
    };
    if rest != opt || head[11] != u8::from(knows_edns) {
        return Err(WRONG);
    }
    let address = kind == TYPE_A || kind == TYPE_AAAA;
    match (head[3] & 0x0f, record) {
        (0, Some(record)) if own && is_of(&record, GENUINE_TTL, kind, GENUINE) => Ok(()),
        (0, None) if own && !address => Ok(()),
        _ if own => Err(WRONG),
        (0, None) if head[2] & 2 != 0 => Err(TRUNCATED),
        (0, None) => Err(NO_ADDRESS),
        (0, Some(record)) if is_of(&record, CHOSEN_TTL, kind, CHOSEN) => Err(CHOSEN_ANSWER),
        (code, None) => Err(code.into()),
        (_, Some(_)) => Err(WRONG),
    }
}

/// Time to live and data of a record about the question's name.
type Record = (u32, Vec<u8>);

fn read_record(rest: &mut &[u8]) -> Option<Record> {
    let (head, data) = rest.split_at_checked(12)?;
    if head[..2] != [0xc0, 0x0c] || head[4..6] != [0, 1] {
        return None;
    }
    let ttl = u32::from_be_bytes([head[6], head[7], head[8], head[9]]);
    let (data, behind) = data.split_at_checked(head[11].into())?;
    let kind = u16::from_be_bytes([head[2], head[3]]);
    let fits = (kind, data.len()) == (TYPE_A, 4) || (kind, data.len()) == (TYPE_AAAA, 16);
    *rest = behind;
    fits.then(|| (ttl, data.to_vec()))
}

/// Whether a record has this time to live and one of these addresses.
fn is_of(record: &Record, ttl: u32, kind: u16, (v4, v6): (Ipv4Addr, Ipv6Addr)) -> bool {
    let data = if kind == TYPE_A {
        v4.octets().to_vec()
    } else {
        v6.octets().to_vec()
    };
    *record == (ttl, data)
}

/// Length of a name on the wire.
fn name_len(bytes: &[u8]) -> usize {
    let mut len = 0;
    while let Some(label) = bytes.get(len).filter(|label| **label != 0) {
        len += 1 + usize::from(*label);
    }
    len + 1
}

fn by_udp(to: SocketAddr, query: &[u8]) -> anyhow::Result<Vec<u8>> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(query)?;
    let mut bytes = vec![0; 2048];
    let len = socket.recv(&mut bytes)?;
    bytes.truncate(len);
    Ok(bytes)
}

/// Sends queries in one segment, and reads as many answers.
fn by_tcp(to: SocketAddr, queries: &[Vec<u8>]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = Vec::new();
    for query in queries {
        bytes.extend(u16::try_from(query.len())?.to_be_bytes());
        bytes.extend(query);
    }
    stream.write_all(&bytes)?;
    let mut answers = Vec::new();
    for _ in queries {
        answers.push(read_message(&mut stream)?);
    }
    Ok(answers)
}

fn read_message(stream: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut bytes = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Answers every query for an address with the same one, and counts queries and
/// open connections.
///
/// # Errors
///
/// When the port cannot be listened on.
pub fn serve(board: &Board, options: &ServeOptions) -> anyhow::Result<()> {
    let count_and_reply = |query: &[u8]| {
        board.flow.sent.fetch_add(1, Relaxed);
        reply(query)
    };
    serving::serve(board, options.on, count_and_reply, |stream| {
        board.flow.bytes.fetch_add(1, Relaxed);
        // It ends with its client, one way or the other.
        let _ = serve_one(board, stream);
        board.flow.bytes.fetch_sub(1, Relaxed);
    })
}

fn serve_one(board: &Board, mut stream: TcpStream) -> anyhow::Result<()> {
    loop {
        let query = read_message(&mut stream)?;
        board.flow.sent.fetch_add(1, Relaxed);
        let reply = reply(&query);
        let mut bytes = u16::try_from(reply.len())?.to_be_bytes().to_vec();
        bytes.extend(reply);
        if stream.write(&bytes)? != bytes.len() {
            bail!("an answer of some bytes fits");
        }
    }
}

fn reply(query: &[u8]) -> Vec<u8> {
    let name_end = 12 + name_len(&query[12..]);
    let data = match query[name_end..name_end + 2] {
        [0, 1] => GENUINE.0.octets().to_vec(),
        [0, 28] => GENUINE.1.octets().to_vec(),
        _ => Vec::new(),
    };
    let records = u8::from(!data.is_empty());
    let mut bytes = query[..2].to_vec();
    bytes.extend([0x81 | AUTHORITY, 0x80, 0, 1, 0, records, 0, 0, 0, 0]);
    bytes.extend(&query[12..name_end + 4]);
    if records == 1 {
        bytes.extend([0xc0, 0x0c]);
        bytes.extend(&query[name_end..name_end + 4]);
        bytes.extend([0, 0, 0, 60, 0, u8::try_from(data.len()).unwrap_or(0)]);
        bytes.extend(data);
    }
    bytes
}
