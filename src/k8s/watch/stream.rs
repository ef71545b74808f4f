//! What happens to a kind from a version on: one line of JSON each, for as long as the connection lasts.
//!
//! `lines -> Line {version, event}`, by [`Stream::next`]. Half a line at the end of a connection is nothing: whoever goes on
//! from the last version gets it whole. A watch that says nothing for long is over, too: whoever opens it again finds out
//! whether the server is there.

use super::{error::Error, request, resource::Kind, trim::Keep};
use crate::{k8s::convert::Settings, policy::cluster::Event};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde::de::DeserializeSeed;
use serde_json::Value;
use std::time::Duration;

/// For how long a watch may say nothing; where no bookmarks come, how often one is opened. They come about every minute, but a
/// server leaves out those that say no newer version than the watch began with: of a quiet kind the first one, or all. This is
/// enough for one that is missing and the next one late.
pub(super) const QUIET: Duration = Duration::from_secs(150);
/// A line is an object, and etcd takes none of this size.
const LONGEST: usize = 16 << 20;

/// A watch that the server has accepted.
pub(super) struct Stream {
    kind: Kind,
    settings: Settings,
    body: Body,
    /// What was received; from `start` on it has not been read.
    buffer: Vec<u8>,
    start: usize,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where a later watch goes on.
    pub(super) version: Option<String>,
    /// What happened; nothing in a bookmark.
    pub(super) event: Option<Event>,
}

impl Stream {
    /// Asks for what happens after a version, for some seconds.
    pub(super) async fn open(
        client: &Client,
        kind: Kind,
        settings: &Settings,
        version: &str,
        lasting: Duration,
    ) -> Result<Self, Error> {
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={}{}",
            kind.path(),
            lasting.as_secs(),
            kind.which()
        );
        let answer = request::get(client, &path, Some(("watch", kind.resource()))).await?;
        Ok(Self { kind, settings: settings.clone(), body: answer.into_body(), buffer: Vec::new(), start: 0 })
    }

    /// The next line; `None` when the watch is over.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, Error> {
        let mut searched = self.start;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|byte| *byte == b'\n').map(|at| searched + at) {
                let line = line(self.kind, &self.settings, &self.buffer[self.start..end]);
                self.start = end + 1;
                return line.map(Some);
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            searched = self.buffer.len();
            if searched > LONGEST {
                return Err(Error::Unreadable(format!("a line of more than {LONGEST} bytes")));
            }
            if !more(&mut self.body, &mut self.buffer, QUIET).await? {
                return Ok(None);
            }
        }
    }
}

/// Takes in what a watch says next; `false` when it is over: the server has ended it, or nothing came for so long.
pub(super) async fn more(body: &mut Body, buffer: &mut Vec<u8>, quiet: Duration) -> Result<bool, Error> {
    match tokio::time::timeout(quiet, body.frame()).await {
        Err(_) | Ok(None) => Ok(false),
        Ok(Some(frame)) => {
            buffer.extend(frame.map_err(|error| request::broken(&error))?.data_ref().into_iter().flatten());
            Ok(true)
        }
    }
}

fn line(kind: Kind, settings: &Settings, text: &[u8]) -> Result<Line, Error> {
    let wrong = |why: String| Error::Unreadable(format!("an event of {}: {why}", kind.resource()));
    let mut event = Envelope(kind)
        .deserialize(&mut serde_json::Deserializer::from_slice(text))
        .map_err(|error| wrong(error.to_string()))?;
    let object = event["object"].take();
    let version = object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    let event = match event["type"].as_str().unwrap_or_default() {
        "ADDED" | "MODIFIED" => kind.event(object, true, settings),
        "DELETED" => kind.event(object, false, settings),
        "BOOKMARK" => None,
        "ERROR" => {
            let message = object["message"].as_str().unwrap_or_default().to_owned();
            return Err(match object["code"].as_u64() {
                Some(410) => Error::Gone(message),
                code => Error::Answer {
                    status: code.and_then(|code| u16::try_from(code).ok()).unwrap_or(500),
                    what: format!("the watch of {}", kind.resource()),
                    message,
                    retry_after: None,
                },
            });
        }
        other => return Err(wrong(format!("its type is {other:?}"))),
    };
    Ok(Line { version, event })
}

/// An event around an object, or around an error.
struct Envelope(Kind);

impl<'de> DeserializeSeed<'de> for Envelope {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> serde::de::Visitor<'de> for Envelope {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an event of a watch")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        const ERROR: Keep = Keep::Fields(&[("code", Keep::All), ("message", Keep::All)]);
        let mut event = Value::Null;
        while let Some(name) = map.next_key::<String>()? {
            let is_error = event["type"] == "ERROR";
            let keep = match name.as_str() {
                "object" if is_error => &ERROR,
                "object" => self.0.keep(),
                // The server writes the type before the object.
                _ => &Keep::All,
            };
            event[name] = map.next_value_seed(keep)?;
        }
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::Key;
    use axum::body::Bytes;
    use http_body::Frame;
    use serde_json::json;
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    /// Says something once, and then nothing.
    struct Silent(Option<Bytes>);

    impl http_body::Body for Silent {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.take().map_or(Poll::Pending, |text| Poll::Ready(Some(Ok(Frame::data(text)))))
        }
    }

    #[tokio::test]
    async fn a_watch_that_says_nothing_for_long_is_over_and_that_is_no_error() {
        let answer = |_| async { Ok::<_, Infallible>(http::Response::new(Silent(Some("{}".into())))) };
        let client = Client::new(tower::service_fn(answer), "default");
        let mut body = request::get(&client, "/", None).await.unwrap().into_body();
        let (mut buffer, quiet) = (Vec::new(), Duration::from_millis(10));
        assert!(more(&mut body, &mut buffer, quiet).await.unwrap());
        assert!(!more(&mut body, &mut buffer, quiet).await.unwrap());
        assert_eq!(buffer, b"{}");
    }

    fn read(value: &Value) -> Result<Line, Error> {
        line(Kind::Pod, &Settings::default(), value.to_string().as_bytes())
    }

    fn event(what: &str, object: &Value) -> Value {
        json!({"type": what, "object": object})
    }

    #[test]
    fn lines_become_events_and_say_where_to_go_on() {
        let object = json!({"metadata": {"name": "a", "namespace": "x", "resourceVersion": "5"}, "spec": {}});
        let there = read(&event("ADDED", &object)).unwrap();
        assert_eq!(there.version.as_deref(), Some("5"));
        assert!(matches!(there.event, Some(Event::Pod(_, Some(_)))));
        let gone = read(&event("DELETED", &object)).unwrap();
        assert_eq!(gone.event, Some(Event::Pod(Key::new("x", "a"), None)));
        let bookmark = read(&event("BOOKMARK", &json!({"metadata": {"resourceVersion": "9"}}))).unwrap();
        assert_eq!(bookmark, Line { version: Some("9".to_owned()), event: None });
    }

    #[test]
    fn errors_in_the_stream_are_errors() {
        let text = br#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old","status":"Failure"}}"#;
        assert!(line(Kind::Pod, &Settings::default(), text).unwrap_err().gone());
        let text = br#"{"type":"ERROR","object":{"code":500,"message":"etcd"}}"#;
        assert!(
            line(Kind::Pod, &Settings::default(), text)
                .unwrap_err()
                .to_string()
                .contains("answers 500 to the watch of pods: etcd")
        );
        for text in ["", "null", "{", "{}", r#"{"type":"NEW"}"#] {
            assert!(
                matches!(line(Kind::Pod, &Settings::default(), text.as_bytes()), Err(Error::Unreadable(_))),
                "{text}"
            );
        }
    }
}
