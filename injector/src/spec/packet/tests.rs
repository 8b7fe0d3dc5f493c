//! Values of packet filters, right and wrong.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn refused<T: FromStr<Err = ValueError> + fmt::Debug>(texts: &[&str], allowed: &str) {
    for text in texts {
        let error = text.parse::<T>().expect_err(text);
        assert!(error.allowed.contains(allowed), "{text}: {error}");
    }
}

#[test]
fn protocols() {
    let parse = |text: &str| text.parse::<Proto>();
    assert_eq!(parse("any"), Ok(Proto::Any));
    for (text, protocol) in [
        ("tcp", Protocol::Tcp),
        ("6", Protocol::Tcp),
        ("17", Protocol::Udp),
        ("icmp", Protocol::Icmp),
        ("1", Protocol::Number(1)),
        ("58", Protocol::Number(58)),
        ("132", Protocol::Number(132)),
        ("255", Protocol::Number(255)),
        ("0", Protocol::Number(0)),
    ] {
        assert_eq!(parse(text), Ok(Proto::One(protocol)), "{text}");
    }
    refused::<Proto>(&["", "TCP", "sctp", "256", "-1", "+6", "1.5"], "0 to 255");
    refused::<Signed<Proto>>(&["!", "!!tcp", "! tcp", "!x"], "0 to 255");
}

#[test]
fn code_points() {
    for (text, point) in [
        ("0", 0),
        ("63", 63),
        ("ef", 46),
        ("cs0", 0),
        ("cs7", 56),
        ("af11", 10),
        ("af43", 38),
    ] {
        assert_eq!(text.parse(), Ok(Dscp(point)), "{text}");
    }
    assert_eq!(
        (Dscp(46).to_string(), Dscp(5).to_string()),
        ("ef".into(), "5".into())
    );
    refused::<Dscp>(
        &["64", "af14", "af51", "cs8", "EF", "", "-1", "+1"],
        "0 to 63",
    );
}

#[test]
fn marks() {
    let mark = |value, mask, negated| {
        let value = Mark { value, mask };
        Ok(Signed { negated, value })
    };
    for (text, parsed, told) in [
        ("7", mark(7, u32::MAX, false), "0x7"),
        ("!0x10/0xf0", mark(0x10, 0xf0, true), "0x10/0xf0"),
        ("0/1", mark(0, 1, false), "0x0/0x1"),
        ("0xffffffff", mark(u32::MAX, u32::MAX, false), "0xffffffff"),
    ] {
        assert_eq!(text.parse(), parsed, "{text}");
        assert_eq!(parsed.expect("a mark").value.to_string(), told);
    }
    let bad = [
        "",
        "0x",
        "x",
        "1/",
        "/1",
        "1/0",
        "0x10/0x0f",
        "4294967296",
        "-1",
        "+1",
        "0x+1",
        "1/2/3",
        "!!1",
    ];
    refused::<Signed<Mark>>(&bad, "VALUE/MASK");
}

#[test]
fn sizes() {
    let sizes = |first, last, negated| {
        let value = Sizes { first, last };
        Ok(Signed { negated, value })
    };
    for (text, parsed) in [
        ("1500", sizes(1500, 1500, false)),
        ("!20-1000", sizes(20, 1000, true)),
        ("20-65575", sizes(20, 65_575, false)),
    ] {
        assert_eq!(text.parse(), parsed, "{text}");
        let told = parsed.expect("sizes").value.to_string();
        assert_eq!(text.trim_start_matches('!'), told);
    }
    let bad = [
        "", "19", "0", "65576", "100-99", "-5", "5-", "1k", "+50", "50-60-70",
    ];
    refused::<Signed<Sizes>>(&bad, "20 to 65575");
}

#[test]
fn flags() {
    let flags = |set, clear| Ok(TcpFlags { set, clear });
    assert_eq!("syn".parse(), flags(0x02, 0));
    assert_eq!("syn,!ack".parse(), flags(0x02, 0x10));
    assert_eq!("!fin, rst,cwr".parse(), flags(0x84, 0x01));
    assert_eq!(
        "!ack,syn".parse::<TcpFlags>().map(|f| f.to_string()),
        Ok("syn,!ack".into())
    );
    refused::<TcpFlags>(
        &["", "syn,", "SYN", "syn,!syn", "!!ack", "syn ack", "ns"],
        "fin, syn, rst",
    );
}

#[test]
fn repeated_values_count_once() {
    let values = |texts: &[&str]| -> Vec<Text<Signed<Dscp>>> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    let chosen = choice(&values(&["ef", "!5", "1", "46", "!5"]), |point| point.0);
    assert_eq!(
        chosen,
        Ok(Choice {
            these: vec![46, 1],
            not: vec![5]
        })
    );
    assert_eq!(
        choice(&values(&["ef", "!46"]), |point| point),
        Err(Dscp(46))
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in "(\\PC*|[!0-9a-fx/,-]{0,20})") {
        let _ = text.parse::<Signed<Proto>>();
        let _ = text.parse::<Signed<Dscp>>();
        let _ = text.parse::<Signed<Mark>>();
        let _ = text.parse::<Signed<Sizes>>();
        let _ = text.parse::<TcpFlags>();
        let _ = text.parse::<Signed<State>>();
        let _ = text.parse::<Signed<crate::model::Direction>>();
    }

    #[test]
    fn flags_say_what_they_were_made_of(set in any::<u8>(), clear in any::<u8>()) {
        let flags = TcpFlags { set, clear: clear & !set };
        prop_assume!(flags.set | flags.clear != 0);
        prop_assert_eq!(flags.to_string().parse(), Ok(flags));
    }
}
