//! Header blocks: name and value pairs, compressed as one zlib stream for the
//! whole session, with the dictionary that the SPDY/3 draft prescribes.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The dictionary of the SPDY/3 draft (section 2.6.10.1).
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
/// The largest header block taken, uncompressed.
const MAX_BLOCK: usize = 64 << 10;

/// Header names, in lower case, with their values.
pub(crate) type Headers = Vec<(String, String)>;

fn damaged(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("SPDY header block: {what}"))
}

/// The compressor of what is sent.
pub(super) struct Compressor(Compress);

impl Compressor {
    pub(super) fn new() -> io::Result<Self> {
        let mut compress = Compress::new(Compression::fast(), true);
        compress.set_dictionary(DICTIONARY).map_err(damaged)?;
        Ok(Self(compress))
    }

    pub(super) fn encode(&mut self, headers: &[(&str, &str)]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        let number = |count: usize| u32::try_from(count).map(u32::to_be_bytes).map_err(damaged);
        plain.extend(number(headers.len())?);
        for (name, value) in headers {
            for text in [name, value] {
                plain.extend(number(text.len())?);
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut packed = Vec::with_capacity(plain.len() + 64);
        let before = self.0.total_in();
        loop {
            let done = usize::try_from(self.0.total_in() - before).map_err(damaged)?;
            packed.reserve(64);
            self.0.compress_vec(&plain[done..], &mut packed, FlushCompress::Sync).map_err(damaged)?;
            if packed.len() < packed.capacity() {
                return Ok(packed);
            }
        }
    }
}

/// The decompressor of what is received.
pub(super) struct Decompressor(Decompress);

impl Decompressor {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(super) fn decode(&mut self, packed: &[u8]) -> io::Result<Headers> {
        let mut plain = Vec::with_capacity(1 << 10);
        let before = self.0.total_in();
        loop {
            let done = usize::try_from(self.0.total_in() - before).map_err(damaged)?;
            match self.0.decompress_vec(&packed[done..], &mut plain, FlushDecompress::Sync) {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(DICTIONARY).map_err(damaged)?;
                }
                Err(error) => return Err(damaged(error)),
                Ok(Status::StreamEnd) => return Err(damaged("the stream of headers ended")),
                Ok(_) if plain.len() < plain.capacity() => break,
                Ok(_) if plain.len() > MAX_BLOCK => return Err(damaged("too large")),
                Ok(_) => plain.reserve(plain.len()),
            }
        }
        parse(&plain)
    }
}

fn parse(mut block: &[u8]) -> io::Result<Headers> {
    let mut take = |wanted: usize| -> io::Result<&[u8]> {
        let (head, rest) = block.split_at_checked(wanted).ok_or_else(|| damaged("cut short"))?;
        block = rest;
        Ok(head)
    };
    let count = u32::from_be_bytes(take(4)?.try_into().map_err(damaged)?);
    let mut headers = Vec::new();
    for _ in 0..count {
        let mut texts = [String::new(), String::new()];
        for text in &mut texts {
            let length = u32::from_be_bytes(take(4)?.try_into().map_err(damaged)?);
            let bytes = take(usize::try_from(length).map_err(damaged)?)?;
            *text = String::from_utf8(bytes.to_vec()).map_err(damaged)?;
        }
        let [name, value] = texts;
        // Several values of one name are parted by a zero byte: the first counts.
        let value = value.split('\0').next().unwrap_or_default().to_owned();
        headers.push((name.to_ascii_lowercase(), value));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_follow_each_other_in_one_stream() {
        let (mut to, mut from) = (Compressor::new().expect("dictionary"), Decompressor::new());
        let long = "x".repeat(20_000);
        for headers in [vec![("streamtype", "error"), ("port", "80")], vec![], vec![("a", &long)]] {
            let packed = to.encode(&headers).expect("encode");
            let expected: Headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(from.decode(&packed).expect("decode"), expected);
        }
    }

    #[test]
    fn hostile_blocks_are_refused() {
        let bomb = "x".repeat(10 << 20);
        let packed = Compressor::new().expect("dictionary").encode(&[("a", &bomb)]).expect("encode");
        let refused = Decompressor::new().decode(&packed).expect_err("too large");
        assert!(refused.to_string().contains("too large"), "{refused}");
        assert!(Decompressor::new().decode(b"not zlib at all").is_err());
        assert!(parse(&[0, 0, 0, 1, 0, 0, 0, 9, b'a']).is_err(), "cut short");
    }
}
