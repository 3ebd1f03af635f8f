//! Moves elements of any type, strings and packed ones included, by their offsets.

use oxrt_tensor::{DType, Result, Tensor, bail, num_elements, strides_of};

/// Elements of `shape`, checked against what one evaluation may take.
pub fn checked_len(shape: &[usize]) -> Result<usize> {
    let n = num_elements(shape)?;
    if n > 1 << 31 {
        bail!(invalid, "a result of shape {shape:?} is too large");
    }
    Ok(n)
}

/// A tensor of `shape` whose elements lie at (source, offset), in order. The sources have one type.
pub fn assemble(
    sources: &[&Tensor],
    shape: &[usize],
    places: impl IntoIterator<Item = (usize, usize)>,
) -> Result<Tensor> {
    let dtype = sources[0].dtype();
    if let Some(other) = sources.iter().find(|t| t.dtype() != dtype) {
        bail!(invalid, "elements of {dtype} and of {} do not mix", other.dtype());
    }
    let n = checked_len(shape)?;
    if sources[0].strings().is_some() {
        let all: Vec<&[String]> = sources.iter().map(|t| t.strings().unwrap_or_default()).collect();
        return Tensor::from_strings(shape, places.into_iter().map(|(s, i)| all[s][i].clone()).collect());
    }
    let bytes: Vec<&[u8]> = sources.iter().map(|t| t.bytes()).collect();
    let out = match dtype.size() {
        Some(1) => gather::<1>(&bytes, n, places)?,
        Some(2) => gather::<2>(&bytes, n, places)?,
        Some(4) => gather::<4>(&bytes, n, places)?,
        Some(8) => gather::<8>(&bytes, n, places)?,
        Some(16) => gather::<16>(&bytes, n, places)?,
        _ => {
            let codes: Vec<Vec<u8>> = sources.iter().map(|t| unpack(t)).collect();
            pack(dtype, places.into_iter().map(|(s, i)| codes[s][i]))
        }
    };
    Tensor::from_bytes(dtype, shape, &out)
}

fn gather<const N: usize>(
    sources: &[&[u8]],
    n: usize,
    places: impl IntoIterator<Item = (usize, usize)>,
) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    // The shape may come from a file that asks for more than there is.
    let room = n.checked_mul(N).is_some_and(|bytes| out.try_reserve_exact(bytes).is_ok());
    if !room {
        bail!(invalid, "no memory for {n} elements of {N} bytes");
    }
    for (s, i) in places {
        out.extend_from_slice(&sources[s][i * N..(i + 1) * N]);
    }
    Ok(out)
}

/// Codes of packed elements, one per byte.
fn unpack(t: &Tensor) -> Vec<u8> {
    let bits = t.dtype().bits();
    let mask = (1u8 << bits) - 1;
    t.bytes().iter().flat_map(|b| (0..8 / bits).map(move |k| b >> (k * bits) & mask)).take(t.len()).collect()
}

fn pack(dtype: DType, codes: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let bits = dtype.bits();
    let mut out = Vec::new();
    for (i, code) in codes.into_iter().enumerate() {
        let at = i * bits % 8;
        if at == 0 {
            out.push(0);
        }
        if let Some(last) = out.last_mut() {
            *last |= code << at;
        }
    }
    out
}

/// A tensor of `shape` made of the elements of `x` at `offsets`.
pub fn select(x: &Tensor, shape: &[usize], offsets: impl IntoIterator<Item = usize>) -> Result<Tensor> {
    assemble(&[x], shape, offsets.into_iter().map(|i| (0, i)))
}

/// A tensor of `shape` made of runs of `run` elements of `x`, each from one of `starts`.
pub fn select_runs(x: &Tensor, shape: &[usize], starts: impl IntoIterator<Item = usize>, run: usize) -> Result<Tensor> {
    let starts = starts.into_iter();
    let Some(size) = x.dtype().size().filter(|_| run > 1 && x.strings().is_none()) else {
        return select(x, shape, starts.flat_map(|s| s..s + run));
    };
    checked_len(shape)?;
    let mut out = Tensor::try_zeros(x.dtype(), shape)?;
    for (to, start) in out.bytes_mut().chunks_exact_mut(run * size).zip(starts) {
        to.copy_from_slice(&x.bytes()[start * size..][..run * size]);
    }
    Ok(out)
}

/// `shape` filled with the one element of `value`.
pub fn fill(value: &Tensor, shape: &[usize]) -> Result<Tensor> {
    if value.len() != 1 {
        bail!(invalid, "one value fills a tensor, found {:?}", value.shape());
    }
    let n = checked_len(shape)?;
    select(value, shape, std::iter::repeat_n(0, n))
}

/// Offsets of a walk over `shape` in row-major order, with these strides and from `start`.
pub fn walk(shape: &[usize], strides: &[isize], start: usize) -> Result<Vec<usize>> {
    let n = checked_len(shape)?;
    let mut out = Vec::with_capacity(n);
    let mut index = vec![0usize; shape.len()];
    let mut at = start as isize;
    for _ in 0..n {
        out.push(at as usize);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            at += strides[d];
            if index[d] < shape[d] {
                break;
            }
            at -= strides[d] * shape[d] as isize;
            index[d] = 0;
        }
    }
    Ok(out)
}

/// Row-major strides as the walk takes them.
pub fn signed_strides(shape: &[usize]) -> Vec<isize> {
    strides_of(shape).into_iter().map(|s| s as isize).collect()
}

/// The axes of `x` in the order `perm`.
pub fn permute(x: &Tensor, perm: &[usize]) -> Result<Tensor> {
    if perm.iter().enumerate().all(|(i, &p)| i == p) {
        return Ok(x.clone());
    }
    let strides = signed_strides(x.shape());
    let shape: Vec<usize> = perm.iter().map(|&p| x.shape()[p]).collect();
    let order: Vec<isize> = perm.iter().map(|&p| strides[p]).collect();
    select(x, &shape, walk(&shape, &order, 0)?)
}

/// The order of axes that takes [N, C, spatial…] to [N, spatial…, C].
pub fn to_channels_last(rank: usize) -> Vec<usize> {
    if rank < 3 { (0..rank).collect() } else { std::iter::once(0).chain(2..rank).chain([1]).collect() }
}

/// The order of axes that takes [N, spatial…, C] to [N, C, spatial…].
pub fn to_channels_first(rank: usize) -> Vec<usize> {
    if rank < 3 { (0..rank).collect() } else { [0, rank - 1].into_iter().chain(1..rank - 1).collect() }
}

/// Elements of `x` picked axis by axis: at each position of the result, where it comes from along that
/// axis, or `None` for the one element of `fill`.
pub fn remap(x: &Tensor, fill: &Tensor, maps: &[Vec<Option<usize>>]) -> Result<Tensor> {
    let shape: Vec<usize> = maps.iter().map(Vec::len).collect();
    let n = checked_len(&shape)?;
    let (own, strides) = (strides_of(x.shape()), strides_of(&shape));
    let place = |i: usize| {
        let offset: Option<usize> =
            (0..shape.len()).map(|d| maps[d][i / strides[d] % shape[d]].map(|s| s * own[d])).sum();
        offset.map_or((1, 0), |o| (0, o))
    };
    assemble(&[x, fill], &shape, (0..n).map(place))
}

/// Tensors of one shape side by side along a new axis `at`.
pub fn stack(parts: &[Tensor], at: usize) -> Result<Tensor> {
    let Some(first) = parts.first() else { bail!(invalid, "nothing to stack") };
    if let Some(t) = parts.iter().find(|t| t.shape() != first.shape()) {
        bail!(invalid, "{:?} does not stack with {:?}", t.shape(), first.shape());
    }
    let inner: usize = first.shape()[at..].iter().product();
    let outer: usize = first.shape()[..at].iter().product();
    let mut shape = first.shape().to_vec();
    shape.insert(at, parts.len());
    let sources: Vec<&Tensor> = parts.iter().collect();
    let n = parts.len();
    let places = (0..outer).flat_map(|o| (0..n).flat_map(move |p| (0..inner).map(move |i| (p, o * inner + i))));
    assemble(&sources, &shape, places)
}

/// Tensors joined along `axis`; the other sizes agree.
pub fn concat(parts: &[&Tensor], axis: usize) -> Result<Tensor> {
    let Some(first) = parts.first() else { bail!(invalid, "nothing to concatenate") };
    let mut shape = first.shape().to_vec();
    shape[axis] = 0;
    for t in parts {
        if t.rank() != shape.len() || (0..shape.len()).any(|k| k != axis && t.shape()[k] != shape[k]) {
            bail!(invalid, "{:?} does not join {:?} on axis {axis}", t.shape(), first.shape());
        }
        shape[axis] += t.shape()[axis];
    }
    let outer: usize = shape[..axis].iter().product();
    let places = (0..outer).flat_map(|o| {
        parts.iter().enumerate().flat_map(move |(p, t)| {
            let run: usize = t.shape()[axis..].iter().product();
            (o * run..(o + 1) * run).map(move |i| (p, i))
        })
    });
    assemble(parts, &shape, places)
}

/// The slice at `i` of `axis`, without that axis.
pub fn take(x: &Tensor, axis: usize, i: usize) -> Result<Tensor> {
    let (outer, n, inner) = around(x.shape(), axis);
    let mut shape = x.shape().to_vec();
    shape.remove(axis);
    select(x, &shape, (0..outer).flat_map(|o| (o * n + i) * inner..(o * n + i + 1) * inner))
}

/// An index into an axis of `size`; negative ones count from the end.
pub fn index(i: i64, size: usize) -> Result<usize> {
    let at = if i < 0 { i.checked_add(size as i64) } else { Some(i) };
    match at.and_then(|a| usize::try_from(a).ok()).filter(|&a| a < size) {
        Some(at) => Ok(at),
        None => bail!(invalid, "the index {i} is outside an axis of size {size}"),
    }
}

/// Product of the sizes before, at, and after `axis`.
pub fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// `data` with `updates[i]` written, or combined by `reduction`, at the offset `targets[i]`.
pub fn scatter(data: &Tensor, updates: &Tensor, targets: &[usize], reduction: &str) -> Result<Tensor> {
    if data.dtype() != updates.dtype() {
        bail!(invalid, "updates of {} for data of {}", updates.dtype(), data.dtype());
    }
    if reduction == "none" {
        let mut places: Vec<(usize, usize)> = (0..data.len()).map(|i| (0, i)).collect();
        targets.iter().enumerate().for_each(|(u, &t)| places[t] = (1, u));
        return assemble(&[data, updates], data.shape(), places);
    }
    if data.dtype().is_int() {
        let combine: fn(i64, i64) -> i64 = match reduction {
            "add" => i64::wrapping_add,
            "mul" => i64::wrapping_mul,
            "max" if data.dtype() == DType::U64 => |a, b| (a as u64).max(b as u64) as i64,
            "min" if data.dtype() == DType::U64 => |a, b| (a as u64).min(b as u64) as i64,
            "max" => std::cmp::max,
            "min" => std::cmp::min,
            other => bail!(invalid, "the reduction `{other}` is unknown"),
        };
        let (mut out, updates) = (data.to_i64_vec()?, updates.to_i64_vec()?);
        targets.iter().zip(updates).for_each(|(&t, u)| out[t] = combine(out[t], u));
        return Tensor::from_i64(data.dtype(), data.shape(), &out);
    }
    let combine: fn(f64, f64) -> f64 = match reduction {
        "add" => |a, b| a + b,
        "mul" => |a, b| a * b,
        "max" => |a, b| crate::scalar::binary_f64(crate::scalar::Binary::Max, a, b),
        "min" => |a, b| crate::scalar::binary_f64(crate::scalar::Binary::Min, a, b),
        other => bail!(invalid, "the reduction `{other}` is unknown"),
    };
    let (mut out, updates) = (data.to_f64_vec()?, updates.to_f64_vec()?);
    targets.iter().zip(updates).for_each(|(&t, u)| out[t] = combine(out[t], u));
    Tensor::from_f64(data.dtype(), data.shape(), &out)
}
