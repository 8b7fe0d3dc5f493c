//! The conditions that every kind of the call family has.

mod arguments;
pub(crate) mod never;
pub(crate) mod sockets;

use std::path::PathBuf;

use injector_common::call_filter::MAX_ARGUMENT_TESTS;

use crate::{
    error::SpecError,
    faults::packet,
    model::{
        Access, AddressFamily, Argument, CallFilter, Calls, ChainFunction, Choice, FileName,
        FileType, Target,
    },
    spec::{
        call_filter::{Command, FilePath, Users},
        calls::{self, CallWord, Selected},
        net::{Peer, Ports},
        packet::{Signed, choice},
        socket::Descriptor,
        text::Text,
    },
};

/// Defines the `Raw` of a kind or recipe that acts on calls: its own options, and conditions on
/// the calls, or those groups of conditions that are named, in this order: `places`, `types`,
/// `arguments`, `descriptor`, `sockets`, `callers`. With `(calls)` it names the calls too.
///
/// A macro for the reason that that of packets is one.
macro_rules! call_kind {
    ($(#[$meta:meta])* pub struct Raw (calls) { $($own:tt)* }) => {
        $crate::faults::calls::call_kind! {
            $(#[$meta])*
            pub struct Raw with places, types, arguments, descriptor, sockets, callers {
                /// The system calls that are hit, by name or number as in syscalls(2) or by class as %file
                #[arg(long, value_name = "CALL[,CALL…]", value_delimiter = ',', required = true)]
                #[serde(deserialize_with = "crate::spec::text::comma_list")]
                pub call: Vec<$crate::spec::text::Text<$crate::spec::calls::CallWord>>,

                $($own)*
            }
        }

        impl Raw {
            /// The calls that it names, with their conditions.
            fn calls(&self) -> Result<$crate::model::Calls, $crate::error::SpecError> {
                $crate::faults::calls::named(&self.call, self.filter()?)
            }
        }
    };
    ($(#[$meta:meta])* pub struct Raw with $($group:ident),+ { $($own:tt)* }) => {
        $crate::faults::calls::call_kind! { @ [$(#[$meta])*] [$($own)*] [] [] $($group)+ }
    };
    (@ [$($meta:tt)*] [$($own:tt)*] [$($fields:tt)*] [$($names:ident)*] places $($rest:ident)*) => {
        $crate::faults::calls::call_kind! {
            @ [$($meta)*] [$($own)*]
            [
                $($fields)*

                /// Only calls about this file, or one below this directory, whatever name or link leads to it;
                /// as the target sees it. Here and below: may repeat where it says so; a leading ! leaves out
                #[arg(long, value_name = "PATH", help_heading = "Call filter")]
                #[serde(default, deserialize_with = "crate::spec::text::list")]
                pub path: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::spec::call_filter::FilePath>>>,

                /// Only calls about files of this name, in whatever directory: with at most one *, such as *.wal
                #[arg(long, value_name = "NAME", help_heading = "Call filter")]
                #[serde(default)]
                pub file_name: Option<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::model::FileName>>>,
            ]
            [$($names)* path file_name] $($rest)*
        }
    };
    (@ [$($meta:tt)*] [$($own:tt)*] [$($fields:tt)*] [$($names:ident)*] types $($rest:ident)*) => {
        $crate::faults::calls::call_kind! {
            @ [$($meta)*] [$($own)*]
            [
                $($fields)*

                /// Only calls about files of these types: file, dir, symlink, block, char, pipe or socket; may repeat
                #[arg(long, value_name = "TYPE", value_delimiter = ',', help_heading = "Call filter")]
                #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
                pub file_type: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::model::FileType>>>,

                /// Only calls that open a file, or have one open, to read or to write
                #[arg(long, value_name = "ACCESS", help_heading = "Call filter")]
                #[serde(default)]
                pub access: Option<$crate::spec::text::Text<$crate::model::Access>>,
            ]
            [$($names)* file_type access] $($rest)*
        }
    };
    (@ [$($meta:tt)*] [$($own:tt)*] [$($fields:tt)*] [$($names:ident)*] arguments $($rest:ident)*) => {
        $crate::faults::calls::call_kind! {
            @ [$($meta)*] [$($own)*]
            [
                $($fields)*

                /// Only calls whose argument, counted from 0, is as said: 2&O_CREAT, 2>=4096, 0==3; may repeat,
                /// and all must hold
                #[arg(long, value_name = "TEST", help_heading = "Call filter")]
                #[serde(default, deserialize_with = "crate::spec::text::list")]
                pub arg: Vec<$crate::spec::text::Text<$crate::model::Argument>>,
            ]
            [$($names)* arg] $($rest)*
        }
    };
    (@ [$($meta:tt)*] [$($own:tt)*] [$($fields:tt)*] [$($names:ident)*] descriptor $($rest:ident)*) => {
        $crate::faults::calls::call_kind! {
            @ [$($meta)*] [$($own)*]
            [
                $($fields)*

                /// Only calls whose first argument is this descriptor: 3; several go up to 63
                #[arg(long, value_name = "FD", value_delimiter = ',', help_heading = "Call filter")]
                #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
                pub fd: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::spec::socket::Descriptor>>>,
            ]
            [$($names)* fd] $($rest)*
        }
    };
    (@ [$($meta:tt)*] [$($own:tt)*] [$($fields:tt)*] [$($names:ident)*] sockets $($rest:ident)*) => {
        $crate::faults::calls::call_kind! {
            @ [$($meta)*] [$($own)*]
            [
                $($fields)*

                /// Only calls on sockets of these families, or that make one: inet, inet6, unix, netlink, packet,
                /// vsock, … or a number
                #[arg(long, value_name = "FAMILY", value_delimiter = ',', help_heading = "Call filter")]
                #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
                pub family: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::model::AddressFamily>>>,

                /// Only calls on sockets that are connected to peers in these networks, such as 10.0.0.0/8 or
                /// 2001:db8::/32, or of these names, and calls that name such a peer. Of several that take a
                /// peer in, the longest decides
                #[arg(long, value_name = "PEER", value_delimiter = ',', help_heading = "Call filter")]
                #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
                pub peer: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::spec::net::Peer>>>,

                /// Only those whose peer is this target: cgroup:PATH or pid:N, in a network namespace of its
                /// own. Joins --peer
                #[arg(long, value_name = "TARGET", help_heading = "Call filter")]
                #[serde(default, deserialize_with = "crate::spec::text::list")]
                pub peer_target: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::model::Target>>>,

                /// Only those at these ports of the peer: A or A-B
                #[arg(long, value_name = "PORTS", value_delimiter = ',', help_heading = "Call filter")]
                #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
                pub peer_port: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::spec::net::Ports>>>,
            ]
            [$($names)* family peer peer_target peer_port] $($rest)*
        }
    };
    (@ [$($meta:tt)*] [$($own:tt)*] [$($fields:tt)*] [$($names:ident)*] callers $($rest:ident)*) => {
        $crate::faults::calls::call_kind! {
            @ [$($meta)*] [$($own)*]
            [
                $($fields)*

                /// Only calls of this user by effective id, or of a range of them, such as 1000 or 100000..165535
                #[arg(long, value_name = "UID", help_heading = "Call filter")]
                #[serde(default)]
                pub uid: Option<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::spec::call_filter::Users>>>,

                /// Only calls of threads with this name, as in /proc/PID/comm
                #[arg(long, value_name = "NAME", help_heading = "Call filter")]
                #[serde(default)]
                pub comm: Option<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::spec::call_filter::Command>>>,

                /// Only calls that come through this function, which the file holds, as far as frame pointers
                /// lead: flush_log@/usr/sbin/stored; may repeat
                #[arg(long, value_name = "FUNCTION@PATH", help_heading = "Call filter")]
                #[serde(default, deserialize_with = "crate::spec::text::list")]
                pub called_by: Vec<$crate::spec::text::Text<$crate::spec::packet::Signed<$crate::model::ChainFunction>>>,
            ]
            [$($names)* uid comm called_by] $($rest)*
        }
    };
    (@ [$($meta:tt)*] [$($own:tt)*] [$($fields:tt)*] [$($name:ident)*]) => {
        $($meta)*
        #[derive(clap::Args, serde::Deserialize, Debug)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        pub struct Raw {
            $($own)*

            $($fields)*
        }

        impl Raw {
            /// The conditions that it names.
            fn filter(&self) -> Result<$crate::model::CallFilter, $crate::error::SpecError> {
                let mut options = $crate::faults::calls::Options::NONE;
                $(options.$name = &self.$name;)*
                $crate::faults::calls::filter(&options)
            }
        }
    };
}
pub(crate) use call_kind;

/// The conditions, as written.
pub(crate) struct Options<'a> {
    pub(crate) path: &'a [Text<Signed<FilePath>>],
    pub(crate) file_name: &'a Option<Text<Signed<FileName>>>,
    pub(crate) file_type: &'a [Text<Signed<FileType>>],
    pub(crate) access: &'a Option<Text<Access>>,
    pub(crate) arg: &'a [Text<Argument>],
    pub(crate) fd: &'a [Text<Signed<Descriptor>>],
    pub(crate) family: &'a [Text<Signed<AddressFamily>>],
    pub(crate) peer: &'a [Text<Signed<Peer>>],
    pub(crate) peer_target: &'a [Text<Signed<Target>>],
    pub(crate) peer_port: &'a [Text<Signed<Ports>>],
    pub(crate) uid: &'a Option<Text<Signed<Users>>>,
    pub(crate) comm: &'a Option<Text<Signed<Command>>>,
    pub(crate) called_by: &'a [Text<Signed<ChainFunction>>],
}

impl Options<'_> {
    /// None of them.
    pub(crate) const NONE: Self = Self {
        path: &[],
        file_name: &None,
        file_type: &[],
        access: &None,
        arg: &[],
        fd: &[],
        family: &[],
        peer: &[],
        peer_target: &[],
        peer_port: &[],
        uid: &None,
        comm: &None,
        called_by: &[],
    };
}

/// The calls that these words name, with these conditions.
pub(crate) fn named(words: &[Text<CallWord>], filter: CallFilter) -> Result<Calls, SpecError> {
    let words: Vec<CallWord> = words.iter().map(|text| text.0.clone()).collect();
    let selected = calls::select(&words)?;
    sockets::check(&selected, &filter)?;
    let Selected { wanted, optional } = selected;
    Ok(Calls {
        wanted,
        optional,
        filter,
        rung: None,
    })
}

/// The filter that these options describe. One that no call can match is refused.
pub(crate) fn filter(options: &Options<'_>) -> Result<CallFilter, SpecError> {
    let both = |field: &'static str, value: String| {
        let problem = format!("takes {value} and leaves it out");
        SpecError::new(field, problem, "each value once, with or without !")
    };
    let paths: Choice<PathBuf> = choice(options.path, |path: FilePath| path.0)
        .map_err(|path| both("path", path.to_string()))?;
    if let Some((outer, inner)) = paths.not.iter().find_map(|outer| {
        let inner = paths.these.iter().find(|inner| inner.starts_with(outer))?;
        Some((outer, inner))
    }) {
        let problem = format!(
            "leaves out {}, and with it {}",
            outer.display(),
            inner.display()
        );
        return Err(SpecError::new("path", problem, "something that is left"));
    }
    let file_types = choice(options.file_type, |kind| kind)
        .map_err(|kind: FileType| both("file-type", kind.to_string()))?;
    if FileType::ALL.iter().all(|kind| !file_types.takes(kind)) {
        return Err(SpecError::new(
            "file-type",
            "leaves every type out",
            "some type that is left",
        ));
    }
    if options.arg.len() > MAX_ARGUMENT_TESTS {
        let allowed = format!("at most {MAX_ARGUMENT_TESTS}");
        return Err(SpecError::new("arg", "tests too much", allowed));
    }
    let mut filter = CallFilter {
        paths,
        file_names: single(options.file_name.as_ref(), |name| name),
        file_types,
        access: options.access.as_ref().map(|text| text.0),
        arguments: options.arg.iter().map(|text| text.0.clone()).collect(),
        users: single(options.uid.as_ref(), Into::into),
        commands: single(options.comm.as_ref(), |command| command.0),
        functions: choice(options.called_by, |function: ChainFunction| function)
            .map_err(|function| both("called-by", function.to_string()))?,
        ..CallFilter::default()
    };
    sockets::add(options, &mut filter)?;
    arguments::check(&filter)?;
    Ok(filter)
}

/// A choice of one value, or none.
fn single<T: Clone, U>(option: Option<&Text<Signed<T>>>, convert: impl Fn(T) -> U) -> Choice<U> {
    let mut choice = Choice::ANY;
    if let Some(Text(Signed { negated, value })) = option {
        let list = if *negated {
            &mut choice.not
        } else {
            &mut choice.these
        };
        list.push(convert(value.clone()));
    }
    choice
}

/// The calls and their conditions in words, behind a verb.
pub(super) fn describe(calls: &Calls) -> String {
    let list = |calls: &[crate::model::Syscall]| {
        let names: Vec<&str> = calls.iter().map(|call| call.name).collect();
        names.join(", ")
    };
    let mut which = Vec::new();
    if !calls.wanted.is_empty() {
        which.push(list(&calls.wanted));
    }
    if !calls.optional.is_empty() {
        let optional = list(&calls.optional);
        which.push(format!("what can be hit here of {optional}"));
    }
    let mut text = which.join(" and ");
    for condition in conditions(&calls.filter) {
        text.push(' ');
        text.push_str(&condition);
    }
    text
}

/// Each condition in words.
fn conditions(filter: &CallFilter) -> Vec<String> {
    let mut texts = Vec::new();
    let mut say = |verb: &str, these: Vec<String>, not: Vec<String>| {
        if !these.is_empty() {
            texts.push(format!("{verb} {}", these.join(" or ")));
        }
        if !not.is_empty() {
            texts.push(format!("not {verb} {}", not.join(" or ")));
        }
    };
    let paths = |paths: &[PathBuf]| {
        paths
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    };
    say("at", paths(&filter.paths.these), paths(&filter.paths.not));
    let names = |names: &[FileName]| names.iter().map(ToString::to_string).collect();
    say(
        "on files called",
        names(&filter.file_names.these),
        names(&filter.file_names.not),
    );
    let types = |types: &[FileType]| types.iter().map(ToString::to_string).collect();
    say(
        "on files of type",
        types(&filter.file_types.these),
        types(&filter.file_types.not),
    );
    let access = filter.access.map(|access| match access {
        Access::Read => "to read".to_owned(),
        Access::Write => "to write".to_owned(),
    });
    say("on files open", access.into_iter().collect(), Vec::new());
    let tests: Vec<&str> = filter
        .arguments
        .iter()
        .map(|test| test.text.as_str())
        .collect();
    if !tests.is_empty() {
        say("where argument", vec![tests.join(" and ")], Vec::new());
    }
    let numbers = |numbers: &[u32]| numbers.iter().map(ToString::to_string).collect();
    say(
        "on descriptor",
        numbers(&filter.descriptors.these),
        numbers(&filter.descriptors.not),
    );
    let families = |families: &[AddressFamily]| families.iter().map(ToString::to_string).collect();
    say(
        "on sockets of",
        families(&filter.families.these),
        families(&filter.families.not),
    );
    if let Some(peers) = &filter.peers {
        let peer = packet::describe_peers(peers, "to");
        say("on sockets", vec![peer.trim_start().to_owned()], Vec::new());
    }
    let users = |users: &[std::ops::RangeInclusive<u32>]| {
        let text = |users: &std::ops::RangeInclusive<u32>| match (users.start(), users.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first} to {last}"),
        };
        users.iter().map(text).collect()
    };
    say(
        "by user",
        users(&filter.users.these),
        users(&filter.users.not),
    );
    say(
        "by threads called",
        filter.commands.these.clone(),
        filter.commands.not.clone(),
    );
    let functions =
        |functions: &[ChainFunction]| functions.iter().map(ToString::to_string).collect();
    say(
        "called by",
        functions(&filter.functions.these),
        functions(&filter.functions.not),
    );
    texts
}
