//! ZIP as Alipay packs its bills: names in GBK without the flag for UTF-8, contents deflated.

use std::io::{self, Write};

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const VERSION: u16 = 20;
/// Sizes follow the content.
const SIZES_FOLLOW: u16 = 8;
const DEFLATED: u16 = 8;
/// 1980-01-01 00:00, the earliest a ZIP knows.
const DOS_TIME: u32 = 0x0021_0000;

/// A ZIP being written.
pub(super) struct Zip<'a> {
    out: &'a mut dyn Write,
    at: u32,
    central: Vec<u8>,
    entries: u16,
}

/// Counts and sums what goes through.
struct Sum<W> {
    inner: W,
    crc: Crc,
}

struct Count<'a> {
    inner: &'a mut dyn Write,
    bytes: u32,
}

impl<W: Write> Write for Sum<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.crc.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Write for Count<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.bytes = self.bytes.checked_add(length).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> Zip<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, at: 0, central: Vec::new(), entries: 0 }
    }

    /// Adds a file. `held` packs it in memory and writes its sizes in front, as small bills have them; otherwise they
    /// follow the content, and only readers of the directory at the end know them.
    pub(super) fn add(
        &mut self,
        name: &[u8],
        held: bool,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let start = self.at;
        if held {
            let mut packed = Vec::new();
            let (crc, plain, length) = deflate(&mut packed, write)?;
            self.put(&local(0, crc, length, plain, name))?;
            self.put(&packed)?;
            return self.list(0, crc, length, plain, name, start);
        }
        self.put(&local(SIZES_FOLLOW, 0, 0, 0, name))?;
        let (crc, plain, length) = deflate(self.out, write)?;
        self.at = self.at.checked_add(length).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut descriptor = Vec::new();
        for number in [DESCRIPTOR, crc, length, plain] {
            descriptor.extend_from_slice(&number.to_le_bytes());
        }
        self.put(&descriptor)?;
        self.list(SIZES_FOLLOW, crc, length, plain, name, start)
    }

    /// Writes the directory.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let (start, central) = (self.at, std::mem::take(&mut self.central));
        self.put(&central)?;
        let mut end = END.to_le_bytes().to_vec();
        for number in [0, 0, self.entries, self.entries] {
            end.extend_from_slice(&number.to_le_bytes());
        }
        end.extend_from_slice(&(self.at - start).to_le_bytes());
        end.extend_from_slice(&start.to_le_bytes());
        end.extend_from_slice(&0u16.to_le_bytes());
        self.put(&end)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.at = self.at.checked_add(length).ok_or(io::ErrorKind::FileTooLarge)?;
        self.out.write_all(bytes)
    }

    fn list(&mut self, flags: u16, crc: u32, length: u32, plain: u32, name: &[u8], start: u32) -> io::Result<()> {
        let central = &mut self.central;
        central.extend_from_slice(&CENTRAL.to_le_bytes());
        central.extend_from_slice(&VERSION.to_le_bytes());
        central.extend_from_slice(&fields(flags, crc, length, plain, name)?);
        // No comment, first disk, no attributes.
        central.extend_from_slice(&[0; 10]);
        central.extend_from_slice(&start.to_le_bytes());
        central.extend_from_slice(name);
        self.entries += 1;
        Ok(())
    }
}

/// Packs; tells CRC, plain length and packed length.
fn deflate(out: &mut dyn Write, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<(u32, u32, u32)> {
    let count = Count { inner: out, bytes: 0 };
    let mut sum = Sum { inner: DeflateEncoder::new(count, Compression::fast()), crc: Crc::new() };
    write(&mut sum)?;
    let Sum { inner, crc } = sum;
    let count = inner.finish()?;
    Ok((crc.sum(), crc.amount(), count.bytes))
}

fn local(flags: u16, crc: u32, length: u32, plain: u32, name: &[u8]) -> Vec<u8> {
    let mut header = LOCAL.to_le_bytes().to_vec();
    header.extend_from_slice(&fields(flags, crc, length, plain, name).unwrap_or_default());
    header.extend_from_slice(name);
    header
}

/// What both headers share: version to the length of the extra field.
fn fields(flags: u16, crc: u32, length: u32, plain: u32, name: &[u8]) -> io::Result<Vec<u8>> {
    let name_length = u16::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidFilename)?;
    let mut fields = Vec::new();
    for number in [VERSION, flags, DEFLATED] {
        fields.extend_from_slice(&number.to_le_bytes());
    }
    for number in [DOS_TIME, crc, length, plain] {
        fields.extend_from_slice(&number.to_le_bytes());
    }
    fields.extend_from_slice(&name_length.to_le_bytes());
    fields.extend_from_slice(&0u16.to_le_bytes());
    Ok(fields)
}
