//! <https://onnx.ai/onnx/operators/onnx__TfIdfVectorizer.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};
use std::collections::HashMap;

/// Counts n-grams of the pool in each row, skips allowed, and weighs them.
pub const OP: OpDef = OpDef::new("TfIdfVectorizer", &[9], 1..=1, infer, eval).examples(&[(
    "(i64[4] x) { y = TfIdfVectorizer<mode=\"TF\", min_gram_length=1, max_gram_length=2, max_skip_count=0,
        ngram_counts=[0, 2], ngram_indexes=[0, 1, 2], pool_int64s=[2, 3, 2, 3]>(x) } => y",
    &["x = 2 3 3 2"],
    "2 2 1",
)]);

fn indexes(attrs: &Attrs) -> Result<(&[i64], usize)> {
    let list = attrs.ints("ngram_indexes")?.ok_or_else(|| Error::invalid("`ngram_indexes` is missing"))?;
    match list.iter().max() {
        Some(&m) if list.iter().all(|&i| i >= 0) && m < 1 << 32 => Ok((list, m as usize + 1)),
        _ => bail!(invalid, "bad `ngram_indexes`"),
    }
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let width = Dim::from(indexes(ctx.attrs())?.1);
    let dims = match ctx.dims(0) {
        Some([_]) => Some(vec![width]),
        Some([n, _]) => Some(vec![n.clone(), width]),
        Some(other) => bail!(invalid, "the input should have one or two axes, found {other:?}"),
        None => None,
    };
    ctx.set(0, DType::F32, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, attrs) = (ctx.tensor(0)?, ctx.attrs());
    let (columns, width) = indexes(attrs)?;
    let words = |t: &Tensor| -> Result<Vec<String>> {
        match t.strings() {
            Some(s) => Ok(s.to_vec()),
            None => Ok(t.to_i64_vec()?.iter().map(i64::to_string).collect()),
        }
    };
    let pool: Vec<String> = match (attrs.get_strings("pool_strings")?, attrs.ints("pool_int64s")?) {
        (Some(s), _) if !s.is_empty() => s.clone(),
        (_, Some(i)) => i.iter().map(i64::to_string).collect(),
        _ => bail!(invalid, "the pool is missing"),
    };
    let length = |name: &str| -> Result<usize> {
        let n = attrs.get_int(name)?.copied().unwrap_or(-1);
        usize::try_from(n).map_err(|_| Error::invalid(format!("`{name}` is {n}")))
    };
    let (least, most, skips) = (length("min_gram_length")?, length("max_gram_length")?, length("max_skip_count")?);
    // Each n-gram of the pool and its column.
    let starts = attrs.ints_or("ngram_counts", &[])?;
    let mut grams: HashMap<&[String], usize> = HashMap::new();
    let mut id = 0;
    for (k, &start) in starts.iter().enumerate() {
        let end = starts.get(k + 1).copied().unwrap_or(pool.len() as i64);
        let (Ok(start), Ok(end)) = (usize::try_from(start), usize::try_from(end)) else {
            bail!(invalid, "bad `ngram_counts`");
        };
        let list = pool.get(start..end).ok_or_else(|| Error::invalid("`ngram_counts` reach beyond the pool"))?;
        for gram in list.chunks_exact(k + 1) {
            let column = *columns.get(id).ok_or_else(|| Error::invalid("too few `ngram_indexes`"))?;
            grams.entry(gram).or_insert(column as usize);
            id += 1;
        }
    }
    let (rows, len) = match *x.shape() {
        [n] => (1, n),
        [r, n] => (r, n),
        _ => bail!(invalid, "the input should have one or two axes, found {:?}", x.shape()),
    };
    let all = words(x)?;
    let mut counts = vec![0.0f64; crate::copy::checked_len(&[rows, width])?];
    for row in 0..rows {
        let line = &all[row * len..(row + 1) * len];
        for step in 1..=skips.saturating_add(1).min(len.max(1)) {
            for n in least.max(1)..=most.min(len) {
                // Single words do not depend on the skip.
                if n == 1 && step > 1 {
                    continue;
                }
                for start in 0..len {
                    if start + (n - 1) * step >= len {
                        break;
                    }
                    let gram: Vec<String> = (0..n).map(|k| line[start + k * step].clone()).collect();
                    if let Some(&c) = grams.get(&gram[..]) {
                        counts[row * width + c] += 1.0;
                    }
                }
            }
        }
    }
    let mut weights = vec![1.0; width];
    if let Some(list) = attrs.get_floats("weights")? {
        list.iter().zip(columns).for_each(|(&w, &c)| weights[c as usize] = w as f64);
    }
    let weigh: fn(f64, f64) -> f64 = match attrs.string_or("mode", "")? {
        "TF" => |count, _| count,
        "IDF" => |count, w| if count > 0.0 { w } else { 0.0 },
        "TFIDF" => |count, w| count * w,
        other => bail!(invalid, "the mode `{other}` is unknown"),
    };
    counts.iter_mut().enumerate().for_each(|(i, c)| *c = weigh(*c, weights[i % width]));
    let shape = if x.rank() == 1 { vec![width] } else { vec![rows, width] };
    Ok(vec![Tensor::from_f64(DType::F32, &shape, &counts)?.into()])
}
