//! The elements and texts of a manifest, exactly as they are written. Attacker-controlled: whatever
//! would need a rule of canonicalisation beyond sorting is refused here.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::{MAX_RIM_BYTES, MAX_RIM_DEPTH, MAX_RIM_ELEMENTS, RimError};

/// An element with its attributes, namespace declarations among them, in the order written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    /// Name with prefix.
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) children: Vec<Node>,
}

/// What an element contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Element(Element),
    Text(String),
}

impl Element {
    /// Reads a document of one element.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, RimError> {
        if bytes.len() > MAX_RIM_BYTES {
            return Err(RimError::TooLarge { got: bytes.len() });
        }
        let text = core::str::from_utf8(bytes)
            .map_err(|_| RimError::Form { what: "text not in UTF-8" })?;
        // Line ends and tabs are what XML normalises, and ASCII has no two ways to be written.
        if !text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)) {
            return Err(RimError::Form { what: "a character that is not printable ASCII" });
        }
        read(text)
    }

    /// The child elements.
    pub(crate) fn elements(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The only child element of this name.
    pub(crate) fn only(&self, name: &'static str) -> Result<&Self, RimError> {
        let mut named = self.elements().filter(|e| e.name == name);
        match (named.next(), named.next()) {
            (Some(element), None) => Ok(element),
            _ => Err(RimError::Missing { what: name }),
        }
    }

    /// The value of an attribute.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All text, of an element that has no child elements.
    pub(crate) fn text(&self, what: &'static str) -> Result<String, RimError> {
        let parts = self.children.iter().map(|node| match node {
            Node::Text(text) => Ok(text.as_str()),
            Node::Element(_) => Err(RimError::Missing { what }),
        });
        parts.collect()
    }
}

fn read(text: &str) -> Result<Element, RimError> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut count = 0usize;
    loop {
        let event =
            reader.read_event().map_err(|_| RimError::Xml { at: reader.error_position() })?;
        let closed = match event {
            Event::Start(start) => {
                if open.len() >= MAX_RIM_DEPTH {
                    return Err(RimError::Form { what: "deep nesting" });
                }
                open.push(element(&start, reader.buffer_position())?);
                None
            }
            Event::Empty(start) => Some(element(&start, reader.buffer_position())?),
            Event::End(_) => open.pop(),
            Event::Text(text) => {
                add_text(&mut open, &text)?;
                None
            }
            Event::Eof => break,
            // Entities, comments, CDATA, declarations, instructions, document types.
            _ => return Err(RimError::Form { what: "something other than elements and text" }),
        };
        let Some(closed) = closed else { continue };
        count = count.saturating_add(1);
        if count > MAX_RIM_ELEMENTS {
            return Err(RimError::Form { what: "more than 1024 elements" });
        }
        match open.last_mut() {
            Some(parent) => parent.children.push(Node::Element(closed)),
            None if root.is_none() => root = Some(closed),
            None => return Err(RimError::Form { what: "a second root element" }),
        }
    }
    root.filter(|_| open.is_empty()).ok_or(RimError::Missing { what: "the root element" })
}

fn add_text(open: &mut [Element], text: &str) -> Result<(), RimError> {
    if text.contains(['<', '>', '&']) {
        return Err(RimError::Form { what: "text with markup characters" });
    }
    match open.last_mut() {
        Some(parent) => parent.children.push(Node::Text(text.to_owned())),
        // Line ends around the root are not part of what is signed.
        None if text.bytes().all(|b| b == b'\n' || b == b' ') => {}
        None => return Err(RimError::Form { what: "text outside of the root element" }),
    }
    Ok(())
}

fn element(start: &BytesStart<'_>, at: u64) -> Result<Element, RimError> {
    let name = start.name().as_ref().to_owned();
    let mut attributes: Vec<(String, String)> = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|_| RimError::Xml { at })?;
        let (name, value) = (attribute.key.as_ref(), attribute.value.as_ref());
        if value.contains(['<', '>', '&', '"', '\n']) {
            return Err(RimError::Form { what: "an attribute with markup characters" });
        }
        if name.starts_with("xml:") {
            return Err(RimError::Form { what: "an xml: attribute" });
        }
        attributes.push((name.to_owned(), value.to_owned()));
    }
    let plain = |n: &str| {
        n.matches(':').count() <= 1
            && n.split(':').all(|part| {
                part.starts_with(|c: char| c.is_ascii_alphabetic())
                    && part.bytes().all(|b| b.is_ascii_alphanumeric())
            })
    };
    if !plain(&name) || !attributes.iter().all(|(n, _)| plain(n)) {
        return Err(RimError::Form { what: "a name of other characters than letters and digits" });
    }
    Ok(Element { name, attributes, children: Vec::new() })
}
