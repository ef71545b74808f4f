//! Everything that there is of a kind, page by page.
//!
//! `pages -> Listed {events, version}`, by [`list`]. Objects are read one after the other out of a page and cut down on
//! the way, so that what is in memory is one page as it came and what the model keeps of all.

use super::{error::Error, request, resource::Kind, trim::Keep};
use crate::{k8s::convert::Settings, policy::cluster::Event};
use kube::Client;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// Objects in one page.
const PAGE: usize = 500;

/// Everything of a kind, and as of when.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// One for each object that can be read.
    pub(super) events: Vec<Event>,
    /// Where a watch goes on.
    pub(super) version: String,
}

/// Lists a kind.
pub(super) async fn list(client: &Client, kind: Kind, settings: &Settings) -> Result<Listed, Error> {
    let mut listed = Listed::default();
    let mut next = String::new();
    loop {
        let (path, which) = (kind.path(), kind.which());
        let path = match next.as_str() {
            "" => format!("{path}?limit={PAGE}{which}"),
            token => format!("{path}?limit={PAGE}{which}&continue={}", escaped(token)),
        };
        let answer = request::get(client, &path, Some(("list", kind.resource()))).await?;
        let body = request::whole(answer, &path).await?;
        let mut page = Page { kind, settings, listed: &mut listed };
        next =
            page.read(&body).map_err(|error| Error::Unreadable(format!("its list of {}: {error}", kind.resource())))?;
        if next.is_empty() {
            return Ok(listed);
        }
    }
}

/// A text as it may stand in a query.
fn escaped(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// A page that is being read.
struct Page<'a> {
    kind: Kind,
    settings: &'a Settings,
    listed: &'a mut Listed,
}

impl Page<'_> {
    /// Takes the objects of a page in; says where the next one begins, which is nowhere after the last.
    fn read(&mut self, body: &[u8]) -> Result<String, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let next = deserializer.deserialize_map(&mut *self)?;
        deserializer.end()?;
        Ok(next)
    }
}

impl<'de> Visitor<'de> for &mut Page<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of the API")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        const METADATA: Keep = Keep::Fields(&[("resourceVersion", Keep::All), ("continue", Keep::All)]);
        let mut next = String::new();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match name.as_ref() {
                "metadata" => {
                    let metadata = map.next_value_seed(&METADATA)?;
                    let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
                    self.listed.version = text("resourceVersion");
                    next = text("continue");
                }
                "items" => map.next_value_seed(Items {
                    kind: self.kind,
                    settings: self.settings,
                    events: &mut self.listed.events,
                })?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(next)
    }
}

/// The items of a page: read, cut down and made events of, one by one.
struct Items<'a> {
    kind: Kind,
    settings: &'a Settings,
    events: &'a mut Vec<Event>,
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    /// Go writes a list of nothing so.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(object) = seq.next_element_seed(self.kind.keep())? {
            self.events.extend(self.kind.event(object, true, self.settings));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_escaped_for_a_query() {
        assert_eq!(escaped("eyJ2IjoibWV0YQ==+/&"), "eyJ2IjoibWV0YQ%3D%3D%2B%2F%26");
    }

    #[test]
    fn half_a_page_is_an_error_and_a_page_of_nothing_is_none() {
        let read = |text: &str| {
            let mut listed = Listed::default();
            let next =
                Page { kind: Kind::Pod, settings: &Settings::default(), listed: &mut listed }.read(text.as_bytes());
            next.ok().map(|next| (next, listed.version, listed.events.len()))
        };
        let whole = r#"{"kind":"PodList","metadata":{"resourceVersion":"7"},"items":null}"#;
        assert_eq!(read(whole), Some((String::new(), "7".to_owned(), 0)));
        assert_eq!(read(&whole[..40]), None);
        assert_eq!(read("[]"), None);
    }
}
