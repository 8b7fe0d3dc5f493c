//! Rules that let the calls fail which send packets.

use super::{PacketAct, Parts, need};
use crate::{
    error::{Error, Unsupported},
    model::{PacketFilter, Rule},
    plan::Features,
    resolve::RuleScope,
};

impl Parts {
    /// Names the interfaces by which a rule's packets leave; its program is attached
    /// where sockets send.
    pub(super) fn sends(
        &mut self,
        act: &PacketAct<'_>,
        scope: &RuleScope,
        mask: u64,
        features: &Features,
    ) -> Result<&'static str, Error> {
        let needs = "programs where sockets send, for --visibility errno=EPERM";
        need(act.rule, needs, &features.send)?;
        check_one_namespace(act.rule, act.filter, scope)?;
        for netns in &scope.netns {
            for interface in &netns.interfaces {
                self.check_index(act.rule, netns, interface)?;
                self.site(netns).interface(interface).sends |= mask;
            }
        }
        *self.sends.get_or_insert(false) |= act.filter.follows_conversations();
        Ok("cgroup")
    }
}

/// The program knows an interface by its index alone, and sees packets of every
/// namespace: in another one the index may be that of an interface that was not
/// named.
fn check_one_namespace(
    rule: &Rule,
    filter: &PacketFilter,
    scope: &RuleScope,
) -> Result<(), Unsupported> {
    let namespaces = scope.netns.len();
    if filter.interfaces.is_any() || namespaces < 2 {
        return Ok(());
    }
    Err(Unsupported {
        what: format!("rule {} ({})", rule.name, rule.fault.kind().name()).into(),
        needs: "targets in one network namespace, for --interface with --visibility errno=EPERM"
            .into(),
        found: format!("targets in {namespaces}").into(),
    })
}
