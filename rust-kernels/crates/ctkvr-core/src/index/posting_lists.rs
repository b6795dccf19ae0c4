//! Posting lists: for each centroid an ascending list of positions, stored as gaps of one byte each (two for gaps over 255),
//! about a quarter of u32 positions. Neighbouring positions are read together, so lists are ascending anyway.

/// Lists of positions relative to the first indexed position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostingLists {
    /// Gaps to the previous position (to -1 for the first), 1..=255; a 0 byte adds 255 and the gap goes on.
    bytes: Vec<u8>,
    /// List c is `bytes[offsets[c]..offsets[c + 1]]`.
    offsets: Vec<u32>,
}

impl Default for PostingLists {
    fn default() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0] }
    }
}

impl PostingLists {
    /// Lists as [`PostingLists::parts`] gave them; `None` when they are not lists of positions below `num_positions`.
    pub fn from_parts(bytes: Vec<u8>, offsets: Vec<u32>, num_positions: usize) -> Option<Self> {
        let bounded = offsets.first() == Some(&0) && offsets.last().map(|&o| o as usize) == Some(bytes.len());
        if !bounded || !offsets.is_sorted() {
            return None;
        }
        let lists = Self { bytes, offsets };
        let fits = |c: usize| {
            let list = lists.encoded(c);
            let end: usize = list.iter().map(|&gap| if gap == 0 { 255 } else { usize::from(gap) }).sum();
            end <= num_positions && list.last() != Some(&0)
        };
        (0..lists.len()).all(fits).then_some(lists)
    }

    /// All lists' bytes, and where each begins (and the last ends).
    pub fn parts(&self) -> (&[u8], &[u32]) {
        (&self.bytes, &self.offsets)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Adds a list of ascending positions behind the others.
    pub fn push(&mut self, ascending: &[u32]) {
        let mut next = 0;
        for &position in ascending {
            debug_assert!(position >= next, "positions ascend without repeats");
            let mut gap = position + 1 - next;
            while gap > 255 {
                self.bytes.push(0);
                gap -= 255;
            }
            self.bytes.push(gap as u8);
            next = position + 1;
        }
        self.offsets.push(self.bytes.len() as u32);
    }

    /// Gives back memory that further lists would have taken.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.offsets.shrink_to_fit();
    }

    /// Calls `f` with every position of list c, ascending.
    #[inline]
    pub fn for_each(&self, c: usize, mut f: impl FnMut(usize)) {
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

    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.offsets.len() * size_of::<u32>()
    }

    /// List c as it is stored.
    pub fn encoded(&self, c: usize) -> &[u8] {
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
            let mut stored = PostingLists::default();
            plain.iter().for_each(|list| stored.push(list));
            stored.shrink();
            prop_assert_eq!(stored.len(), plain.len());
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
        let mut stored = PostingLists::default();
        stored.push(&plain);
        let mut back = Vec::new();
        stored.for_each(0, |p| back.push(p as u32));
        assert_eq!(back, plain);
    }
}
