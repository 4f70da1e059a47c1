use super::*;
use proptest::prelude::*;

/// Yields its bytes in pieces of the given sizes, over and over.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: Vec<usize>,
    turn: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes[self.turn % self.sizes.len()];
        self.turn += 1;
        let count = size.min(buffer.len()).min(self.bytes.len());
        buffer[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Ok(count)
    }
}

fn read_in(text: &str, sizes: Vec<usize>) -> Result<Response, ResponseError> {
    let bytes = text.as_bytes();
    read_response(
        &mut Pieces {
            bytes,
            sizes,
            turn: 0,
        },
        100_000,
    )
}

fn body_of(text: &str) -> String {
    String::from_utf8(read_in(text, vec![4_096]).unwrap().body).unwrap()
}

#[test]
fn each_framing_is_read() {
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        ("HTTP/1.1 200 OK\r\n\r\nhello", "hello"),
        (
            "HTTP/1.1 404 \r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
            "hello",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
    ];
    for (text, body) in cases {
        assert_eq!(body_of(text), body, "{text}");
    }
}

#[test]
fn headers_are_kept_in_lower_case() {
    let response = read_in("HTTP/1.1 200 OK\r\nX-Day: 1\r\n\r\n", vec![7]).unwrap();
    assert_eq!(response.headers, [("x-day".to_owned(), "1".to_owned())]);
}

#[test]
fn what_is_ambiguous_is_refused() {
    let cases = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "ambiguous",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "ambiguous",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "coding",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx", "number"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy", "follow"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxy", "early"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n",
            "trailers",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxyz\r\n0\r\n\r\n",
            "no end",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
            "no size",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
            "early",
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "status",
        ),
        ("HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", "not an HTTP"),
        ("HTTP/1.1 200 OK\r\nA: ", "early"),
        ("SSH-2.0-OpenSSH\r\n", "not an HTTP"),
        ("", "early"),
    ];
    for (text, reason) in cases {
        let error = read_in(text, vec![4_096]).unwrap_err().to_string();
        assert!(error.contains(reason), "{text:?} was refused as {error:?}");
    }
}

#[test]
fn an_announced_gigabyte_is_refused_before_it_is_read() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n";
    let mut stream = head.as_bytes().chain(io::repeat(0));
    let error = read_response(&mut stream, 4 << 20).unwrap_err();
    assert!(matches!(error, ResponseError::TooLarge(4_194_304)));
    let (head, _) = stream.into_inner();
    assert!(head.is_empty());
}

#[test]
fn an_endless_body_is_refused_at_the_limit() {
    for head in ["\r\n", "Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"] {
        let head = format!("HTTP/1.1 200 OK\r\n{head}");
        let mut stream = head.as_bytes().chain(io::repeat(0));
        let error = read_response(&mut stream, 1 << 20).unwrap_err();
        assert!(
            matches!(error, ResponseError::TooLarge(1_048_576)),
            "{error}"
        );
    }
}

#[test]
fn an_endless_head_is_refused() {
    let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(90_000));
    let many = format!(
        "HTTP/1.1 200 OK\r\n{}\r\n",
        "A: b\r\n".repeat(MAX_HEADERS + 1)
    );
    for (text, reason) in [(endless, "too long"), (many, "too many")] {
        let error = read_in(&text, vec![1_000]).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

proptest! {
    #[test]
    fn how_the_bytes_arrive_does_not_matter(
        body in "[a-z]{1,60}",
        cut in 1_usize..20,
        sizes in proptest::collection::vec(1_usize..30, 1..5),
        framing in 0..3,
    ) {
        let text = match framing {
            0 => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
            1 => format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
            _ => {
                let (first, second) = body.split_at(cut.min(body.len()));
                let chunk = |part: &str| match part {
                    "" => String::new(),
                    part => format!("{:x}\r\n{part}\r\n", part.len()),
                };
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}{}0\r\n\r\n", chunk(first), chunk(second))
            }
        };
        prop_assert_eq!(read_in(&text, sizes).unwrap().body, body.as_bytes());
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        head in prop_oneof![
            Just(String::new()),
            Just("HTTP/1.1 200 OK\r\n".to_owned()),
            Just("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()),
        ],
        rest in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), any::<u8>()], 0..300),
        sizes in proptest::collection::vec(1_usize..50, 1..4),
    ) {
        let mut bytes = head.into_bytes();
        bytes.extend(rest);
        if let Ok(response) = read_response(&mut Pieces { bytes: &bytes, sizes, turn: 0 }, 200) {
            prop_assert!(response.body.len() <= 200);
        }
    }
}
