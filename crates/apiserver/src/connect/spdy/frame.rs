//! Frames of SPDY/3.1, as far as Kubernetes' streaming protocols use them.
//!
//! The peers (moby/spdystream) take no part in flow control, so windows are
//! neither kept nor announced: TCP holds a fast sender back.

use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::headers::{Compressor, Decompressor, Headers};

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;
/// The largest control frame taken.
const MAX_CONTROL: usize = 64 << 10;
/// Data is handed on in pieces of at most this size, however large its frame.
const PIECE: usize = 32 << 10;

/// Why a stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    Protocol = 1,
    Refused = 3,
    Cancel = 5,
}

/// What a peer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Open {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    Data {
        stream: u32,
        data: Bytes,
        fin: bool,
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Something that asks for nothing.
    Other,
}

/// What is said to a peer.
#[derive(Debug)]
pub(super) enum Sent {
    Reply { stream: u32 },
    Data { stream: u32, data: Bytes, fin: bool },
    Reset { stream: u32, why: Reset },
    Ping { id: u32 },
    GoAway { last: u32 },
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("SPDY frame: {what}"))
}

/// Reads frames.
pub(super) struct Reader<R> {
    from: R,
    headers: Decompressor,
    /// What is left of a data frame: stream, bytes, and whether it ends the stream.
    rest: Option<(u32, usize, bool)>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, headers: Decompressor::new(), rest: None }
    }

    /// The next frame, or the next piece of one; `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Received>> {
        if let Some((stream, left, fin)) = self.rest.take() {
            return self.piece(stream, left, fin).await.map(Some);
        }
        let mut head = [0; 8];
        match self.from.read_exact(&mut head).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            outcome => outcome?,
        };
        let [a, b, c, d, flags, length @ ..] = head;
        let length = usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]);
        if a & 0x80 == 0 {
            return self.piece(u32::from_be_bytes([a, b, c, d]), length, flags & FIN != 0).await.map(Some);
        }
        if u16::from_be_bytes([a & 0x7f, b]) != VERSION {
            return Err(damaged("not of version 3"));
        }
        if length > MAX_CONTROL {
            return Err(damaged("a control frame is too large"));
        }
        let mut body = vec![0; length];
        self.from.read_exact(&mut body).await?;
        self.control(u16::from_be_bytes([c, d]), flags, &body).map(Some)
    }

    async fn piece(&mut self, stream: u32, length: usize, fin: bool) -> io::Result<Received> {
        let now = length.min(PIECE);
        let mut data = BytesMut::zeroed(now);
        self.from.read_exact(&mut data).await?;
        let left = length - now;
        if left > 0 {
            self.rest = Some((stream, left, fin));
        }
        Ok(Received::Data { stream, data: data.freeze(), fin: fin && left == 0 })
    }

    fn control(&mut self, kind: u16, flags: u8, body: &[u8]) -> io::Result<Received> {
        let number = |at: usize| -> io::Result<u32> {
            let bytes = body.get(at..at + 4).ok_or_else(|| damaged("a control frame is cut short"))?;
            Ok(u32::from_be_bytes(bytes.try_into().map_err(|_| damaged("a number"))?))
        };
        Ok(match kind {
            SYN_STREAM => {
                let block = body.get(10..).ok_or_else(|| damaged("SYN_STREAM is cut short"))?;
                let headers = self.headers.decode(block)?;
                Received::Open { stream: number(0)? & 0x7fff_ffff, headers, fin: flags & FIN != 0 }
            }
            RST_STREAM => Received::Reset { stream: number(0)? & 0x7fff_ffff },
            PING => Received::Ping { id: number(0)? },
            GOAWAY => Received::GoAway,
            SYN_REPLY => {
                // The block is part of the one compressed stream: it has to be read.
                self.headers.decode(body.get(4..).ok_or_else(|| damaged("SYN_REPLY is cut short"))?)?;
                Received::Other
            }
            _ => Received::Other,
        })
    }
}

/// Encodes frames.
pub(super) struct Writer {
    headers: Compressor,
}

impl Writer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { headers: Compressor::new()? })
    }

    pub(super) fn encode(&mut self, frame: &Sent, into: &mut BytesMut) -> io::Result<()> {
        match frame {
            Sent::Reply { stream } => {
                let block = self.headers.encode(&[])?;
                let mut body = stream.to_be_bytes().to_vec();
                body.extend(block);
                control(into, SYN_REPLY, &body);
            }
            Sent::Data { stream, data, fin } => {
                into.put_u32(stream & 0x7fff_ffff);
                put_length(into, u8::from(*fin), data.len());
                into.put_slice(data);
            }
            Sent::Reset { stream, why } => {
                control(into, RST_STREAM, &[stream.to_be_bytes(), (*why as u32).to_be_bytes()].concat());
            }
            Sent::Ping { id } => control(into, PING, &id.to_be_bytes()),
            Sent::GoAway { last } => control(into, GOAWAY, &[last.to_be_bytes(), [0; 4]].concat()),
        }
        Ok(())
    }
}

fn control(into: &mut BytesMut, kind: u16, body: &[u8]) {
    into.put_u16(0x8000 | VERSION);
    into.put_u16(kind);
    put_length(into, 0, body.len());
    into.put_slice(body);
}

fn put_length(into: &mut BytesMut, flags: u8, length: usize) {
    debug_assert!(length < 1 << 24, "frames are made of pieces");
    into.put_u8(flags);
    into.put_uint(length as u64, 3);
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A client's SYN_STREAM.
    pub(in super::super) fn open(
        compressor: &mut Compressor,
        stream: u32,
        headers: &[(&str, &str)],
        fin: bool,
    ) -> Vec<u8> {
        let mut body = stream.to_be_bytes().to_vec();
        body.extend([0; 6]);
        body.extend(compressor.encode(headers).expect("encode"));
        let mut frame = BytesMut::new();
        frame.put_u16(0x8000 | VERSION);
        frame.put_u16(SYN_STREAM);
        put_length(&mut frame, u8::from(fin), body.len());
        frame.put_slice(&body);
        frame.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn frames_are_read() {
        let mut bytes = testing::open(
            &mut Compressor::new().expect("dictionary"),
            5,
            &[("streamType", "data"), ("port", "80")],
            false,
        );
        let mut writer = Writer::new().expect("dictionary");
        let mut more = BytesMut::new();
        let large = Bytes::from(vec![7; PIECE + 1]);
        for frame in [
            Sent::Data { stream: 5, data: large, fin: true },
            Sent::Ping { id: 3 },
            Sent::Reset { stream: 5, why: Reset::Cancel },
            Sent::GoAway { last: 5 },
        ] {
            writer.encode(&frame, &mut more).expect("encode");
        }
        bytes.extend_from_slice(&more);
        let mut reader = Reader::new(bytes.as_slice());
        let mut next = async || reader.next().await.expect("frame");
        let headers =
            vec![("streamtype".to_owned(), "data".to_owned()), ("port".to_owned(), "80".to_owned())];
        assert_eq!(next().await, Some(Received::Open { stream: 5, headers, fin: false }));
        assert_eq!(
            next().await,
            Some(Received::Data { stream: 5, data: Bytes::from(vec![7; PIECE]), fin: false })
        );
        assert_eq!(next().await, Some(Received::Data { stream: 5, data: Bytes::from(vec![7]), fin: true }));
        assert_eq!(next().await, Some(Received::Ping { id: 3 }));
        assert_eq!(next().await, Some(Received::Reset { stream: 5 }));
        assert_eq!(next().await, Some(Received::GoAway));
        assert_eq!(next().await, None);
    }

    #[tokio::test]
    async fn damage_is_refused() {
        for (bytes, wanted) in [
            (vec![0x80, 2, 0, 1, 0, 0, 0, 0], "version 3"),
            (vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff], "too large"),
            (vec![0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0], "cut short"),
            (vec![0x80, 3, 0, 6, 0, 0, 0, 1, 0], "cut short"),
        ] {
            let error = Reader::new(bytes.as_slice()).next().await.expect_err(wanted);
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_ends(
            at in any::<prop::sample::Index>(), byte in any::<u8>(), more in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut compressor = Compressor::new().expect("dictionary");
            let mut bytes = testing::open(&mut compressor, 1, &[("streamType", "error"), ("port", "80")], false);
            bytes.extend(testing::open(&mut compressor, 3, &[("streamType", "data"), ("port", "80")], true));
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.splice(at..at, more);
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let mut reader = Reader::new(bytes.as_slice());
            let mut count = 0;
            while let Ok(Some(_)) = runtime.block_on(reader.next()) {
                count += 1;
                // Every frame has a head of eight bytes.
                prop_assert!(count <= bytes.len() / 8);
            }
        }
    }
}
