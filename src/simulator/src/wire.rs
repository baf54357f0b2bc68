//! A request as it came in and what may become of it, for both wallets.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use hyper::body::{Body, Frame, SizeHint};

use crate::stream::Pieces;

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
#[derive(Debug)]
pub enum Reply {
    /// An answer, in full.
    Answer(Answer),
    /// An answer that breaks off in the middle of its body, with the connection.
    CutBody(Answer),
    /// A head, and a body too long to be held.
    Pieces(Answer, Pieces),
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

/// A body that can promise more than it delivers, or comes in pieces.
pub(crate) enum Payload {
    Held { bytes: Option<Bytes>, length: u64 },
    Coming(Pieces),
}

/// The deliberate end of a body that was cut.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut on purpose")]
pub(crate) struct CutOnPurpose;

impl Payload {
    fn whole(bytes: Bytes) -> Self {
        Self::Held { length: bytes.len() as u64, bytes: Some(bytes) }
    }

    fn cut(bytes: Bytes) -> Self {
        Self::Held { length: bytes.len() as u64, bytes: Some(bytes.slice(..bytes.len() / 2)) }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = CutOnPurpose;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOnPurpose>>> {
        match &mut *self {
            Self::Held { bytes, length } => Poll::Ready(match bytes.take() {
                Some(bytes) if !bytes.is_empty() => {
                    *length -= bytes.len() as u64;
                    Some(Ok(Frame::data(bytes)))
                }
                _ if *length > 0 => Some(Err(CutOnPurpose)),
                _ => None,
            }),
            Self::Coming(pieces) if pieces.cut && pieces.sent > 0 => Poll::Ready(Some(Err(CutOnPurpose))),
            Self::Coming(pieces) => pieces.coming.poll_recv(context).map(|piece| {
                pieces.sent += 1;
                piece.map(|piece| Ok(Frame::data(piece)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Held { length: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Held { length, .. } => SizeHint::with_exact(*length),
            Self::Coming(_) => SizeHint::default(),
        }
    }
}

pub(crate) fn to_http(answer: Answer, cut: bool) -> http::Response<Payload> {
    let answer_body = answer.body.clone();
    with_body(answer, if cut { Payload::cut(answer_body) } else { Payload::whole(answer_body) })
}

/// A head with a body of its own.
pub(crate) fn with_body(answer: Answer, body: Payload) -> http::Response<Payload> {
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
