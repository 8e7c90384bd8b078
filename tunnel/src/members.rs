//! The members of a next-hop group.

/// Maximum number of members: the maximum number of exits of a route.
pub const MAX_MEMBERS: usize = 16;

/// Ids of next-hop objects, distinct and sorted; none for a single object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct GroupMembers {
    ids: [u32; MAX_MEMBERS],
    count: u8,
    /// True if the members do not share packets evenly and by hash.
    irregular: bool,
}

impl GroupMembers {
    /// Sorts the ids; of more than [`MAX_MEMBERS`] it keeps the lowest.
    pub fn new(ids: impl IntoIterator<Item = u32>) -> Self {
        let mut sorted: Vec<u32> = ids.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut members = Self::default();
        for (place, id) in members.ids.iter_mut().zip(&sorted) {
            *place = *id;
            members.count += 1;
        }
        members
    }

    /// Returns the members of a group that we would not have written: with weights, or not chosen
    /// by hash. It never equals one of ours.
    #[must_use]
    pub fn as_irregular(self) -> Self {
        Self { irregular: true, ..self }
    }

    /// Returns the ids.
    pub fn ids(&self) -> &[u32] {
        self.ids.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// Returns whether there are no members: the object is not a group.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns whether this id is a member.
    pub fn contains(&self, id: u32) -> bool {
        self.ids().contains(&id)
    }

    /// Returns the members without this id.
    #[must_use]
    pub fn without(&self, id: u32) -> Self {
        let others = self.ids().iter().copied().filter(|other| *other != id);
        Self { irregular: self.irregular, ..Self::new(others) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_a_set_of_at_most_sixteen() {
        assert_eq!(GroupMembers::new([3, 1, 3, 2]), GroupMembers::new([1, 2, 3]));
        assert_eq!(GroupMembers::new([3, 1, 2]).ids(), [1, 2, 3]);
        assert_eq!(GroupMembers::new([1, 2]).without(2), GroupMembers::new([1]));
        assert_ne!(GroupMembers::new([1, 2]).as_irregular().without(2), GroupMembers::new([1]));
        assert!(GroupMembers::new([1]).without(1).is_empty() && !GroupMembers::new([1]).is_empty());
        assert_eq!(GroupMembers::new((1..40).rev()).ids(), (1..17).collect::<Vec<_>>());
    }
}
