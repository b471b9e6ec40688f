//! Merkle tree hashes (RFC 6962 §2.1), built leaf by leaf.
//!
//! leaf = SHA-256(0x00 ‖ record), node = SHA-256(0x01 ‖ left ‖ right). The two marks keep a node from being shown as a record.

use ring::digest::{Context, SHA256};

type Hash = [u8; 32];

/// The tree of the leaves so far: the roots of its complete subtrees, the largest first.
#[derive(Debug, Default)]
pub(super) struct Tree {
    subtrees: Vec<Hash>,
    leaves: u64,
}

impl Tree {
    /// One more record.
    pub(super) fn push(&mut self, record: &[u8]) {
        let mut hash = digest(&[&[0], record]);
        // As in adding one to a binary number: two subtrees of one size become one of the next.
        for _ in 0..self.leaves.trailing_ones() {
            let Some(left) = self.subtrees.pop() else { break };
            hash = node(&left, &hash);
        }
        self.subtrees.push(hash);
        self.leaves += 1;
    }

    /// The root; of no records SHA-256 of nothing.
    pub(super) fn root(&self) -> Hash {
        let mut from_the_right = self.subtrees.iter().rev();
        let Some(last) = from_the_right.next() else { return digest(&[]) };
        from_the_right.fold(*last, |right, left| node(left, &right))
    }

    /// Empty again, with its memory.
    pub(super) fn clear(&mut self) {
        self.subtrees.clear();
        self.leaves = 0;
    }
}

fn node(left: &Hash, right: &Hash) -> Hash {
    digest(&[&[1], left, right])
}

fn digest(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// The definition, word for word: MTH(D[n]) = SHA-256(0x01 ‖ MTH(D[0:k]) ‖ MTH(D[k:n])), k the largest power of two below n.
    fn by_definition(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => digest(&[]),
            [leaf] => digest(&[&[0], leaf]),
            many => {
                let k = 1 << (many.len() - 1).ilog2();
                node(&by_definition(&many[..k]), &by_definition(&many[k..]))
            }
        }
    }

    #[test]
    fn roots_are_those_of_the_definition() {
        let mut tree = Tree::default();
        let mut leaves = Vec::new();
        for n in 0..70_u8 {
            assert_eq!(tree.root(), by_definition(&leaves), "{n}");
            leaves.push(vec![n; usize::from(n)]);
            tree.push(&leaves[usize::from(n)]);
        }
        tree.clear();
        assert_eq!(tree.root(), by_definition(&[]));
    }

    /// The inputs and roots that Certificate Transparency's own implementations are tested with.
    #[test]
    fn roots_are_those_that_others_compute() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\0",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let mut tree = Tree::default();
        assert_eq!(HEXLOWER.encode(&tree.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        tree.push(leaves[0]);
        assert_eq!(HEXLOWER.encode(&tree.root()), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        leaves[1..].iter().for_each(|leaf| tree.push(leaf));
        assert_eq!(HEXLOWER.encode(&tree.root()), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }
}
