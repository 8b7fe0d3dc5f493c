//! What `injector doctor` found out.

use injector_common::FaultKind;
use serde::Serialize;

use super::table;
use crate::{error::NEEDED_CAPABILITIES, faults::plausible, model::Syscall};

pub use crate::plan::features::{CallProbe, Probe, Support as ProbeState};

/// All that was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The kernel's release.
    pub kernel: String,
    /// Capabilities that the injector needs and this process lacks.
    pub capabilities_missing: Vec<&'static str>,
    /// Every rung of every kind, the preferred one first, and what options of it need.
    pub probes: Vec<Probe>,
}

/// What was found out of single calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallDiagnosis {
    /// The kernel's release.
    pub kernel: String,
    /// Capabilities that the injector needs and this process lacks.
    pub capabilities_missing: Vec<&'static str>,
    /// Every rung of every call, the preferred one first.
    pub probes: Vec<CallProbe>,
}

#[derive(Serialize)]
struct CallDiagnosisJson<'a> {
    kernel: &'a str,
    capabilities_missing: &'a [&'static str],
    calls: Vec<CallJson<'a>>,
}

#[derive(Serialize)]
struct CallJson<'a> {
    call: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    supported: bool,
    rungs: Vec<RungJson<'a>>,
    plausible: Vec<&'static str>,
}

#[derive(Serialize)]
struct DiagnosisJson<'a> {
    kernel: &'a str,
    capabilities_missing: &'a [&'static str],
    kinds: Vec<KindJson<'a>>,
}

#[derive(Serialize)]
struct KindJson<'a> {
    kind: &'static str,
    supported: bool,
    rungs: Vec<RungJson<'a>>,
}

#[derive(Serialize)]
struct RungJson<'a> {
    rung: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    only_for: Option<&'static str>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl<'a> RungJson<'a> {
    fn new(rung: &'a str, only_for: Option<&'static str>, state: &ProbeState) -> Self {
        Self {
            rung,
            only_for,
            state: state.word(),
            reason: state.why(),
        }
    }
}

impl ProbeState {
    const fn word(&self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Unsupported { .. } => "unsupported",
            Self::Inconclusive { .. } => "inconclusive",
        }
    }

    fn why(&self) -> Option<String> {
        match self {
            Self::Supported => None,
            Self::Unsupported { reason } | Self::Inconclusive { reason } => Some(brief(reason)),
        }
    }
}

/// A reason in at most a few lines. It may carry the verifier's log, of which
/// the first line names the call that failed and the last ones say why.
fn brief(reason: &str) -> String {
    const TAIL: usize = 2;
    let lines: Vec<&str> = reason
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    match lines.as_slice() {
        [first, skipped @ .., _, _] if skipped.len() > TAIL => {
            let tail = lines.get(lines.len() - TAIL..).unwrap_or_default();
            format!("{first} […] {}", tail.join(" "))
        }
        all => all.join(" "),
    }
}

impl Diagnosis {
    fn of_kind(&self, kind: FaultKind) -> impl Iterator<Item = &Probe> {
        self.probes.iter().filter(move |probe| probe.kind == kind)
    }

    /// One line of JSON.
    ///
    /// # Errors
    ///
    /// Never in practice: every key is text.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let kinds = FaultKind::ALL
            .iter()
            .map(|&kind| KindJson {
                kind: kind.name(),
                supported: self
                    .of_kind(kind)
                    .any(|probe| probe.only_for.is_none() && probe.state.is_supported()),
                rungs: self
                    .of_kind(kind)
                    .map(|probe| RungJson::new(&probe.rung, probe.only_for, &probe.state))
                    .collect(),
            })
            .collect();
        serde_json::to_string(&DiagnosisJson {
            kernel: &self.kernel,
            capabilities_missing: &self.capabilities_missing,
            kinds,
        })
    }

    /// A table for people.
    #[must_use]
    pub fn to_table(&self) -> String {
        let rows = self.probes.iter().map(|probe| {
            vec![
                probe.kind.name().to_owned(),
                probe.rung.clone(),
                probe.only_for.unwrap_or_default().to_owned(),
                probe.state.word().to_owned(),
                probe.state.why().unwrap_or_default(),
            ]
        });
        let table = table::render(&["KIND", "RUNG", "ONLY FOR", "STATE", "REASON"], rows);
        heading(&self.kernel, &self.capabilities_missing) + &table
    }
}

/// What a table for people begins with.
fn heading(kernel: &str, capabilities_missing: &[&str]) -> String {
    let missing = if capabilities_missing.is_empty() {
        "none".to_owned()
    } else {
        let missing = capabilities_missing.join(", ");
        format!("{missing}; {NEEDED_CAPABILITIES}")
    };
    format!("kernel {kernel}\ncapabilities missing: {missing}\n\n")
}

impl CallDiagnosis {
    /// One line of JSON.
    ///
    /// # Errors
    ///
    /// Never in practice: every key is text.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let of_call = |probes: &[CallProbe]| {
            let call = probes.first()?.call;
            Some(CallJson {
                call: call.name,
                number: call.as_request().is_none().then_some(call.number),
                supported: probes.iter().any(|probe| probe.state.is_supported()),
                rungs: probes
                    .iter()
                    .map(|probe| RungJson::new(probe.rung, None, &probe.state))
                    .collect(),
                plausible: plausible_names(call).unwrap_or_default(),
            })
        };
        let calls = self.probes.chunk_by(|one, next| one.call == next.call);
        serde_json::to_string(&CallDiagnosisJson {
            kernel: &self.kernel,
            capabilities_missing: &self.capabilities_missing,
            calls: calls.filter_map(of_call).collect(),
        })
    }

    /// A table for people.
    #[must_use]
    pub fn to_table(&self) -> String {
        let rows = self.probes.iter().map(|probe| {
            vec![
                probe.call.name.to_owned(),
                probe.rung.to_owned(),
                probe.state.word().to_owned(),
                probe.state.why().unwrap_or_default(),
            ]
        });
        let table = table::render(&["CALL", "RUNG", "STATE", "REASON"], rows);
        let calls = self.probes.chunk_by(|one, next| one.call == next.call);
        let rows = calls.filter_map(|probes| {
            let call = probes.first()?.call;
            let names =
                plausible_names(call).map_or("not known".to_owned(), |names| names.join(" "));
            Some(vec![call.name.to_owned(), names])
        });
        let errors = table::render(&["CALL", "--errno plausible"], rows);
        heading(&self.kernel, &self.capabilities_missing) + &table + "\n" + &errors
    }
}

/// The errors that a call can plausibly fail with, if they are known.
fn plausible_names(call: Syscall) -> Option<Vec<&'static str>> {
    let errors = plausible::errors(call)?;
    Some(errors.iter().map(|errno| errno.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Syscall;

    fn diagnosis() -> Diagnosis {
        let probe = |rung: &str, state| Probe {
            kind: FaultKind::SysErrno,
            rung: rung.to_owned(),
            only_for: None,
            state,
        };
        Diagnosis {
            kernel: "6.12.0".to_owned(),
            capabilities_missing: vec!["CAP_BPF"],
            probes: vec![
                probe(
                    "kprobe",
                    ProbeState::Unsupported {
                        reason: "no override".to_owned(),
                    },
                ),
                probe("lsm", ProbeState::Supported),
                Probe {
                    kind: FaultKind::NetLoss,
                    only_for: Some("--unit segment"),
                    ..probe("segment", ProbeState::Supported)
                },
            ],
        }
    }

    #[test]
    fn a_kind_is_supported_if_one_rung_for_all_of_it_is() {
        let json = diagnosis().to_json().expect("text keys");
        assert!(
            json.contains(
                "{\"kind\":\"sys-errno\",\"supported\":true,\"rungs\":[\
                 {\"rung\":\"kprobe\",\"state\":\"unsupported\",\"reason\":\"no override\"},\
                 {\"rung\":\"lsm\",\"state\":\"supported\"}]}"
            ),
            "{json}"
        );
        assert!(
            json.contains("\"capabilities_missing\":[\"CAP_BPF\"]"),
            "{json}"
        );
        assert!(
            json.contains(
                "{\"kind\":\"net-loss\",\"supported\":false,\"rungs\":[{\"rung\":\"segment\",\
                 \"only_for\":\"--unit segment\",\"state\":\"supported\"}]}"
            ),
            "{json}"
        );
    }

    #[test]
    fn a_call_is_supported_if_one_rung_reaches_it() {
        let probe = |name, number, rung, state| CallProbe {
            call: Syscall { name, number },
            rung,
            state,
        };
        let no = ProbeState::Unsupported {
            reason: "no hook".to_owned(),
        };
        let diagnosis = CallDiagnosis {
            kernel: "6.12.0".to_owned(),
            capabilities_missing: Vec::new(),
            probes: vec![
                probe("chmod", 90, "kprobe", no.clone()),
                probe("chmod", 90, "lsm", ProbeState::Supported),
                probe("fsync", 74, "kprobe", no.clone()),
                probe("fsync", 74, "lsm", no),
            ],
        };
        let json = diagnosis.to_json().expect("text keys");
        for part in [
            "{\"call\":\"chmod\",\"number\":90,\"supported\":true,\"rungs\":[{\"rung\":\"kprobe\",",
            "{\"call\":\"fsync\",\"number\":74,\"supported\":false,",
            "{\"rung\":\"lsm\",\"state\":\"unsupported\",\"reason\":\"no hook\"}",
            "\"plausible\":[\"EBADF\",\"EDQUOT\",\"EINTR\",\"EINVAL\",\"EIO\",\"ENOSPC\",\"EROFS\"]}",
        ] {
            assert!(json.contains(part), "{json}");
        }
        let table = diagnosis.to_table();
        assert!(table.contains("chmod  lsm     supported"), "{table}");
        assert!(table.contains("fsync  EBADF EDQUOT EINTR"), "{table}");
    }

    #[test]
    fn a_verifier_log_is_cut_to_what_tells() {
        assert_eq!(brief("no such helper"), "no such helper");
        assert_eq!(brief("one\ntwo\n\nthree\n"), "one two three");
        let log = format!(
            "load failed\n{}too large\nprocessed 1000001 insns\n",
            "0: x\n".repeat(9)
        );
        assert_eq!(
            brief(&log),
            "load failed […] too large processed 1000001 insns"
        );
    }

    #[test]
    fn the_table_gives_reasons() {
        let table = diagnosis().to_table();
        for word in [
            "6.12.0",
            "missing: CAP_BPF; run as root",
            "CAP_SYS_PTRACE",
            "kprobe",
            "unsupported",
            "no override",
        ] {
            assert!(table.contains(word), "{table}");
        }
    }
}
