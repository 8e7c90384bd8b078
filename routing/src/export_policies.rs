//! The export policies in use, each with a number that update groups are told apart by.

use std::sync::Arc;

use crate::policy::Export;

/// The number of an export policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ExportIx(u32);

#[derive(Clone, Debug)]
struct Slot {
    export: Arc<Export>,
    uses: usize,
}

/// The policies; number 0 is that of peers for which nothing is configured, and lasts.
#[derive(Clone, Debug)]
pub(crate) struct Exports {
    slots: Vec<Slot>,
}

impl Default for Exports {
    fn default() -> Exports {
        Exports { slots: vec![Slot { export: Arc::default(), uses: 1 }] }
    }
}

impl Exports {
    /// The number of a policy, which is used once more: see [`Exports::release`].
    pub(crate) fn take(&mut self, export: &Arc<Export>) -> ExportIx {
        let known = self.slots.iter().position(|slot| slot.uses > 0 && slot.export == *export);
        let at = known.or_else(|| self.slots.iter().position(|slot| slot.uses == 0));
        let at = at.unwrap_or_else(|| {
            self.slots.push(Slot { export: Arc::clone(export), uses: 0 });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[at];
        if slot.uses == 0 {
            slot.export = Arc::clone(export);
        }
        slot.uses += 1;
        ExportIx(at as u32)
    }

    /// One use less.
    pub(crate) fn release(&mut self, ix: ExportIx) {
        let slot = &mut self.slots[ix.0 as usize];
        slot.uses -= 1;
        if slot.uses == 0 {
            slot.export = Arc::default();
        }
    }

    /// The policy.
    pub(crate) fn export(&self, ix: ExportIx) -> &Export {
        &self.slots[ix.0 as usize].export
    }
}
