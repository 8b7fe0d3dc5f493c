//! The values of loss models.

use std::{fmt, str::FromStr};

use injector_common::faults::{
    net_loss::{CERTAIN, Gilbert, Markov},
    net_refuse::FIXED_ERRNO,
};

use crate::{
    model::{Errno, Visibility},
    spec::{
        percent::{self, Percent},
        text::{ValueError, word},
    },
};

/// A share from 0 to 100 %, out of 2^31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(pub u32);

const SHARE_ALLOWED: &str = "a percentage from 0 to 100, such as 25 or 0.1";

impl FromStr for Share {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.strip_suffix('%').unwrap_or(text).trim_end();
        let is_zero = number.bytes().any(|byte| byte == b'0')
            && number.bytes().all(|byte| matches!(byte, b'0' | b'.'))
            && number.parse::<f32>().is_ok();
        if is_zero {
            return Ok(Self(0));
        }
        let percent: Percent = text.parse().map_err(|error: ValueError| ValueError {
            allowed: SHARE_ALLOWED.into(),
            ..error
        })?;
        // From 32 bits to 31, rounded up: only 0 is never.
        Ok(Self(
            u32::try_from(percent.threshold.div_ceil(2)).unwrap_or(CERTAIN),
        ))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            0 => "0 %".to_owned(),
            share => percent::shortest(u64::from(share) * 2, |text| text.parse() == Ok(*self)),
        };
        f.write_str(&text)
    }
}

/// Reads `least` to `N` shares, separated by commas.
fn shares<const N: usize>(
    text: &str,
    least: usize,
    allowed: &'static str,
) -> Result<[Option<u32>; N], ValueError> {
    let mut shares = [None; N];
    let mut parts = text.split(',');
    for share in &mut shares {
        let Some(part) = parts.next() else { break };
        let read: Share = part
            .trim()
            .parse()
            .map_err(|error: ValueError| ValueError {
                allowed: allowed.into(),
                ..error
            })?;
        *share = Some(read.0);
    }
    let given = shares.iter().flatten().count();
    if parts.next().is_some() || given < least {
        return Err(ValueError::new(
            text,
            "has too few or too many parts",
            allowed,
        ));
    }
    Ok(shares)
}

/// The Gilbert-Elliott model, as tc-netem(8) writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst(pub Gilbert);

const BURST_ALLOWED: &str =
    "p,r[,1-h[,1-k]] in percent, as `tc qdisc … netem loss gemodel` has them, such as 1,25";

impl FromStr for Burst {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let [p, r, bad, good] = shares(text, 1, BURST_ALLOWED)?;
        let p = p.unwrap_or(0);
        if p == 0 {
            return Err(ValueError::new(text, "never begins a burst", BURST_ALLOWED));
        }
        let r = r.unwrap_or(CERTAIN - p);
        let (bad, good) = (bad.unwrap_or(CERTAIN), good.unwrap_or(0));
        if bad == 0 && good == 0 {
            return Err(ValueError::new(text, "never loses a packet", BURST_ALLOWED));
        }
        Ok(Self(Gilbert { p, r, bad, good }))
    }
}

/// The chain of four states, as tc-netem(8) writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(pub Markov);

const STATES_ALLOWED: &str = "p13[,p31[,p32[,p23[,p14]]]] in percent, as `tc qdisc … netem loss state` has them, with \
     p13 + p14 and p31 + p32 at most 100, such as 1,20,5,60";

impl FromStr for States {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let [p13, p31, p32, p23, p14] = shares(text, 1, STATES_ALLOWED)?;
        let p13 = p13.unwrap_or(0);
        let model = Markov {
            p13,
            p31: p31.unwrap_or(CERTAIN - p13),
            p32: p32.unwrap_or(0),
            p23: p23.unwrap_or(CERTAIN),
            p14: p14.unwrap_or(0),
        };
        let too_much = |a: u32, b: u32| u64::from(a) + u64::from(b) > u64::from(CERTAIN) + 1;
        if too_much(model.p13, model.p14) || too_much(model.p31, model.p32) {
            return Err(ValueError::new(
                text,
                "leaves a state in more than 100 %",
                STATES_ALLOWED,
            ));
        }
        if model.p13 == 0 && model.p14 == 0 {
            return Err(ValueError::new(
                text,
                "never loses a packet",
                STATES_ALLOWED,
            ));
        }
        Ok(Self(model))
    }
}

impl FromStr for Visibility {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Some(name) = text.strip_prefix("errno=") {
            let errno: Errno = name.parse()?;
            return if errno.value == FIXED_ERRNO {
                Ok(Self::Call)
            } else {
                Err(no_other_errno(text, errno))
            };
        }
        let words = [("silent", Self::Silent), ("local", Self::Local)];
        word(text, &words, "silent, local or errno=EPERM")
    }
}

/// Why a call that sends a packet cannot fail with this error, and what can be had
/// instead.
fn no_other_errno(text: &str, errno: Errno) -> ValueError {
    let mut allowed =
        "errno=EPERM; net-refuse fails connect with any error, and sys-errno the calls that send"
            .to_owned();
    if errno.name == "ENOBUFS" {
        allowed += "; local is ENOBUFS for sockets with IP_RECVERR";
    }
    let what = "cannot be had: the kernel lets a program choose no error for a packet but EPERM";
    ValueError::new(text, what, allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused<T: FromStr<Err = ValueError> + fmt::Debug>(text: &str, why: &str) {
        let error = text.parse::<T>().expect_err(text);
        assert!(error.problem.contains(why), "{text}: {error}");
    }

    #[test]
    fn shares_are_read_from_zero_to_all() {
        for (text, share) in [
            ("0", 0),
            ("0.00%", 0),
            ("100", CERTAIN),
            ("50%", CERTAIN / 2),
            ("0.0000001", 2),
        ] {
            assert_eq!(text.parse(), Ok(Share(share)), "{text}");
        }
        for text in [
            "0",
            "100",
            "1",
            "25",
            "0.1",
            "33.3",
            "99.999999",
            "0.0000001",
        ] {
            let share: Share = text.parse().expect(text);
            assert_eq!(share.to_string(), format!("{text} %"));
        }
        // Between two that can be written there may be one that cannot.
        for share in [1, CERTAIN - 1, CERTAIN / 3] {
            let told = Share(share).to_string();
            let again: Share = told.parse().expect("a share");
            assert!(again.0.abs_diff(share) <= 1, "{told}");
        }
        refused::<Share>("-1", "is negative");
        refused::<Share>("101", "is more than 100");
        refused::<Share>("", "is not a percentage");
        refused::<Share>(".", "is not a percentage");
    }

    #[test]
    fn bursts_have_tcs_defaults() {
        let burst = |p, r, bad, good| Ok(Burst(Gilbert { p, r, bad, good }));
        let quarter = CERTAIN / 4;
        assert_eq!("25".parse(), burst(quarter, CERTAIN - quarter, CERTAIN, 0));
        assert_eq!("25,50".parse(), burst(quarter, CERTAIN / 2, CERTAIN, 0));
        assert_eq!(
            "25%, 50%, 50%, 0%".parse(),
            burst(quarter, CERTAIN / 2, CERTAIN / 2, 0)
        );
        refused::<Burst>("0,50", "never begins");
        refused::<Burst>("1,2,3,4,5", "too many");
        refused::<Burst>("", "is not a percentage");
        refused::<Burst>("1,2,0,0", "never loses");
        refused::<Burst>("1,,3", "is not a percentage");
    }

    #[test]
    fn a_call_fails_with_eperm_or_not_at_all() {
        for (text, visibility) in [
            ("silent", Visibility::Silent),
            ("local", Visibility::Local),
            ("errno=EPERM", Visibility::Call),
            ("errno=1", Visibility::Call),
        ] {
            assert_eq!(text.parse(), Ok(visibility), "{text}");
        }
        for text in ["errno=EIO", "errno=ENOBUFS", "errno=2"] {
            refused::<Visibility>(text, "no error for a packet but EPERM");
        }
        let error = "errno=ENOBUFS".parse::<Visibility>().expect_err("no such");
        assert!(error.allowed.contains("IP_RECVERR"), "{error}");
        for text in ["errno=EBOGUS", "errno=", "errno=134", "errno=eperm"] {
            refused::<Visibility>(text, "");
        }
        for text in ["", "errno", "EPERM", "Silent"] {
            refused::<Visibility>(text, "is not one of the words");
        }
    }

    #[test]
    fn chains_have_tcs_defaults() {
        let quarter = CERTAIN / 4;
        let chain = |text: &str| text.parse::<States>().map(|states| states.0);
        assert_eq!(
            chain("25"),
            Ok(Markov {
                p13: quarter,
                p31: CERTAIN - quarter,
                p32: 0,
                p23: CERTAIN,
                p14: 0
            })
        );
        assert!(chain("1,20,5,60,0.5").is_ok());
        refused::<States>("60,20,5,60,50", "more than 100 %");
        refused::<States>("1,60,50", "more than 100 %");
        refused::<States>("0", "never loses");
    }
}
