//! A request as it came in and what may become of it, for both wallets.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use hyper::body::{Body, Frame, SizeHint};

/// A whole request: head and at most 1 MiB of body, exactly as sent.
pub struct WireRequest {
    /// Upper case, as sent.
    pub method: Method,
    /// Path without query, percent-encoded as sent.
    pub path: String,
    /// What follows `?`, percent-encoded as sent; `None` without `?`.
    pub query: Option<String>,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body bytes.
    pub body: Bytes,
    /// Whether it came to the backup listener.
    pub backup: bool,
}

impl WireRequest {
    /// Path and query as a signature covers them.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// A header as text; `None` when absent or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The query, decoded, in order.
    pub fn query_pairs(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(self.query.as_deref().unwrap_or_default().as_bytes()).into_owned().collect()
    }
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl Answer {
    /// An answer with a content type and nothing else.
    pub fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { status, headers: vec![("Content-Type", content_type.to_owned())], body: body.into() }
    }

    /// The page a gateway in front of a wallet shows when nobody is behind it.
    pub fn bad_gateway() -> Self {
        Self::new(
            502,
            "text/html",
            "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n",
        )
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Takes a header away.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// An answer, in full.
    Answer(Answer),
    /// An answer that breaks off in the middle of its body, with the connection.
    CutBody(Answer),
    /// No answer: the connection is closed.
    Close,
    /// No answer and no close, for this long; then the connection is closed.
    Hang(Duration),
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Reply::Answer(answer)
    }
}

/// A body that can promise more than it delivers.
pub(crate) struct Payload {
    bytes: Option<Bytes>,
    length: u64,
}

/// The deliberate end of a body that was cut.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut on purpose")]
pub(crate) struct CutOnPurpose;

impl Payload {
    fn whole(bytes: Bytes) -> Self {
        Self { length: bytes.len() as u64, bytes: Some(bytes) }
    }

    fn cut(bytes: Bytes) -> Self {
        Self { length: bytes.len() as u64, bytes: Some(bytes.slice(..bytes.len() / 2)) }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = CutOnPurpose;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOnPurpose>>> {
        Poll::Ready(match self.bytes.take() {
            Some(bytes) if !bytes.is_empty() => {
                self.length -= bytes.len() as u64;
                Some(Ok(Frame::data(bytes)))
            }
            _ if self.length > 0 => Some(Err(CutOnPurpose)),
            _ => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.length == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

pub(crate) fn to_http(answer: Answer, cut: bool) -> http::Response<Payload> {
    let body = if cut { Payload::cut(answer.body) } else { Payload::whole(answer.body) };
    let mut response = http::Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(answer.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}
