//! Posting lists: for each centroid an ascending list of positions, stored as gaps of one byte each (two for gaps over 255),
//! about a quarter of u32 positions. Neighbouring positions are read together, so lists are ascending anyway.

/// Lists of positions relative to the first indexed position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PostingLists {
    /// Gaps to the previous position (to -1 for the first), 1..=255; a 0 byte adds 255 and the gap goes on.
    bytes: Vec<u8>,
    /// List c is `bytes[offsets[c]..offsets[c + 1]]`.
    offsets: Vec<u32>,
}

/// One encoded list, made by a builder thread.
pub(crate) fn encode(ascending: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ascending.len() + ascending.len() / 16);
    let mut next = 0;
    for &position in ascending {
        debug_assert!(position >= next, "positions ascend without repeats");
        let mut gap = position + 1 - next;
        while gap > 255 {
            bytes.push(0);
            gap -= 255;
        }
        bytes.push(gap as u8);
        next = position + 1;
    }
    bytes
}

impl PostingLists {
    /// Joins encoded lists.
    pub(crate) fn from_encoded(lists: impl Iterator<Item = Vec<u8>>) -> Self {
        let mut all = Self { bytes: Vec::new(), offsets: vec![0] };
        for list in lists {
            all.bytes.extend_from_slice(&list);
            all.offsets.push(all.bytes.len() as u32);
        }
        all.bytes.shrink_to_fit();
        all
    }

    /// Calls `f` with every position of list c, ascending.
    #[inline]
    pub(crate) fn for_each(&self, c: usize, mut f: impl FnMut(usize)) {
        let mut next = 0;
        for &gap in self.encoded(c) {
            if gap == 0 {
                next += 255;
            } else {
                next += usize::from(gap);
                f(next - 1);
            }
        }
    }

    pub(crate) fn encoded_len(&self, c: usize) -> usize {
        self.encoded(c).len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len() + self.offsets.len() * size_of::<u32>()
    }

    /// List c as it is stored.
    pub(crate) fn encoded(&self, c: usize) -> &[u8] {
        &self.bytes[self.offsets[c] as usize..self.offsets[c + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lists_come_back(lists in prop::collection::vec(prop::collection::btree_set(0u32..5000, 0..300), 0..5)) {
            let plain: Vec<Vec<u32>> = lists.into_iter().map(|l| l.into_iter().collect()).collect();
            let stored = PostingLists::from_encoded(plain.iter().map(|l| encode(l)));
            for (c, list) in plain.iter().enumerate() {
                let mut back = Vec::new();
                stored.for_each(c, |p| back.push(p as u32));
                prop_assert_eq!(&back, list);
            }
        }
    }

    #[test]
    fn gaps_at_the_edge_of_a_byte() {
        let plain = [0, 254, 255, 510, 766, 767 + 510];
        let stored = PostingLists::from_encoded([encode(&plain)].into_iter());
        let mut back = Vec::new();
        stored.for_each(0, |p| back.push(p as u32));
        assert_eq!(back, plain);
    }
}
