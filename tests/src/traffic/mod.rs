//! Traffic between two namespaces, and the bed that every packet fault is
//! tested on.

mod alone;
mod bed;
mod comparison;
pub mod ends;
mod ping;
mod tcp;
mod udp;

pub use alone::Alone;
pub use bed::{Bed, Case, Direction, Form};
pub use comparison::{Comparison, Fault, Maker, await_listener};
pub use ping::ping;
pub use tcp::{Stream, TcpFlow};
pub use udp::{Arrived, Delays, Load, UdpFlow};

/// Makes one test of each combination of target form, IP version and direction,
/// each of which calls `$check` with its [`Case`].
#[macro_export]
macro_rules! packet_matrix {
    ($check:path) => {
        $crate::packet_matrix! { $check,
            cgroup_v4_egress: Cgroup V4 Egress,
            cgroup_v4_ingress: Cgroup V4 Ingress,
            cgroup_v6_egress: Cgroup V6 Egress,
            cgroup_v6_ingress: Cgroup V6 Ingress,
            process_v4_egress: Process V4 Egress,
            process_v4_ingress: Process V4 Ingress,
            process_v6_egress: Process V6 Egress,
            process_v6_ingress: Process V6 Ingress,
            command_v4_egress: Command V4 Egress,
            command_v4_ingress: Command V4 Ingress,
            command_v6_egress: Command V6 Egress,
            command_v6_ingress: Command V6 Ingress,
        }
    };
    ($check:path, $($name:ident: $form:ident $ip:ident $direction:ident,)+) => {
        $(
            #[test]
            fn $name() {
                $check($crate::traffic::Case {
                    form: $crate::traffic::Form::$form,
                    ip: $crate::netns::Ip::$ip,
                    direction: $crate::traffic::Direction::$direction,
                });
            }
        )+
    };
}
