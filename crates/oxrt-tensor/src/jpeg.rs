//! JPEG pictures decoded to exactly the pixels of libjpeg and its successors, which is what Pillow, torchvision and
//! the cases of `ImageDecoder` have: the "islow" inverse DCT, triangle-filter upsampling of chroma, and colours in
//! 16-bit fixed point. Sources: ITU-T T.81; `jidctint.c`, `jdsample.c` and `jdcolor.c` of the Independent JPEG Group.

use crate::{Error, Result, bail};

/// Zig-zag order: place in the stream to place in the block.
#[rustfmt::skip]
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// A canonical Huffman code.
#[derive(Clone, Default)]
struct Huffman {
    /// Per length of code (1 to 16): first code, number of codes, where their symbols start.
    lengths: [(i32, i32, usize); 17],
    symbols: Vec<u8>,
}

impl Huffman {
    fn new(counts: &[u8], symbols: &[u8]) -> Huffman {
        let mut lengths = [(0, 0, 0); 17];
        let (mut code, mut start) = (0i32, 0usize);
        for (i, &n) in counts.iter().enumerate() {
            lengths[i + 1] = (code, n as i32, start);
            code = (code + n as i32) << 1;
            start += n as usize;
        }
        Huffman { lengths, symbols: symbols.to_vec() }
    }
}

/// Bits of the entropy-coded data; zeros after its end, as a cut-off file has them.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    hold: u64,
    count: u32,
}

impl Bits<'_> {
    fn fill(&mut self) {
        while self.count <= 48 {
            let byte = match self.bytes.get(self.at) {
                Some(0xff) => match self.bytes.get(self.at + 1) {
                    Some(0) => {
                        self.at += 2;
                        0xff
                    }
                    // A marker ends the data.
                    _ => 0,
                },
                Some(&b) => {
                    self.at += 1;
                    b
                }
                None => 0,
            };
            self.hold = self.hold << 8 | byte as u64;
            self.count += 8;
        }
    }

    fn take(&mut self, n: u32) -> i32 {
        if n == 0 {
            return 0;
        }
        if self.count < n {
            self.fill();
        }
        self.count -= n;
        (self.hold >> self.count & ((1 << n) - 1)) as i32
    }

    fn symbol(&mut self, table: &Huffman) -> Result<u8> {
        let mut code = 0;
        for length in 1..=16 {
            code = code << 1 | self.take(1);
            let (first, n, start) = table.lengths[length];
            if code - first < n && code >= first {
                let at = start + (code - first) as usize;
                return table.symbols.get(at).copied().ok_or_else(|| Error::invalid("a damaged Huffman table"));
            }
        }
        bail!(invalid, "a code that is not in the Huffman table")
    }

    /// A number of `n` bits, negative when its first bit is 0.
    fn signed(&mut self, n: u32) -> i32 {
        let v = self.take(n);
        if n > 0 && v < 1 << (n - 1) { v - (1 << n) + 1 } else { v }
    }
}

struct Component {
    id: u8,
    /// Sampling factors.
    h: usize,
    v: usize,
    quant: usize,
    /// Blocks per row and column, padded to whole units.
    blocks_w: usize,
    blocks_h: usize,
    /// Real size in samples.
    width: usize,
    height: usize,
    coefficients: Vec<i16>,
    dc_table: usize,
    ac_table: usize,
    predicted: i32,
}

/// What a scan adds to the coefficients.
#[derive(Clone, Copy)]
struct Scan {
    first: usize,
    last: usize,
    high: u32,
    low: u32,
}

#[derive(Default)]
struct Decoder {
    width: usize,
    height: usize,
    progressive: bool,
    components: Vec<Component>,
    quants: [Option<[u16; 64]>; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    restart: usize,
    /// Colour transform of an Adobe marker.
    adobe: Option<u8>,
    jfif: bool,
}

/// Pixels (width, height, RGB bytes), or `None` for kinds of JPEG that are left to others: lossless, arithmetic
/// coding, 12 bits, four colours.
///
/// # Errors
/// Damaged files.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(usize, usize, Vec<u8>)>> {
    let mut d = Decoder::default();
    let mut at = 2;
    let cut = || Error::invalid("the JPEG file is cut off");
    loop {
        // Anything before the next marker is padding.
        while bytes.get(at).is_some_and(|&b| b != 0xff) {
            at += 1;
        }
        while bytes.get(at) == Some(&0xff) {
            at += 1;
        }
        let Some(&marker) = bytes.get(at) else { break };
        at += 1;
        match marker {
            0xd9 => break,
            0 | 1 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let len = bytes.get(at..at + 2).map(|b| (b[0] as usize) << 8 | b[1] as usize).ok_or_else(cut)?;
        let body = bytes.get(at + 2..at + len.max(2)).ok_or_else(cut)?;
        at += len.max(2);
        match marker {
            0xc0..=0xc2 if !d.frame(body, marker == 0xc2, bytes.len())? => return Ok(None),
            0xc4 => d.huffman_tables(body)?,
            0xc3 | 0xc5..=0xcf => return Ok(None),
            0xdb => d.quant_tables(body)?,
            0xdd => d.restart = body.get(..2).map(|b| (b[0] as usize) << 8 | b[1] as usize).ok_or_else(cut)?,
            0xe0 => d.jfif |= body.starts_with(b"JFIF\0"),
            0xee if body.starts_with(b"Adobe") => d.adobe = body.get(11).copied(),
            0xda => at += d.scan(body, &bytes[at..])?,
            _ => {}
        }
    }
    if d.components.is_empty() {
        bail!(invalid, "a JPEG file without a picture");
    }
    d.pixels().map(Some)
}

impl Decoder {
    /// Whether this kind of picture is decoded here.
    fn frame(&mut self, b: &[u8], progressive: bool, file: usize) -> Result<bool> {
        if !self.components.is_empty() {
            bail!(invalid, "a JPEG file with two frames");
        }
        let [bits, h1, h0, w1, w0, n, list @ ..] = b else { bail!(invalid, "a damaged JPEG header") };
        (self.height, self.width) = ((*h1 as usize) << 8 | *h0 as usize, (*w1 as usize) << 8 | *w0 as usize);
        if *bits != 8 || !matches!(n, 1 | 3) || self.height == 0 {
            return Ok(false);
        }
        if self.width == 0 || list.len() < *n as usize * 3 {
            bail!(invalid, "a damaged JPEG header");
        }
        self.progressive = progressive;
        let parts: Vec<_> = list
            .chunks_exact(3)
            .take(*n as usize)
            .map(|c| (c[0], (c[1] >> 4) as usize, (c[1] & 15) as usize, c[2]))
            .collect();
        if parts.iter().any(|p| !(1..=4).contains(&p.1) || !(1..=4).contains(&p.2) || p.3 > 3) {
            bail!(invalid, "a damaged JPEG header");
        }
        let (hmax, vmax) = (parts.iter().map(|p| p.1).max().unwrap_or(1), parts.iter().map(|p| p.2).max().unwrap_or(1));
        let units = (self.width.div_ceil(8 * hmax), self.height.div_ceil(8 * vmax));
        let blocks: usize = parts.iter().map(|p| units.0 * p.1 * units.1 * p.2).sum();
        // Every block takes a bit at least.
        if blocks / 8 > file {
            bail!(invalid, "a JPEG file of {file} bytes says that it is {}x{}", self.width, self.height);
        }
        for (id, h, v, quant) in parts {
            let (blocks_w, blocks_h) = (units.0 * h, units.1 * v);
            self.components.push(Component {
                id,
                h,
                v,
                quant: quant as usize,
                blocks_w,
                blocks_h,
                width: (self.width * h).div_ceil(hmax),
                height: (self.height * v).div_ceil(vmax),
                coefficients: vec![0; blocks_w * blocks_h * 64],
                dc_table: 0,
                ac_table: 0,
                predicted: 0,
            });
        }
        Ok(true)
    }

    fn quant_tables(&mut self, mut b: &[u8]) -> Result<()> {
        while let [head, rest @ ..] = b {
            let (wide, id) = ((head >> 4) as usize, (head & 15) as usize);
            let size = 64 * (1 + wide.min(1));
            let (Some(values), true) = (rest.get(..size), id < 4) else {
                bail!(invalid, "a damaged quantisation table")
            };
            let mut table = [0u16; 64];
            for (i, t) in table.iter_mut().enumerate() {
                *t = if wide == 0 { values[i] as u16 } else { (values[2 * i] as u16) << 8 | values[2 * i + 1] as u16 };
            }
            self.quants[id] = Some(table);
            b = &rest[size..];
        }
        Ok(())
    }

    fn huffman_tables(&mut self, mut b: &[u8]) -> Result<()> {
        while let [head, rest @ ..] = b {
            let (class, id) = (head >> 4, (head & 15) as usize);
            let n: usize = rest.iter().take(16).map(|&c| c as usize).sum();
            let (Some(counts), Some(symbols), true) = (rest.get(..16), rest.get(16..16 + n), id < 4) else {
                bail!(invalid, "a damaged Huffman table")
            };
            let table = Some(Huffman::new(counts, symbols));
            if class == 0 {
                self.dc[id] = table;
            } else {
                self.ac[id] = table;
            }
            b = &rest[16 + n..];
        }
        Ok(())
    }

    /// Decodes one scan; returns the number of bytes that it took.
    fn scan(&mut self, head: &[u8], data: &[u8]) -> Result<usize> {
        let damaged = || Error::invalid("a damaged JPEG scan");
        let n = *head.first().ok_or_else(damaged)? as usize;
        let (list, rest) = (head.get(1..1 + 2 * n).ok_or_else(damaged)?, head.get(1 + 2 * n..).unwrap_or_default());
        let [first, last, bits] = *rest.get(..3).ok_or_else(damaged)? else { return Err(damaged()) };
        let mut parts = Vec::new();
        for c in list.chunks_exact(2) {
            let at = self.components.iter().position(|k| k.id == c[0]).ok_or_else(damaged)?;
            let (dc, ac) = ((c[1] >> 4) as usize, (c[1] & 15) as usize);
            if dc > 3 || ac > 3 || parts.contains(&at) {
                return Err(damaged());
            }
            (self.components[at].dc_table, self.components[at].ac_table) = (dc, ac);
            parts.push(at);
        }
        let scan = if self.progressive {
            Scan { first: first as usize, last: last as usize, high: (bits >> 4) as u32, low: (bits & 15) as u32 }
        } else {
            Scan { first: 0, last: 63, high: 0, low: 0 }
        };
        if scan.first > scan.last || scan.last > 63 || scan.low > 13 || parts.is_empty() {
            return Err(damaged());
        }
        // One component alone comes block by block, several in units.
        let (hmax, vmax) = self.sampling();
        let single = parts.len() == 1;
        let (units_w, units_h) = if single {
            let c = &self.components[parts[0]];
            (c.width.div_ceil(8), c.height.div_ceil(8))
        } else {
            (self.width.div_ceil(8 * hmax), self.height.div_ceil(8 * vmax))
        };
        let mut bits = Bits { bytes: data, at: 0, hold: 0, count: 0 };
        let mut run = 0;
        for unit in 0..units_w * units_h {
            if self.restart > 0 && unit % self.restart == 0 {
                if unit > 0 {
                    bits = restarted(data, bits.at);
                }
                self.components.iter_mut().for_each(|c| c.predicted = 0);
                run = 0;
            } else if unit == 0 {
                self.components.iter_mut().for_each(|c| c.predicted = 0);
            }
            let (x, y) = (unit % units_w, unit / units_w);
            for &p in &parts {
                let c = &mut self.components[p];
                let (h, v) = if single { (1, 1) } else { (c.h, c.v) };
                for i in 0..h * v {
                    let at = ((y * v + i / h) * c.blocks_w + x * h + i % h) * 64;
                    let dc = self.dc[c.dc_table].as_ref();
                    let ac = self.ac[c.ac_table].as_ref();
                    let block = &mut c.coefficients[at..at + 64];
                    if !self.progressive {
                        baseline(&mut bits, block, &mut c.predicted, dc.ok_or_else(damaged)?, ac.ok_or_else(damaged)?)?;
                    } else if scan.first == 0 {
                        progressive_dc(&mut bits, block, &mut c.predicted, dc, scan)?;
                    } else if scan.high == 0 {
                        progressive_first(&mut bits, block, &mut run, ac.ok_or_else(damaged)?, scan)?;
                    } else {
                        progressive_refine(&mut bits, block, &mut run, ac.ok_or_else(damaged)?, scan)?;
                    }
                }
            }
        }
        Ok(bits.at)
    }

    fn sampling(&self) -> (usize, usize) {
        let c = &self.components;
        (c.iter().map(|c| c.h).max().unwrap_or(1), c.iter().map(|c| c.v).max().unwrap_or(1))
    }

    fn pixels(&self) -> Result<(usize, usize, Vec<u8>)> {
        let (hmax, vmax) = self.sampling();
        let mut planes = Vec::new();
        for c in &self.components {
            let Some(quant) = &self.quants[c.quant] else { bail!(invalid, "a quantisation table is missing") };
            let stride = c.blocks_w * 8;
            let mut samples = vec![0u8; stride * c.blocks_h * 8];
            for (b, block) in c.coefficients.chunks_exact(64).enumerate() {
                let at = (b / c.blocks_w) * 8 * stride + b % c.blocks_w * 8;
                inverse_dct(block, quant, &mut samples[at..], stride);
            }
            planes.push(upsample(
                c,
                &samples,
                stride,
                (hmax / c.h, vmax / c.v),
                (hmax % c.h, vmax % c.v),
                self.width,
                self.height,
            )?);
        }
        let n = self.width * self.height;
        let mut out = Vec::with_capacity(n * 3);
        match &planes[..] {
            [y] => y.iter().for_each(|&y| out.extend([y; 3])),
            [a, b, c] if self.is_rgb() => (0..n).for_each(|i| out.extend([a[i], b[i], c[i]])),
            [y, cb, cr] => (0..n).for_each(|i| out.extend(rgb(y[i], cb[i], cr[i]))),
            _ => bail!(bug, "a JPEG picture of {} components", planes.len()),
        }
        Ok((self.width, self.height, out))
    }

    fn is_rgb(&self) -> bool {
        let ids: Vec<u8> = self.components.iter().map(|c| c.id).collect();
        match self.adobe {
            Some(transform) if !self.jfif => transform == 0,
            _ => !self.jfif && ids == *b"RGB",
        }
    }
}

/// The reader after the next restart marker.
fn restarted(data: &[u8], from: usize) -> Bits<'_> {
    let marker = |i: &usize| data[*i] == 0xff && data.get(i + 1).is_some_and(|m| (0xd0..=0xd7).contains(m));
    let at = (from..data.len()).find(marker).map_or(data.len(), |i| i + 2);
    Bits { bytes: data, at, hold: 0, count: 0 }
}

fn baseline(bits: &mut Bits, block: &mut [i16], predicted: &mut i32, dc: &Huffman, ac: &Huffman) -> Result<()> {
    let n = bits.symbol(dc)? as u32;
    *predicted = predicted.wrapping_add(bits.signed(n.min(16)));
    block[0] = *predicted as i16;
    let mut k = 1;
    while k < 64 {
        let s = bits.symbol(ac)?;
        let (skip, n) = ((s >> 4) as usize, (s & 15) as u32);
        if n == 0 {
            if skip != 15 {
                break;
            }
            k += 16;
            continue;
        }
        k += skip;
        let value = bits.signed(n) as i16;
        if let Some(&to) = ZIGZAG.get(k) {
            block[to as usize] = value;
        }
        k += 1;
    }
    Ok(())
}

fn progressive_dc(
    bits: &mut Bits,
    block: &mut [i16],
    predicted: &mut i32,
    dc: Option<&Huffman>,
    scan: Scan,
) -> Result<()> {
    if scan.high > 0 {
        block[0] |= (bits.take(1) << scan.low) as i16;
        return Ok(());
    }
    let n = bits.symbol(dc.ok_or_else(|| Error::invalid("a Huffman table is missing"))?)? as u32;
    *predicted = predicted.wrapping_add(bits.signed(n.min(16)));
    block[0] = (*predicted << scan.low) as i16;
    Ok(())
}

fn progressive_first(bits: &mut Bits, block: &mut [i16], run: &mut i32, ac: &Huffman, scan: Scan) -> Result<()> {
    if *run > 0 {
        *run -= 1;
        return Ok(());
    }
    let mut k = scan.first;
    while k <= scan.last {
        let s = bits.symbol(ac)?;
        let (skip, n) = ((s >> 4) as usize, (s & 15) as u32);
        if n == 0 {
            if skip != 15 {
                *run = (1 << skip) - 1 + bits.take(skip as u32);
                break;
            }
            k += 16;
            continue;
        }
        k += skip;
        let value = (bits.signed(n) << scan.low) as i16;
        if let Some(&to) = ZIGZAG.get(k) {
            block[to as usize] = value;
        }
        k += 1;
    }
    Ok(())
}

/// One more bit of what is not zero yet, and new values of one unit.
fn progressive_refine(bits: &mut Bits, block: &mut [i16], run: &mut i32, ac: &Huffman, scan: Scan) -> Result<()> {
    let unit = 1i16 << scan.low;
    let refine = |bits: &mut Bits, v: &mut i16| {
        if bits.take(1) == 1 && *v & unit == 0 {
            *v = v.wrapping_add(if *v >= 0 { unit } else { -unit });
        }
    };
    let mut k = scan.first;
    if *run == 0 {
        while k <= scan.last {
            let s = bits.symbol(ac)?;
            let (mut skip, n) = ((s >> 4) as i32, s & 15);
            let mut value = 0;
            if n != 0 {
                value = if bits.take(1) == 1 { unit } else { -unit };
            } else if skip != 15 {
                *run = (1 << skip) + bits.take(skip as u32);
                break;
            }
            while k <= scan.last {
                let v = &mut block[ZIGZAG[k] as usize];
                k += 1;
                if *v != 0 {
                    refine(bits, v);
                } else if skip == 0 {
                    *v = value;
                    break;
                } else {
                    skip -= 1;
                }
            }
        }
    }
    if *run > 0 {
        for &to in &ZIGZAG[k..=scan.last] {
            let v = &mut block[to as usize];
            if *v != 0 {
                refine(bits, v);
            }
        }
        *run -= 1;
    }
    Ok(())
}

/// Loeffler, Ligtenberg and Moschytz in 13-bit fixed point; columns first, then rows.
fn inverse_dct(block: &[i16], quant: &[u16; 64], out: &mut [u8], stride: usize) {
    let mut table = [0i32; 64];
    for (i, &q) in quant.iter().enumerate() {
        table[ZIGZAG[i] as usize] = q as i32;
    }
    let mut work = [0i32; 64];
    for c in 0..8 {
        let column = std::array::from_fn(|r| (block[r * 8 + c] as i32).wrapping_mul(table[r * 8 + c]));
        let result = dct_line(column, 11);
        (0..8).for_each(|r| work[r * 8 + c] = result[r]);
    }
    for r in 0..8 {
        let line = dct_line(std::array::from_fn(|c| work[r * 8 + c]), 18);
        for (c, v) in line.into_iter().enumerate() {
            out[r * stride + c] = v.saturating_add(128).clamp(0, 255) as u8;
        }
    }
}

/// One line of eight, divided by 2^`shift` with rounding.
fn dct_line(x: [i32; 8], shift: u32) -> [i32; 8] {
    let x = x.map(i64::from);
    let (z2, z3) = (x[2], x[6]);
    let z1 = (z2 + z3) * 4433;
    let (t2, t3) = (z1 - z3 * 15137, z1 + z2 * 6270);
    let (t0, t1) = ((x[0] + x[4]) << 13, (x[0] - x[4]) << 13);
    let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];
    let [t0, t1, t2, t3] = [x[7], x[5], x[3], x[1]];
    let z5 = (t0 + t2 + t1 + t3) * 9633;
    let (z1, z2) = ((t0 + t3) * -7373, (t1 + t2) * -20995);
    let (z3, z4) = ((t0 + t2) * -16069 + z5, (t1 + t3) * -3196 + z5);
    let odd = [t3 * 12299 + z1 + z4, t2 * 25172 + z2 + z3, t1 * 16819 + z2 + z4, t0 * 2446 + z1 + z3];
    let round = |v: i64| ((v + (1 << (shift - 1))) >> shift) as i32;
    std::array::from_fn(|i| if i < 4 { round(even[i] + odd[i]) } else { round(even[7 - i] - odd[7 - i]) })
}

/// A component in the size of the picture: by a triangle filter where it has half the samples, else by repetition.
fn upsample(
    c: &Component,
    samples: &[u8],
    stride: usize,
    (h, v): (usize, usize),
    rest: (usize, usize),
    width: usize,
    height: usize,
) -> Result<Vec<u8>> {
    if rest != (0, 0) {
        bail!(unsupported, "a JPEG picture with fractional chroma sampling");
    }
    let row = |y: usize| &samples[y.min(c.height - 1) * stride..][..c.width];
    let smooth_h = h == 2 && c.width > 2;
    let mut out = Vec::with_capacity(width * height);
    for y in 0..height {
        let at = y / v;
        // The neighbour that is nearer to this row.
        let other = if y % v == 0 { at.saturating_sub(1) } else { at + 1 };
        let (near, far) = (row(at), row(other));
        let line: Vec<u8> = match (h, v) {
            (1, 1) => near.to_vec(),
            (2, 1) if smooth_h => triangle(&near.iter().map(|&s| s as u32).collect::<Vec<_>>(), [1, 2], 2),
            (2, 2) if smooth_h => {
                let sums: Vec<u32> = near.iter().zip(far).map(|(&n, &f)| n as u32 * 3 + f as u32).collect();
                triangle(&sums, [8, 7], 4)
            }
            (1, 2) => {
                let bias = if y % 2 == 0 { 1 } else { 2 };
                near.iter().zip(far).map(|(&n, &f)| ((n as u32 * 3 + f as u32 + bias) >> 2) as u8).collect()
            }
            _ => near.iter().flat_map(|&s| std::iter::repeat_n(s, h)).collect(),
        };
        out.extend_from_slice(&line[..width]);
    }
    Ok(out)
}

/// Two samples for each: three quarters of it and one of the neighbour. `bias` is that of the left and right one.
fn triangle(x: &[u32], bias: [u32; 2], shift: u32) -> Vec<u8> {
    let last = x.len() - 1;
    let mix = |i: usize, j: usize, bias: u32| ((x[i] * 3 + x[j] + bias) >> shift) as u8;
    (0..x.len()).flat_map(|i| [mix(i, i.saturating_sub(1), bias[0]), mix(i, (i + 1).min(last), bias[1])]).collect()
}

fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (y as i32, cb as i32 - 128, cr as i32 - 128);
    let half = 1 << 15;
    let red = y + ((91881 * cr + half) >> 16);
    let green = y + ((-22554 * cb - 46802 * cr + half) >> 16);
    let blue = y + ((116130 * cb + half) >> 16);
    [red, green, blue].map(|v| v.clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(w: u32, h: u32) -> Vec<u8> {
        let picture = image::RgbImage::from_fn(w, h, |x, y| image::Rgb([(x * 9) as u8, (y * 7) as u8, (x * y) as u8]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn agrees_with_another_decoder_to_rounding() {
        for (w, h) in [(1, 1), (8, 8), (17, 9), (40, 33)] {
            let bytes = encoded(w, h);
            let (gw, gh, got) = decode(&bytes).unwrap().unwrap();
            assert_eq!((gw, gh), (w as usize, h as usize));
            let want = image::load_from_memory(&bytes).unwrap().into_rgb8().into_raw();
            let worst = got.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(worst <= 3, "{w}x{h}: {worst}");
        }
    }

    #[test]
    fn damaged_files_are_errors_or_pictures_never_panics() {
        let good = encoded(24, 20);
        for cut in 0..good.len() {
            let _ = decode(&good[..cut]);
        }
        let mut state = 1u64;
        for _ in 0..4000 {
            let mut bytes = good.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (state >> 33) as usize % bytes.len();
                bytes[at] = (state >> 20) as u8;
            }
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_size_that_the_file_cannot_hold_is_refused() {
        let mut bytes = encoded(8, 8);
        let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
        bytes[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
        assert!(decode(&bytes).is_err());
    }
}
