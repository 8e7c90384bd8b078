//! Operations of accepting rules on canonical attributes.

use bgp::wire::attribute::{code, flag};

use super::rule::{Operation, local_pref_of};
use crate::community::Community;
use crate::rewrite::{AttributeEdit, prepend, rewrite};

/// Returns canonical attributes after `operations`, which are applied in order.
pub(crate) fn apply_operations(canonical: &[u8], operations: &[Operation]) -> Vec<u8> {
    let mut current = canonical.to_vec();
    let (mut next, mut value) = (Vec::new(), Vec::new());
    for operation in operations {
        next.clear();
        match operation {
            Operation::AddCommunity(community) => add_community(&current, *community, &mut next, &mut value),
            Operation::PrependAsPath(asns) => {
                rewrite(&current, &[code::AS_PATH], &mut next, &mut value, |code, original, out| {
                    if code != code::AS_PATH {
                        return AttributeEdit::Keep;
                    }
                    let mut path = original.unwrap_or_default().to_vec();
                    // Prepended in reverse, so that the first one is at the front.
                    for asn in asns.iter().rev() {
                        out.clear();
                        prepend(&path, *asn, out);
                        path.clone_from(out);
                    }
                    AttributeEdit::Set(flag::WELL_KNOWN)
                });
            }
            Operation::OnlyToCustomer(asn) => {
                let wanted = code::ONLY_TO_CUSTOMER;
                rewrite(&current, &[wanted], &mut next, &mut value, |code, original, out| {
                    if code != wanted || original.is_some() {
                        return AttributeEdit::Keep;
                    }
                    out.extend(asn.0.to_be_bytes());
                    AttributeEdit::Set(flag::OPTIONAL | flag::TRANSITIVE)
                });
            }
            Operation::SetPriority(priority) => {
                rewrite(&current, &[code::LOCAL_PREF], &mut next, &mut value, |code, _, out| {
                    if code != code::LOCAL_PREF {
                        return AttributeEdit::Keep;
                    }
                    out.extend(local_pref_of(*priority).to_be_bytes());
                    AttributeEdit::Set(flag::WELL_KNOWN)
                });
            }
        }
        std::mem::swap(&mut current, &mut next);
    }
    current
}

/// Returns canonical attributes with additional communities.
pub fn with_communities(canonical: &[u8], communities: &[Community]) -> Vec<u8> {
    let operations: Vec<Operation> = communities.iter().copied().map(Operation::AddCommunity).collect();
    apply_operations(canonical, &operations)
}

/// Returns the attributes of a route that is being shut down (RFC 8326 §4.1): any other route is
/// preferred.
pub fn shut_down(canonical: &[u8]) -> Vec<u8> {
    let last = Operation::SetPriority(super::rule::LAST_PRIORITY);
    apply_operations(canonical, &[Operation::AddCommunity(Community::GRACEFUL_SHUTDOWN), last])
}

fn add_community(canonical: &[u8], community: Community, out: &mut Vec<u8>, value: &mut Vec<u8>) {
    let wanted = match community {
        Community::Standard(_) => code::COMMUNITIES,
        Community::Large(_) => code::LARGE_COMMUNITIES,
    };
    rewrite(canonical, &[wanted], out, value, |code, original, out| {
        if code != wanted {
            return AttributeEdit::Keep;
        }
        let original = original.unwrap_or_default();
        let mut octets = Vec::with_capacity(12);
        community.push(&mut octets);
        if original.chunks(octets.len()).any(|one| one == octets) {
            return AttributeEdit::Keep;
        }
        out.extend_from_slice(original);
        out.extend(octets);
        AttributeEdit::Set(flag::OPTIONAL | flag::TRANSITIVE)
    });
}
