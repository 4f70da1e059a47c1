//! Reads one HTTP/1.1 response (RFC 9112), strictly: what is ambiguous is refused rather than guessed.
//!
//! The body is framed by exactly one of Content-Length, chunked coding without trailers, or the end of the
//! stream, which TLS proves. Nothing may follow it. Interim responses (1xx) are refused: nothing asks for any.

use std::io::{self, Read};

/// Longest head (status line and headers), in bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Most headers.
const MAX_HEADERS: usize = 64;
/// Longest line that announces a chunk, in bytes.
const MAX_CHUNK_LINE_BYTES: usize = 64;
/// Bytes asked for at once.
const READ_BYTES: usize = 16 << 10;

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code, 200 to 599.
    pub status: u16,
    /// In the source's order, names in lower case, values that are UTF-8.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

/// Why there is no whole response.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Not an HTTP response, or an ambiguous one.
    #[error("{0}")]
    Malformed(&'static str),
    /// Longer than this many bytes.
    #[error("longer than {0} bytes")]
    TooLarge(u64),
}

use ResponseError::Malformed;

/// Reads a response of at most `limit` bytes, headers included. An honest source that announces more is
/// refused before its body is read; one that lies, as soon as it has sent more.
///
/// # Errors
/// See [`ResponseError`].
pub fn read_response(stream: &mut impl Read, limit: u64) -> Result<Response, ResponseError> {
    let mut input = Input {
        stream,
        bytes: Vec::new(),
        position: 0,
        limit,
    };
    let (status, headers, framing) = read_head(&mut input)?;
    let body = match framing {
        Framing::None => Vec::new(),
        Framing::Length(length) => read_length(&mut input, length)?,
        Framing::Chunked => read_chunks(&mut input)?,
        Framing::Close => {
            while input.fill()? {}
            input.rest().to_vec()
        }
    };
    if framing != Framing::Close && !input.rest().is_empty() {
        return Err(Malformed("bytes follow the body"));
    }
    Ok(Response {
        status,
        headers,
        body,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
    Close,
}

/// Everything received so far, and how much of it is used up. Never longer than the limit.
struct Input<'a, R> {
    stream: &'a mut R,
    bytes: Vec<u8>,
    position: usize,
    limit: u64,
}

impl<R: Read> Input<'_, R> {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    /// Receives more; false at the end of the stream.
    fn fill(&mut self) -> Result<bool, ResponseError> {
        let mut buffer = [0; READ_BYTES];
        let count = self.stream.read(&mut buffer)?;
        let received = buffer.get(..count).unwrap_or_default();
        let total = self.bytes.len().saturating_add(count);
        if u64::try_from(total).map_or(true, |total| total > self.limit) {
            return Err(ResponseError::TooLarge(self.limit));
        }
        self.bytes.extend_from_slice(received);
        Ok(count != 0)
    }

    fn fill_or(&mut self, end: &'static str) -> Result<(), ResponseError> {
        self.fill()?.then_some(()).ok_or(Malformed(end))
    }

    /// The next `count` bytes.
    fn take(&mut self, count: usize) -> Result<&[u8], ResponseError> {
        while self.rest().len() < count {
            self.fill_or("body ended early")?;
        }
        let start = self.position;
        self.position += count;
        self.bytes
            .get(start..self.position)
            .ok_or(Malformed("body ended early"))
    }
}

type Head = (u16, Vec<(String, String)>, Framing);

fn read_head<R: Read>(input: &mut Input<'_, R>) -> Result<Head, ResponseError> {
    loop {
        if !input.bytes.is_empty() {
            let head = input.bytes.get(..MAX_HEAD_BYTES).unwrap_or(&input.bytes);
            if let Some((head, length)) = parse_head(head)? {
                input.position = length;
                return Ok(head);
            }
            if input.bytes.len() >= MAX_HEAD_BYTES {
                return Err(Malformed("head is too long"));
            }
        }
        input.fill_or("head ended early")?;
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, ResponseError> {
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut slots);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed("too many headers")),
        Err(_) => return Err(Malformed("not an HTTP response")),
    };
    let status = parsed.code.unwrap_or_default();
    if !(200..600).contains(&status) {
        return Err(Malformed("status is not 200 to 599"));
    }
    let framing = framing(status, parsed.headers)?;
    let text = |header: &mut httparse::Header<'_>| {
        let value = std::str::from_utf8(header.value).ok()?;
        Some((header.name.to_ascii_lowercase(), value.to_owned()))
    };
    let headers = parsed.headers.iter_mut().filter_map(text).collect();
    Ok(Some(((status, headers, framing), length)))
}

fn framing(status: u16, headers: &[httparse::Header<'_>]) -> Result<Framing, ResponseError> {
    let values = |name: &str| {
        let named = headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value).collect::<Vec<_>>()
    };
    let framing = match (
        values("content-length").as_slice(),
        values("transfer-encoding").as_slice(),
    ) {
        ([], []) => Framing::Close,
        ([digits], []) => Framing::Length(length(digits)?),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        ([], [_]) => return Err(Malformed("transfer coding is not chunked")),
        _ => return Err(Malformed("length of the body is ambiguous")),
    };
    match (status, framing) {
        (204 | 304, Framing::Chunked) => Err(Malformed("status has no body, but a coding of it")),
        (204 | 304, _) => Ok(Framing::None),
        _ => Ok(framing),
    }
}

fn length(digits: &[u8]) -> Result<u64, ResponseError> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| plain);
    text.and_then(|text| text.parse().ok())
        .ok_or(Malformed("Content-Length is not a number"))
}

fn read_length<R: Read>(input: &mut Input<'_, R>, length: u64) -> Result<Vec<u8>, ResponseError> {
    let head = u64::try_from(input.position).unwrap_or(u64::MAX);
    let count = usize::try_from(length)
        .ok()
        .filter(|_| head.saturating_add(length) <= input.limit)
        .ok_or(ResponseError::TooLarge(input.limit))?;
    Ok(input.take(count)?.to_vec())
}

fn read_chunks<R: Read>(input: &mut Input<'_, R>) -> Result<Vec<u8>, ResponseError> {
    let mut body = Vec::new();
    loop {
        let size = read_chunk_size(input)?;
        body.extend_from_slice(input.take(size)?);
        if input.take(2)? != b"\r\n" {
            return Err(Malformed(if size == 0 {
                "trailers"
            } else {
                "chunk has no end"
            }));
        }
        if size == 0 {
            return Ok(body);
        }
    }
}

fn read_chunk_size<R: Read>(input: &mut Input<'_, R>) -> Result<usize, ResponseError> {
    loop {
        let line = input
            .rest()
            .get(..MAX_CHUNK_LINE_BYTES)
            .unwrap_or(input.rest());
        match httparse::parse_chunk_size(line) {
            Ok(httparse::Status::Complete((used, size))) => {
                input.position += used;
                let size = usize::try_from(size).ok();
                let within =
                    size.filter(|size| u64::try_from(*size).is_ok_and(|size| size <= input.limit));
                return within.ok_or(ResponseError::TooLarge(input.limit));
            }
            Ok(httparse::Status::Partial) if line.len() < MAX_CHUNK_LINE_BYTES => {
                input.fill_or("chunk ended early")?;
            }
            _ => return Err(Malformed("chunk has no size")),
        }
    }
}

#[cfg(test)]
mod tests;
