//! Small XML documents, read strictly: no document type, bounded in depth, names by namespace, text without elements in it.

use uppsala::{Document, NodeId, NodeKind, Parser};

/// Why a document is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum XmlError {
    #[error("no well-formed XML within {DEEPEST} levels and without a document type")]
    Malformed,
    #[error("an element {element:?} that has elements where its text should be")]
    NoText { element: String },
    #[error("more than one {element:?} where one may be")]
    Several { element: &'static str },
    #[error("no {element:?} where one has to be")]
    Missing { element: &'static str },
}

/// A parsed document.
pub(super) struct Tree<'t>(Document<'t>);

/// One of its elements.
#[derive(Clone, Copy)]
pub(super) struct Element<'d, 't> {
    tree: &'d Tree<'t>,
    id: NodeId,
}

impl<'t> Tree<'t> {
    /// Parses `text`. A document type is refused where it begins, so no entity is ever declared, let alone expanded.
    pub(super) fn parse(text: &'t str) -> Result<Self, XmlError> {
        Parser::new()
            .with_max_depth(DEEPEST)
            .with_forbid_dtd(true)
            .with_forbid_entities(true)
            .parse(text)
            .map(Self)
            .map_err(|_| XmlError::Malformed)
    }

    pub(super) fn root(&self) -> Result<Element<'_, 't>, XmlError> {
        let id = self.0.document_element().ok_or(XmlError::Malformed)?;
        Ok(Element { tree: self, id })
    }

    /// Every element, in the order of the document.
    pub(super) fn elements(&self) -> impl Iterator<Item = Element<'_, 't>> {
        self.0
            .descendants(self.0.root())
            .into_iter()
            .filter(|id| self.0.element(*id).is_some())
            .map(|id| Element { tree: self, id })
    }

    /// Whether something is in it that a program could read past: a comment, or an instruction to a program.
    pub(super) fn has_asides(&self) -> bool {
        self.0.descendants(self.0.root()).into_iter().any(|id| {
            matches!(
                self.0.node_kind(id),
                Some(NodeKind::Comment(_) | NodeKind::ProcessingInstruction(_))
            )
        })
    }

    pub(super) fn document(&self) -> &Document<'t> {
        &self.0
    }
}

impl<'d, 't> Element<'d, 't> {
    pub(super) fn id(self) -> NodeId {
        self.id
    }

    pub(super) fn is(self, namespace: &str, name: &str) -> bool {
        self.data()
            .is_some_and(|element| element.name.matches(Some(namespace), name))
    }

    pub(super) fn name(self) -> &'d str {
        self.data().map_or("", |element| element.name.local_name.as_ref())
    }

    /// Whether its name is in this namespace.
    pub(super) fn is_in(self, namespace: &str) -> bool {
        self.data()
            .is_some_and(|element| element.name.namespace_uri.as_deref() == Some(namespace))
    }

    pub(super) fn parent(self) -> Option<NodeId> {
        self.tree.0.parent(self.id)
    }

    /// The value of an attribute that has no namespace.
    pub(super) fn attribute(self, name: &str) -> Option<&'d str> {
        self.attributes()
            .find(|(namespace, local, _)| namespace.is_none() && *local == name)
            .map(|(_, _, value)| value)
    }

    /// Namespace, name and value of each attribute.
    pub(super) fn attributes(self) -> impl Iterator<Item = (Option<&'d str>, &'d str, &'d str)> {
        let attributes = self.data().map_or(&[][..], |element| &element.attributes);
        attributes.iter().map(|attribute| {
            (
                attribute.name.namespace_uri.as_deref(),
                attribute.name.local_name.as_ref(),
                attribute.value.as_ref(),
            )
        })
    }

    pub(super) fn children(self) -> impl Iterator<Item = Element<'d, 't>> {
        self.tree
            .0
            .children_iter(self.id)
            .filter(|id| self.tree.0.element(*id).is_some())
            .map(move |id| Element { tree: self.tree, id })
    }

    pub(super) fn children_named(
        self,
        namespace: &'static str,
        name: &'static str,
    ) -> impl Iterator<Item = Element<'d, 't>> {
        self.children().filter(move |child| child.is(namespace, name))
    }

    /// The only child of this name; an error where there are several.
    pub(super) fn child(
        self,
        namespace: &'static str,
        name: &'static str,
    ) -> Result<Option<Element<'d, 't>>, XmlError> {
        let mut found = self.children_named(namespace, name);
        let first = found.next();
        if found.next().is_some() {
            return Err(XmlError::Several { element: name });
        }
        Ok(first)
    }

    /// The same, where there has to be one.
    pub(super) fn the(
        self,
        namespace: &'static str,
        name: &'static str,
    ) -> Result<Element<'d, 't>, XmlError> {
        self.child(namespace, name)?
            .ok_or(XmlError::Missing { element: name })
    }

    /// Its whole text, without white space around it. An error where it has elements.
    pub(super) fn text(self) -> Result<String, XmlError> {
        let mut text = String::new();
        for id in self.tree.0.children_iter(self.id) {
            match self.tree.0.node_kind(id) {
                Some(NodeKind::Text(part) | NodeKind::CData(part)) => text.push_str(part),
                // What may not have comments was looked through for them before.
                Some(NodeKind::Comment(_) | NodeKind::ProcessingInstruction(_)) => {}
                _ => {
                    return Err(XmlError::NoText {
                        element: super::super::claims::cut(self.name()),
                    });
                }
            }
        }
        Ok(text.trim_ascii().to_owned())
    }

    fn data(self) -> Option<&'d uppsala::Element<'t>> {
        self.tree.0.element(self.id)
    }
}

/// Levels of a document. A signed response has about ten; every reader below recurses by level.
const DEEPEST: u32 = 32;
