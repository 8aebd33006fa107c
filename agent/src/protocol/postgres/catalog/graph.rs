//! Facts of the catalog to relations: follows rules, inheritance and generated columns to stored columns. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::ColumnName;

use super::Relation;

/// One row of the query; which fields count depends on the kind, see there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) kind: u8,
    pub(super) relation: u32,
    pub(super) other: u32,
    pub(super) attribute: i16,
    pub(super) source: i16,
    pub(super) first: Arc<str>,
    pub(super) second: Arc<str>,
}

#[derive(Default)]
struct Node {
    asked_for: bool,
    schema: Arc<str>,
    name: Arc<str>,
    columns: BTreeMap<i16, Arc<str>>,
    uses: BTreeSet<(u32, i16)>,
    rewritten: bool,
    opaque: bool,
    parents: Vec<u32>,
    children: Vec<u32>,
    generated: BTreeMap<i16, Vec<i16>>,
}

struct Graph(BTreeMap<u32, Node>);

/// The relations that were asked for.
pub(super) fn resolve(facts: &[Fact]) -> Vec<Arc<Relation>> {
    let graph = Graph::of(facts);
    let asked_for = graph.0.iter().filter(|(_, node)| node.asked_for);
    asked_for
        .map(|(oid, node)| Arc::new(graph.relation(*oid, node)))
        .collect()
}

impl Graph {
    fn of(facts: &[Fact]) -> Self {
        let mut nodes: BTreeMap<u32, Node> = BTreeMap::new();
        for fact in facts {
            let node = nodes.entry(fact.relation).or_default();
            match fact.kind {
                b'r' => {
                    node.asked_for = fact.other == 1;
                    node.schema = Arc::clone(&fact.first);
                    node.name = Arc::clone(&fact.second);
                }
                b'c' => {
                    node.columns.insert(fact.attribute, Arc::clone(&fact.first));
                }
                b'u' => {
                    node.uses.insert((fact.other, fact.attribute));
                }
                b'w' => node.rewritten = true,
                b'i' => {
                    node.parents.push(fact.other);
                    nodes.entry(fact.other).or_default().children.push(fact.relation);
                }
                b'g' => node
                    .generated
                    .entry(fact.attribute)
                    .or_default()
                    .push(fact.source),
                // The query has no other kind but `o`; what is not known cannot be followed.
                _ => node.opaque = true,
            }
        }
        Self(nodes)
    }

    fn relation(&self, oid: u32, node: &Node) -> Relation {
        let mut by_column = BTreeMap::new();
        let mut made_of = BTreeSet::new();
        for attribute in node.columns.keys() {
            let mut names = BTreeSet::new();
            self.stored(oid, *attribute, &mut names);
            names.remove(&node.column(*attribute));
            let names: Vec<ColumnName> = names.into_iter().flatten().collect();
            made_of.extend(names.iter().cloned());
            if !names.is_empty() {
                by_column.insert(*attribute, names);
            }
        }
        let mut opaque = node.opaque;
        self.followed(oid, &mut BTreeSet::new(), &mut made_of, &mut opaque);
        Relation {
            oid,
            schema: Arc::clone(&node.schema),
            name: Arc::clone(&node.name),
            columns: node.columns.clone(),
            made_of: made_of.into_iter().collect(),
            by_column,
            rewritten: node.rewritten,
            opaque,
        }
    }

    /// Adds what the rules of `oid` use, and what the rules of that use.
    fn followed(
        &self,
        oid: u32,
        seen: &mut BTreeSet<u32>,
        made_of: &mut BTreeSet<ColumnName>,
        opaque: &mut bool,
    ) {
        let mut open = vec![oid];
        while let Some(oid) = open.pop() {
            let Some(node) = self.0.get(&oid).filter(|_| seen.insert(oid)) else {
                continue;
            };
            for (other, attribute) in &node.uses {
                let Some(used) = self.0.get(other) else {
                    // It was dropped between two looks at the catalog; its columns are not known.
                    *opaque = true;
                    continue;
                };
                *opaque |= used.opaque;
                let attributes: Vec<i16> = match attribute {
                    0 => used.columns.keys().copied().collect(),
                    one => vec![*one],
                };
                let mut names = BTreeSet::new();
                for attribute in attributes {
                    self.stored(*other, attribute, &mut names);
                }
                made_of.extend(names.into_iter().flatten());
                open.push(*other);
            }
        }
    }

    /// Adds every name of a stored column: its own; those of the same column in the tables that it inherits from, and
    /// in those that inherit from it, since a query of the one returns rows of the others; and, where it is
    /// generated, those of the columns that it is computed from.
    fn stored(&self, oid: u32, attribute: i16, names: &mut BTreeSet<Option<ColumnName>>) {
        let Some(node) = self.0.get(&oid) else { return };
        let mut attributes = vec![attribute];
        attributes.extend(node.generated.get(&attribute).into_iter().flatten());
        for attribute in attributes {
            let Some(column) = node.columns.get(&attribute) else {
                continue;
            };
            names.insert(node.column(attribute));
            for next in [
                |node: &Node| node.parents.clone(),
                |node: &Node| node.children.clone(),
            ] {
                let mut seen = BTreeSet::from([oid]);
                let mut open = next(node);
                while let Some(relative) = open.pop() {
                    let Some(node) = self.0.get(&relative).filter(|_| seen.insert(relative)) else {
                        continue;
                    };
                    // Inherited columns keep their names; their numbers differ.
                    if let Some((number, _)) = node.columns.iter().find(|(_, name)| *name == column) {
                        names.insert(node.column(*number));
                        let sources = node.generated.get(number).into_iter().flatten();
                        names.extend(sources.map(|source| node.column(*source)));
                    }
                    open.extend(next(node));
                }
            }
        }
    }
}

impl Node {
    fn column(&self, attribute: i16) -> Option<ColumnName> {
        self.columns.get(&attribute).map(|column| ColumnName {
            schema: Arc::clone(&self.schema),
            table: Arc::clone(&self.name),
            column: Arc::clone(column),
        })
    }
}
