//! Export policies in use, numbered for the comparison of update groups.

use std::sync::Arc;

use crate::policy::ExportPolicy;

/// Number of an export policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ExportPolicyIx(u32);

#[derive(Clone, Debug)]
struct PolicySlot {
    export: Arc<ExportPolicy>,
    uses: usize,
}

/// Export policies with reference counts. Number 0 is the policy of unconfigured peers, and is
/// never released.
#[derive(Clone, Debug)]
pub(crate) struct ExportPolicies {
    slots: Vec<PolicySlot>,
}

impl Default for ExportPolicies {
    fn default() -> ExportPolicies {
        ExportPolicies { slots: vec![PolicySlot { export: Arc::default(), uses: 1 }] }
    }
}

impl ExportPolicies {
    /// Returns the number of a policy and adds a reference; see [`ExportPolicies::release`].
    pub(crate) fn acquire(&mut self, export: &Arc<ExportPolicy>) -> ExportPolicyIx {
        let known = self.slots.iter().position(|slot| slot.uses > 0 && slot.export == *export);
        let at = known.or_else(|| self.slots.iter().position(|slot| slot.uses == 0));
        let at = at.unwrap_or_else(|| {
            self.slots.push(PolicySlot { export: Arc::clone(export), uses: 0 });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[at];
        if slot.uses == 0 {
            slot.export = Arc::clone(export);
        }
        slot.uses += 1;
        ExportPolicyIx(at as u32)
    }

    /// Removes a reference.
    pub(crate) fn release(&mut self, ix: ExportPolicyIx) {
        let slot = &mut self.slots[ix.0 as usize];
        slot.uses -= 1;
        if slot.uses == 0 {
            slot.export = Arc::default();
        }
    }

    /// Returns the policy.
    pub(crate) fn export(&self, ix: ExportPolicyIx) -> &ExportPolicy {
        &self.slots[ix.0 as usize].export
    }
}
