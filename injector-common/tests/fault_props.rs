//! Laws of each fault kind's arithmetic.

use injector_common::{
    answer::{ACK, RST, SYN, Segment},
    faults::{
        net_delay::{self, MAX_DELAY_NS},
        net_refuse,
        net_reset::{self, StreamSeen},
        sys_errno::{self, MAX_ERRNO},
    },
    filter::{EGRESS, INGRESS},
};
use proptest::{collection::vec, prelude::*};

/// Delay and jitter as `spec` lets them pass.
fn any_delay() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![1..1000u64, 1..=MAX_DELAY_NS]
        .prop_flat_map(|delay| (Just(delay), prop_oneof![0..=delay, Just(0), Just(delay)]))
}

proptest! {
    #[test]
    fn a_delay_keeps_its_bounds((delay, jitter) in any_delay(), amount in any::<u32>()) {
        let drawn = net_delay::delay_ns(net_delay::params(delay, jitter), amount);
        prop_assert!((delay - jitter..=delay + jitter).contains(&drawn), "{}", drawn);
    }

    #[test]
    fn a_delay_without_jitter_is_exact(delay in 0..=MAX_DELAY_NS, amount in any::<u32>()) {
        prop_assert_eq!(net_delay::delay_ns(net_delay::params(delay, 0), amount), delay);
    }

    #[test]
    fn jitter_reaches_its_bounds(delay in 1..=MAX_DELAY_NS, share in 1..=u64::from(u32::MAX >> 1)) {
        // As long as a draw has values enough to name every nanosecond.
        let jitter = share.min(delay);
        let params = net_delay::params(delay, jitter);
        prop_assert_eq!(net_delay::delay_ns(params, 0), delay - jitter);
        prop_assert_eq!(net_delay::delay_ns(params, u32::MAX), delay + jitter);
    }

    #[test]
    fn a_larger_draw_never_shortens_the_delay(
        (delay, jitter) in any_delay(),
        amounts in any::<(u32, u32)>(),
    ) {
        let params = net_delay::params(delay, jitter);
        let (low, high) = (amounts.0.min(amounts.1), amounts.0.max(amounts.1));
        prop_assert!(net_delay::delay_ns(params, low) <= net_delay::delay_ns(params, high));
    }

    #[test]
    fn a_flow_stays_in_order_and_in_its_bounds(
        (delay, jitter) in any_delay(),
        start in 0..=u64::MAX / 2,
        packets in vec((prop_oneof![Just(0), 0..MAX_DELAY_NS], any::<u32>()), 1..60),
    ) {
        let params = net_delay::params(delay, jitter);
        let (mut now, mut previous) = (start, 0);
        for (gap, amount) in packets {
            now += gap;
            let drawn = net_delay::delay_ns(params, amount);
            let leaves = net_delay::departure_ns(now, drawn, previous);
            prop_assert!(leaves >= previous, "it overtakes");
            prop_assert!(leaves >= now + drawn, "too early");
            prop_assert!(leaves <= now + delay + jitter, "too late");
            // Nobody waits for longer than the one before makes it.
            prop_assert!(leaves == now + drawn || leaves == previous);
            previous = leaves;
        }
    }

    #[test]
    fn departures_never_wrap(now: u64, delay: u64, previous: u64) {
        let leaves = net_delay::departure_ns(now, delay, previous);
        prop_assert!(leaves >= now && leaves >= previous && leaves >= delay);
    }

    #[test]
    fn any_value_is_clamped_to_an_error(value in any::<i32>()) {
        let clamped = sys_errno::clamp(value);
        prop_assert!((-133..=-1).contains(&clamped));
        if (-133..=-1).contains(&value) {
            prop_assert_eq!(clamped, value);
        }
    }

    #[test]
    fn any_parameters_give_an_error(params in any::<[u64; 4]>(), draw in any::<u64>()) {
        prop_assert!((-133..=-1).contains(&sys_errno::return_value(params, draw)));
    }
}

#[test]
fn every_error_is_returned_as_itself() {
    for errno in 1..=MAX_ERRNO {
        let value = sys_errno::return_value(sys_errno::params(&[(errno, 1)]), 0);
        assert_eq!(value, -i32::try_from(errno).unwrap());
        assert_eq!(sys_errno::clamp(value), value);
    }
    for value in [i32::MIN, -4096, -134, 0, 1, i32::MAX] {
        assert_eq!(sys_errno::clamp(value), -5, "{value} is no error; EIO is");
    }
}

proptest! {
    #[test]
    fn a_refusal_returns_its_error(errno in 1..=MAX_ERRNO, garbage in any::<u64>()) {
        let value = net_refuse::return_value(net_refuse::params(errno));
        prop_assert_eq!(value, -i32::try_from(errno).expect("small"));
        let value = net_refuse::return_value([garbage, 0, 0, 0]);
        prop_assert_eq!(sys_errno::clamp(value), value, "in bounds whatever the map holds");
    }
}

proptest! {
    #[test]
    fn a_connection_is_reset_once_it_is_due(
        bytes in any::<u64>(),
        time in any::<u64>(),
        first_ns in any::<u64>(),
        seen in any::<u64>(),
        now in any::<u64>(),
    ) {
        let is_due = |params| {
            net_reset::is_due(params, StreamSeen { first_ns, bytes: seen }, now)
        };
        prop_assert!(is_due(net_reset::params(net_reset::END_BOTH, 0, 0)));
        prop_assert_eq!(is_due(net_reset::params(net_reset::END_BOTH, bytes, 0)), seen >= bytes);
        let lasted = now.saturating_sub(first_ns) >= time;
        prop_assert_eq!(is_due(net_reset::params(net_reset::END_BOTH, 0, time)), lasted);
    }

    #[test]
    fn each_packet_tells_the_ends_that_were_named(egress in any::<bool>()) {
        let way = if egress { EGRESS } else { INGRESS };
        for (end, local, peer) in [
            (net_reset::END_LOCAL, true, false),
            (net_reset::END_PEER, false, true),
            (net_reset::END_BOTH, true, true),
        ] {
            let params = net_reset::params(end, 0, 0);
            let told = (
                net_reset::tells_sender(params, way),
                net_reset::tells_receiver(params, way),
            );
            // The target sends what leaves.
            prop_assert_eq!(told, if egress { (local, peer) } else { (peer, local) });
        }
    }

    #[test]
    fn only_open_connections_are_reset(seq in any::<u32>(), ack in any::<u32>(), flags: u8) {
        let open = flags & ACK != 0 && flags & (SYN | RST) == 0;
        prop_assert_eq!(net_reset::is_open(flags), open);
        let reset = net_reset::in_place(Segment { seq, ack, flags });
        prop_assert_eq!((reset.seq, reset.ack), (seq, ack));
        prop_assert!(!net_reset::is_open(reset.flags), "no rule resets a reset");
    }
}
