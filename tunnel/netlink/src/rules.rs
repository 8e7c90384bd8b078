//! Rules of policy routing: `RTM_*RULE`.

use super::{
    numbers::{
        AF_INET, FR_ACT_TO_TBL, FRA_FWMARK, FRA_FWMASK, FRA_L3MDEV, FRA_PRIORITY, FRA_PROTOCOL,
        FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, NLM_F_CREATE, NLM_F_EXCL, RT_TABLE_LOCAL,
        RT_TABLE_MAIN, RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE,
    },
    socket::{KernelError, RequestSocket, empty_if_unsupported},
    wire::{ReceivedMessage, RequestMessage, attributes, u32_at},
};

/// Length of `struct fib_rule_hdr` in octets.
const RULE_LEN: usize = 12;
/// Attributes that describe the action of a rule and not the packets it selects.
const ACTION_ATTRIBUTES: [u16; 6] =
    [FRA_PRIORITY, FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_L3MDEV, FRA_PROTOCOL];

/// A rule of policy routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleRecord {
    /// Address family.
    pub family: u8,
    /// Priority: lower ones come first.
    pub priority: u32,
    /// Table that the rule leads to; 0: another action.
    pub table: u32,
    /// True if the rule selects all packets.
    pub all: bool,
    /// The packet mark that the rule selects by, if that is its only selector and its action is
    /// a lookup in `table`.
    pub mark: Option<FirewallMark>,
}

/// A packet mark as a rule compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirewallMark {
    /// Value.
    pub value: u32,
    /// Bits that are compared.
    pub mask: u32,
}

impl RuleRecord {
    /// Returns whether packets may find a route by this rule before the rule of table main, which
    /// has priority `main`.
    pub fn precedes_main(&self, main: u32) -> bool {
        let common = [RT_TABLE_LOCAL, RT_TABLE_MAIN].map(u32::from);
        self.priority < main && !common.contains(&self.table)
    }
}

fn mark_rule(kind: u16, flags: u16, priority: u32, mark: u32, table: u32) -> RequestMessage {
    let mut header = [0; RULE_LEN];
    (header[0], header[7]) = (AF_INET, FR_ACT_TO_TBL);
    RequestMessage::new(kind, flags, &header)
        .u32(FRA_PRIORITY, priority)
        .u32(FRA_FWMARK, mark)
        .u32(FRA_FWMASK, u32::MAX)
        .u32(FRA_TABLE, table)
}

/// Builds the request that adds an IPv4 rule: packets with this mark use this table.
pub fn add_mark_rule(priority: u32, mark: u32, table: u32, protocol: u8) -> RequestMessage {
    mark_rule(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, priority, mark, table)
        .attribute(FRA_PROTOCOL, &[protocol])
}

/// Builds the request that deletes such a rule.
pub fn delete_mark_rule(priority: u32, mark: u32, table: u32) -> RequestMessage {
    mark_rule(RTM_DELRULE, 0, priority, mark, table)
}

/// Returns the IPv4 rules; none where the kernel has no policy routing.
///
/// # Errors
/// The kernel's.
pub fn dump_rules(socket: &mut RequestSocket) -> Result<Vec<RuleRecord>, KernelError> {
    let mut header = [0; RULE_LEN];
    header[0] = AF_INET;
    empty_if_unsupported(socket.dump(&RequestMessage::new(RTM_GETRULE, 0, &header), parse_rule))
}

/// Parses an `RTM_NEWRULE` or `RTM_DELRULE` message.
pub fn parse_rule(received: &ReceivedMessage<'_>) -> Option<RuleRecord> {
    if !matches!(received.kind, RTM_NEWRULE | RTM_DELRULE) {
        return None;
    }
    let header = received.payload.first_chunk::<RULE_LEN>()?;
    let [family, destination_len, source_len, tos, table, _, _, action, ..] = *header;
    let unaddressed = (destination_len, source_len, tos) == (0, 0, 0);
    let mut rule = RuleRecord { family, priority: 0, table: table.into(), all: unaddressed, mark: None };
    let (mut mark, mut mask) = (None, None);
    for (attribute, value) in attributes(received.payload.get(RULE_LEN..)?) {
        match attribute {
            FRA_PRIORITY => rule.priority = u32_at(value, 0)?,
            FRA_FWMARK => mark = u32_at(value, 0),
            FRA_FWMASK => mask = u32_at(value, 0),
            FRA_TABLE => rule.table = u32_at(value, 0)?,
            _ => {}
        }
        rule.all &= ACTION_ATTRIBUTES.contains(&attribute);
    }
    rule.mark = mark
        .zip(mask)
        .map(|(value, mask)| FirewallMark { value, mask })
        .filter(|_| unaddressed && action == FR_ACT_TO_TBL);
    Some(rule)
}
