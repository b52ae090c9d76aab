//! Canonical XML 1.1 (W3C, inclusive, without comments) of a [`Element`] tree. The tree has no
//! entities, no `xml:` attributes and nothing to escape, so what is left is: namespace declarations
//! where they say something new, then attributes by namespace and local name, and no empty tags.

use std::collections::BTreeMap;

use crate::RimError;
use crate::tree::{Element, Node};

/// Namespace by prefix; the empty prefix is the default namespace.
pub(crate) type Scope = BTreeMap<String, String>;

/// The namespaces in scope inside an element.
pub(crate) fn scope(element: &Element, outer: &Scope) -> Result<Scope, RimError> {
    let mut inner = outer.clone();
    for (name, value) in &element.attributes {
        let Some(prefix) = declared(name) else { continue };
        if value.is_empty() || prefix == "xml" || prefix == "xmlns" {
            return Err(RimError::Form { what: "a namespace that is undeclared or reserved" });
        }
        inner.insert(prefix.to_owned(), value.clone());
    }
    Ok(inner)
}

/// The canonical form of `element` with `outer` in scope, as the apex of what is signed: it shows
/// every namespace in scope.
pub(crate) fn canonical(element: &Element, outer: &Scope) -> Result<String, RimError> {
    let mut out = String::new();
    write(element, outer, &Scope::new(), &mut out)?;
    Ok(out)
}

/// `shown` is what the elements around this one have already written.
fn write(
    element: &Element,
    outer: &Scope,
    shown: &Scope,
    out: &mut String,
) -> Result<(), RimError> {
    let inner = scope(element, outer)?;
    namespace(&element.name, &inner)?;
    out.push('<');
    out.push_str(&element.name);
    for (prefix, value) in inner.iter().filter(|(prefix, value)| shown.get(*prefix) != Some(*value))
    {
        let colon = if prefix.is_empty() { "" } else { ":" };
        attribute(out, &format!("xmlns{colon}{prefix}"), value);
    }
    let mut sorted = Vec::new();
    for (name, value) in element.attributes.iter().filter(|(n, _)| declared(n).is_none()) {
        // Attributes without a prefix are in no namespace, whatever the default is.
        let uri = if name.contains(':') { namespace(name, &inner)? } else { "" };
        sorted.push((uri, local(name), name, value));
    }
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| matches!(pair, [a, b] if (a.0, a.1) == (b.0, b.1))) {
        return Err(RimError::Form { what: "an attribute under two prefixes" });
    }
    for (_, _, name, value) in sorted {
        attribute(out, name, value);
    }
    out.push('>');
    for child in &element.children {
        match child {
            Node::Text(text) => out.push_str(text),
            Node::Element(child) => write(child, &inner, &inner, out)?,
        }
    }
    out.push_str("</");
    out.push_str(&element.name);
    out.push('>');
    Ok(())
}

/// The namespace of a name, which must be declared.
pub(crate) fn namespace<'a>(name: &str, scope: &'a Scope) -> Result<&'a str, RimError> {
    let prefix = name.split_once(':').map_or("", |(prefix, _)| prefix);
    let uri = scope.get(prefix).map(String::as_str);
    uri.ok_or(RimError::Form { what: "a name without a namespace" })
}

/// The name without its prefix.
pub(crate) fn local(name: &str) -> &str {
    name.split_once(':').map_or(name, |(_, local)| local)
}

/// The prefix an attribute declares.
fn declared(name: &str) -> Option<&str> {
    if name == "xmlns" { Some("") } else { name.strip_prefix("xmlns:") }
}

fn attribute(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    out.push_str(value);
    out.push('"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(text: &str) -> String {
        canonical(&Element::parse(text.as_bytes()).unwrap(), &Scope::new()).unwrap()
    }

    #[test]
    fn sorts_namespaces_by_prefix_and_attributes_by_namespace_and_name() {
        // The order of C14N 1.1 §4.8: no namespace first, then by URI and not by prefix.
        let text = "<a xmlns:z=\"urn:1\" z:q='1' xmlns=\"urn:d\" y:b=\"2\" c=\"3\" \
                    xmlns:y=\"urn:0\"  b=\"4\"/>\n";
        let wanted = "<a xmlns=\"urn:d\" xmlns:y=\"urn:0\" xmlns:z=\"urn:1\" b=\"4\" c=\"3\" \
                      y:b=\"2\" z:q=\"1\"></a>";
        assert_eq!(of(text), wanted);
        assert_eq!(of(wanted), wanted);
    }

    #[test]
    fn writes_a_namespace_again_only_where_it_changes() {
        let text = "<p:a xmlns:p=\"urn:1\"> <p:b xmlns:p=\"urn:1\"/><p:c xmlns:p=\"urn:2\"><p:d \
                    xmlns:p=\"urn:1\"></p:d></p:c></p:a>";
        let wanted = "<p:a xmlns:p=\"urn:1\"> <p:b></p:b><p:c xmlns:p=\"urn:2\"><p:d \
                      xmlns:p=\"urn:1\"></p:d></p:c></p:a>";
        assert_eq!(of(text), wanted);
    }

    #[test]
    fn refuses_everything_it_has_no_rule_for() {
        for text in [
            "<a xmlns=\"u\"><!-- c --></a>",
            "<?xml version=\"1.0\"?><a xmlns=\"u\"/>",
            "<!DOCTYPE a><a xmlns=\"u\"/>",
            "<a xmlns=\"u\">&amp;</a>",
            "<a xmlns=\"u\" b=\"&#65;\"/>",
            "<a xmlns=\"u\"><![CDATA[x]]></a>",
            "<a xmlns=\"u\" xml:lang=\"en\"/>",
            "<a xmlns=\"u\" b=\"1\" b=\"2\"/>",
            "<a xmlns=\"u\" b=\"x\ty\"/>",
            "<a xmlns=\"u\" b=\"x\ny\"/>",
            "<a xmlns=\"u\">\r\n</a>",
            "<a xmlns=\"u\">\u{e9}</a>",
            "<a xmlns=\"u\">]]></a>",
            "<a xmlns=\"u\"/>text",
            "<a xmlns=\"u\"/><b xmlns=\"u\"/>",
            "<a xmlns=\"u\"><b></a></b>",
            "<a xmlns=\"u\">",
            "<a xmlns=\"u\" p:b=\"1\"/>",
            "<p:a/>",
            "<a/>",
            "<a xmlns=\"\"/>",
            "<a xmlns=\"u\" xmlns:p=\"v\" xmlns:q=\"v\" p:b=\"1\" q:b=\"2\"/>",
            "<a xmlns=\"u\" b>",
            "<a-b xmlns=\"u\"/>",
            "",
        ] {
            let tree = Element::parse(text.as_bytes());
            let done = tree.and_then(|tree| canonical(&tree, &Scope::new()));
            assert!(done.is_err(), "{text:?} became {done:?}");
        }
    }

    #[test]
    fn refuses_one_level_and_one_element_over_the_limits() {
        let nested =
            |n: usize| format!("<a xmlns=\"u\">{}{}</a>", "<b>".repeat(n), "</b>".repeat(n));
        assert!(Element::parse(nested(crate::MAX_RIM_DEPTH - 1).as_bytes()).is_ok());
        assert!(Element::parse(nested(crate::MAX_RIM_DEPTH).as_bytes()).is_err());
        let many = |n: usize| format!("<a xmlns=\"u\">{}</a>", "<b/>".repeat(n));
        assert!(Element::parse(many(crate::MAX_RIM_ELEMENTS - 1).as_bytes()).is_ok());
        assert!(Element::parse(many(crate::MAX_RIM_ELEMENTS).as_bytes()).is_err());
        let got = crate::MAX_RIM_BYTES + 1;
        let long = format!("<a xmlns=\"u\">{}</a>", " ".repeat(got - 17));
        assert_eq!(Element::parse(long.as_bytes()), Err(RimError::TooLarge { got }));
    }
}
