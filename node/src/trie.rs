//! A persistent Merkle Patricia trie.
//!
//! State history has to be cheap twice: a block may only cost what it changed, and its state root
//! may only hash what it changed. Nodes are immutable and shared between versions of the trie, and
//! every node remembers its own hash once it is known, so both hold. Keys are always 32-byte
//! hashes (the "secure" trie of the Yellow Paper, appendix D), which is why no branch carries a
//! value. Node encodings come from `alloy-trie`.

use std::{fmt, sync::Arc, sync::OnceLock};

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::Encodable;
use alloy_trie::{
    EMPTY_ROOT_HASH, Nibbles, TrieMask,
    nodes::{BranchNodeRef, ExtensionNodeRef, LeafNodeRef, RlpNode},
};

/// A value that a trie can hold: it knows the RLP that its leaf commits to.
pub(crate) trait Leaf: Clone {
    /// The RLP of the value, as the leaf contains it.
    fn rlp(&self) -> Vec<u8>;
}

/// One version of a trie. Cloning costs one reference count.
pub(crate) struct Trie<V> {
    root: Option<Arc<Node<V>>>,
}

struct Node<V> {
    kind: Kind<V>,
    /// How a parent refers to this node: its RLP if that is shorter than 32 bytes, else its hash.
    reference: OnceLock<RlpNode>,
}

type Children<V> = [Option<Arc<Node<V>>>; 16];

enum Kind<V> {
    Leaf { path: Nibbles, value: V },
    Extension { path: Nibbles, child: Arc<Node<V>> },
    Branch(Box<Children<V>>),
}

/// What removing a key did to a subtrie.
enum Removal<V> {
    Absent,
    Replaced(Option<Arc<Node<V>>>),
}

impl<V> Clone for Trie<V> {
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
        }
    }
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<V> fmt::Debug for Trie<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trie")
            .field("empty", &self.root.is_none())
            .finish()
    }
}

impl<V: Leaf> Trie<V> {
    /// The value under `key`.
    pub(crate) fn get(&self, key: B256) -> Option<&V> {
        let mut rest = Nibbles::unpack(key);
        let mut node = self.root.as_deref()?;
        loop {
            match &node.kind {
                Kind::Leaf { path, value } => return (rest == *path).then_some(value),
                Kind::Extension { path, child } => {
                    if !rest.starts_with(path) {
                        return None;
                    }
                    rest = rest.slice(path.len()..);
                    node = child;
                }
                Kind::Branch(children) => {
                    node = child_at(children, &rest)?;
                    rest = rest.slice(1..);
                }
            }
        }
    }

    /// Puts `value` under `key`, replacing what was there.
    pub(crate) fn insert(&mut self, key: B256, value: V) {
        self.root = Some(insert(self.root.as_ref(), Nibbles::unpack(key), value));
    }

    /// Takes `key` out.
    pub(crate) fn remove(&mut self, key: B256) {
        if let Some(root) = &self.root
            && let Removal::Replaced(root) = remove(root, Nibbles::unpack(key))
        {
            self.root = root;
        }
    }

    /// The root hash; the hash of the empty string's RLP for an empty trie.
    pub(crate) fn root(&self) -> B256 {
        let Some(root) = &self.root else {
            return EMPTY_ROOT_HASH;
        };
        let reference = root.reference();
        reference
            .as_hash()
            .unwrap_or_else(|| keccak256(reference.as_slice()))
    }

    /// The RLP of every node on the way to `key`, from the root down (EIP-1186). For a key that is
    /// absent the nodes prove its absence.
    pub(crate) fn proof(&self, key: B256) -> Vec<Bytes> {
        let mut proof = Vec::new();
        let mut rest = Nibbles::unpack(key);
        let mut next = self.root.as_deref();
        while let Some(node) = next {
            let encoded = node.encode();
            // A shorter node stands inline in its parent and is proven with it.
            if proof.is_empty() || encoded.len() >= 32 {
                proof.push(encoded.into());
            }
            next = match &node.kind {
                Kind::Leaf { .. } => None,
                Kind::Extension { path, child } => rest.starts_with(path).then(|| {
                    rest = rest.slice(path.len()..);
                    child.as_ref()
                }),
                Kind::Branch(children) => {
                    let child = child_at(children, &rest);
                    rest = rest.slice(1..);
                    child
                }
            };
        }
        proof
    }
}

impl<V: Leaf> Node<V> {
    fn new(kind: Kind<V>) -> Arc<Self> {
        Arc::new(Self {
            kind,
            reference: OnceLock::new(),
        })
    }

    fn reference(&self) -> &RlpNode {
        self.reference
            .get_or_init(|| RlpNode::from_rlp(&self.encode()))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match &self.kind {
            Kind::Leaf { path, value } => LeafNodeRef::new(path, &value.rlp()).encode(&mut out),
            Kind::Extension { path, child } => {
                ExtensionNodeRef::new(path, child.reference()).encode(&mut out);
            }
            Kind::Branch(children) => {
                let mut mask = 0u16;
                let mut stack = Vec::with_capacity(16);
                for (index, child) in children.iter().enumerate() {
                    if let Some(child) = child {
                        mask |= 1 << index;
                        stack.push(child.reference().clone());
                    }
                }
                BranchNodeRef::new(&stack, TrieMask::new(mask)).encode(&mut out);
            }
        }
        out
    }
}

fn leaf<V: Leaf>(path: Nibbles, value: V) -> Arc<Node<V>> {
    Node::new(Kind::Leaf { path, value })
}

fn child_at<'a, V>(children: &'a Children<V>, path: &Nibbles) -> Option<&'a Node<V>> {
    children.get(usize::from(path.first()?))?.as_deref()
}

/// Puts `path` in front of `node`: an extension over a branch, a longer path otherwise.
fn prefixed<V: Leaf>(path: Nibbles, node: &Arc<Node<V>>) -> Arc<Node<V>> {
    if path.is_empty() {
        return Arc::clone(node);
    }
    match &node.kind {
        Kind::Leaf { path: own, value } => leaf(path.join(own), value.clone()),
        Kind::Extension { path: own, child } => Node::new(Kind::Extension {
            path: path.join(own),
            child: Arc::clone(child),
        }),
        Kind::Branch(_) => Node::new(Kind::Extension {
            path,
            child: Arc::clone(node),
        }),
    }
}

/// A branch with two children, whose paths differ in their first nibble.
fn fork<V: Leaf>(entries: [(Nibbles, Arc<Node<V>>); 2]) -> Arc<Node<V>> {
    let mut children = Box::new(Children::default());
    for (path, node) in entries {
        set_child(&mut children, &path, Some(node));
    }
    Node::new(Kind::Branch(children))
}

fn set_child<V>(children: &mut Children<V>, path: &Nibbles, node: Option<Arc<Node<V>>>) {
    if let Some(nibble) = path.first()
        && let Some(slot) = children.get_mut(usize::from(nibble))
    {
        *slot = node;
    }
}

fn insert<V: Leaf>(node: Option<&Arc<Node<V>>>, path: Nibbles, value: V) -> Arc<Node<V>> {
    let Some(node) = node else {
        return leaf(path, value);
    };
    match &node.kind {
        Kind::Leaf {
            path: own,
            value: old,
        } => {
            if *own == path {
                return leaf(path, value);
            }
            let common = own.common_prefix_length(&path);
            let branch = fork([
                (
                    own.slice(common..),
                    leaf(own.slice(common + 1..), old.clone()),
                ),
                (path.slice(common..), leaf(path.slice(common + 1..), value)),
            ]);
            prefixed(path.slice(..common), &branch)
        }
        Kind::Extension { path: own, child } => {
            let common = own.common_prefix_length(&path);
            if common == own.len() {
                let child = insert(Some(child), path.slice(common..), value);
                return Node::new(Kind::Extension { path: *own, child });
            }
            let branch = fork([
                (
                    own.slice(common..),
                    prefixed(own.slice(common + 1..), child),
                ),
                (path.slice(common..), leaf(path.slice(common + 1..), value)),
            ]);
            prefixed(path.slice(..common), &branch)
        }
        Kind::Branch(children) => {
            let slot = path
                .first()
                .and_then(|nibble| children.get(usize::from(nibble)));
            let child = insert(slot.and_then(Option::as_ref), path.slice(1..), value);
            let mut children = children.clone();
            set_child(&mut children, &path, Some(child));
            Node::new(Kind::Branch(children))
        }
    }
}

fn remove<V: Leaf>(node: &Arc<Node<V>>, path: Nibbles) -> Removal<V> {
    match &node.kind {
        Kind::Leaf { path: own, .. } if *own == path => Removal::Replaced(None),
        Kind::Leaf { .. } => Removal::Absent,
        Kind::Extension { path: own, child } => {
            if !path.starts_with(own) {
                return Removal::Absent;
            }
            match remove(child, path.slice(own.len()..)) {
                Removal::Absent => Removal::Absent,
                Removal::Replaced(child) => {
                    Removal::Replaced(child.map(|child| prefixed(*own, &child)))
                }
            }
        }
        Kind::Branch(children) => {
            let slot = path
                .first()
                .and_then(|nibble| children.get(usize::from(nibble)));
            let Some(child) = slot.and_then(Option::as_ref) else {
                return Removal::Absent;
            };
            let Removal::Replaced(child) = remove(child, path.slice(1..)) else {
                return Removal::Absent;
            };
            let mut children = children.clone();
            set_child(&mut children, &path, child);
            Removal::Replaced(Some(collapsed(children)))
        }
    }
}

/// A branch, or the path that a branch with one remaining child folds into.
fn collapsed<V: Leaf>(children: Box<Children<V>>) -> Arc<Node<V>> {
    let mut present = (0u8..)
        .zip(children.iter())
        .filter_map(|(n, c)| c.as_ref().map(|c| (n, c)));
    if let (Some((nibble, only)), None) = (present.next(), present.next()) {
        return prefixed(Nibbles::from_nibbles([nibble]), only);
    }
    Node::new(Kind::Branch(children))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use alloy_primitives::U256;
    use proptest::prelude::*;

    use super::*;

    /// Keys that share long prefixes, so that extensions, splits and collapses all happen.
    fn key() -> impl Strategy<Value = B256> {
        (0u8..4, 0u8..4, 0u8..32).prop_map(|(first, second, last)| {
            let mut key = B256::ZERO;
            key.0[0] = first << 4;
            key.0[16] = second;
            key.0[31] = last;
            key
        })
    }

    fn reference_root(model: &BTreeMap<B256, U256>) -> B256 {
        alloy_trie::root::storage_root(model.iter().map(|(key, value)| (*key, *value)))
    }

    proptest! {
        #[test]
        fn agrees_with_the_hash_builder(
            steps in prop::collection::vec((key(), prop::option::of(1u64..100)), 0..120)
        ) {
            let mut trie = Trie::<U256>::default();
            let mut model = BTreeMap::new();
            for (key, value) in steps {
                let before = (trie.clone(), reference_root(&model));
                match value {
                    Some(value) => {
                        trie.insert(key, U256::from(value));
                        model.insert(key, U256::from(value));
                    }
                    None => {
                        trie.remove(key);
                        model.remove(&key);
                    }
                }
                prop_assert_eq!(trie.root(), reference_root(&model));
                prop_assert_eq!(trie.get(key), model.get(&key));
                prop_assert_eq!(before.0.root(), before.1, "an older version changed");
            }
        }

        #[test]
        fn proves_presence_and_absence(
            entries in prop::collection::btree_map(key(), 1u64..100, 1..40), probe in key()
        ) {
            let mut trie = Trie::<U256>::default();
            for (key, value) in &entries {
                trie.insert(*key, U256::from(*value));
            }
            let expected = entries.get(&probe).map(|value| U256::from(*value).rlp());
            let proof = trie.proof(probe);
            let path = Nibbles::unpack(probe);
            alloy_trie::proof::verify_proof(trie.root(), path, expected, &proof).unwrap();
            let wrong = Some(U256::from(1000).rlp());
            prop_assert!(alloy_trie::proof::verify_proof(trie.root(), path, wrong, &proof).is_err());
        }
    }

    #[test]
    fn an_empty_trie_has_the_empty_root_and_no_proof() {
        let mut trie = Trie::<U256>::default();
        trie.insert(B256::ZERO, U256::ONE);
        trie.remove(B256::ZERO);
        assert_eq!(trie.root(), EMPTY_ROOT_HASH);
        assert!(trie.proof(B256::ZERO).is_empty());
    }
}
