//! What is compressed with zstd, unpacked: frames one after another, as compressors that work in
//! parallel write them, with what is to be skipped between them.

use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};
use std::io::{self, BufRead as _, BufReader, Read};

/// A stream of frames. Holds one window of a frame, which the compressor chose (up to 100 MiB).
pub(super) struct Frames<R> {
    source: BufReader<R>,
    decoder: FrameDecoder,
    is_in_frame: bool,
}

impl<R: Read> Frames<R> {
    pub(super) fn new(source: R) -> Self {
        let source = BufReader::new(source);
        Self { source, decoder: FrameDecoder::new(), is_in_frame: false }
    }

    /// Begins the next frame; whether there is one.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = self.source.by_ref().take(u64::from(length));
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
        }
        Ok(false)
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.is_in_frame && self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            if !self.is_in_frame || self.decoder.is_finished() {
                self.is_in_frame = self.begin()?;
                if !self.is_in_frame {
                    return Ok(0);
                }
            }
            if !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let decoded = self.decoder.decode_blocks(&mut self.source, one);
                decoded.map_err(|error| io::Error::other(error.to_string()))?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Frames;
    use std::io::Read as _;

    /// `hello\n`, as `zstd` compresses it.
    const HELLO: &[u8] = &[
        0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x31, 0x00, 0x00, b'h', b'e', b'l', b'l', b'o', b'\n',
        0x53, 0x88, 0xbd, 0x91,
    ];

    fn unpacked(bytes: &[u8]) -> Result<String, String> {
        let mut text = String::new();
        Frames::new(bytes).read_to_string(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    }

    #[test]
    fn frames_follow_one_another_and_some_are_skipped() {
        assert_eq!(unpacked(&[]).unwrap(), "");
        assert_eq!(unpacked(HELLO).unwrap(), "hello\n");
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let several = [HELLO, &skipped, HELLO, &skipped].concat();
        assert_eq!(unpacked(&several).unwrap(), "hello\nhello\n");
    }

    #[test]
    fn what_is_cut_or_no_frame_is_an_error() {
        assert!(unpacked(&HELLO[..12]).is_err());
        assert!(unpacked(b"no frame at all").is_err());
        assert!(unpacked(&[HELLO, b"xx"].concat()).is_err());
    }
}
