use super::*;

/// Every operation of a tier on awkward values, against plain Rust.
fn check<S: Simd>(s: S, lanes: usize) {
    let xs = [0.0, -0.0, 1.5, 2.5, -2.5, 1e-40, 3e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -7.25, 65519.0, 1e-7];
    let put = |v: S::F| {
        let mut out = [0.0f32; 16];
        // SAFETY: no tier has more than 16 lanes.
        unsafe { s.store(out.as_mut_ptr(), v) };
        out[0]
    };
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    let truth = |m: S::M| put(s.blend(m, s.splat(1.0), s.splat(0.0))) == 1.0;
    for x in xs {
        let v = s.splat(x);
        assert!(same(put(s.abs(v)), x.abs()));
        assert!(same(put(s.neg(v)), -x));
        assert!(same(put(s.floor(v)), x.floor()));
        assert!(same(put(s.ceil(v)), x.ceil()));
        assert!(same(put(s.round(v)), x.round_ties_even()), "{x}");
        assert!(same(put(s.sqrt(v)), x.sqrt()));
        for y in xs {
            let w = s.splat(y);
            assert!(same(put(s.add(v, w)), x + y));
            assert!(same(put(s.div(v, w)), x / y));
            assert!(same(put(s.min(v, w)), if x < y { x } else { y }));
            assert!(same(put(s.max(v, w)), if x > y { x } else { y }));
            assert_eq!(truth(s.lt(v, w)), x < y);
            assert_eq!(truth(s.le(v, w)), x <= y);
            assert_eq!(truth(s.eq(v, w)), x == y);
            assert_eq!(truth(s.or(s.lt(v, w), s.not(s.le(v, w)))), x != y);
        }
        let mut half = [0u16; 16];
        // SAFETY: 16 values are enough for every tier.
        unsafe { s.store_f16(half.as_mut_ptr(), v) };
        assert!(same(half::f16::from_bits(half[0]).to_f32(), half::f16::from_f32(x).to_f32()), "{x} to f16");
        // SAFETY: as above.
        assert!(same(put(unsafe { s.load_f16(half.as_ptr()) }), half::f16::from_bits(half[0]).to_f32()));
        // SAFETY: as above.
        unsafe { s.store_bf16(half.as_mut_ptr(), v) };
        assert!(same(half::bf16::from_bits(half[0]).to_f32(), half::bf16::from_f32(x).to_f32()), "{x} to bf16");
        assert_eq!(half[lanes - 1], half[0]);
        // SAFETY: as above.
        assert!(same(put(unsafe { s.load_bf16(half.as_ptr()) }), half::bf16::from_bits(half[0]).to_f32()));
    }
    for n in 0..=lanes + 1 {
        let data: Vec<f32> = (0..lanes).map(|i| i as f32 + 1.0).collect();
        let mut out = vec![-1.0f32; lanes];
        // SAFETY: `lanes` floats on both sides.
        unsafe { s.store_mask(out.as_mut_ptr(), s.load(data.as_ptr()), s.first(n)) };
        for (i, &v) in out.iter().enumerate() {
            assert_eq!(v, if i < n { data[i] } else { -1.0 });
        }
        // SAFETY: as above.
        let v = unsafe { s.load_mask(data.as_ptr(), s.first(n)) };
        let n = n.min(lanes);
        assert_eq!(s.sum(v), (n * (n + 1) / 2) as f32);
        assert_eq!(s.max_lane(v), n as f32);
        assert_eq!(s.min_lane(s.neg(v)), -(n as f32));
    }
    for i in [-300, -1, 0, 1, 77, 4000] {
        let v = s.int_splat(i);
        assert_eq!(put(s.int_to_float(v)), i as f32);
        assert_eq!(put(s.int_to_float(s.to_int(s.splat(i as f32 + 0.25)))), i as f32);
        assert_eq!(put(s.int_to_float(s.int_sar::<1>(v))), (i >> 1) as f32);
        assert_eq!(put(s.int_to_float(s.int_shl::<3>(v))), (i << 3) as f32);
        assert_eq!(put(s.int_to_float(s.int_and(v, s.int_splat(0xff)))), (i & 0xff) as f32);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn check_avx2() {
    // SAFETY: the caller checked the CPU.
    check(unsafe { Avx2::assume() }, 8);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
unsafe fn check_avx512() {
    // SAFETY: the caller checked the CPU.
    check(unsafe { Avx512::assume() }, 16);
}

#[test]
fn operations_agree_with_plain_rust() {
    for isa in Isa::all_available() {
        // SAFETY: only tiers of this CPU.
        unsafe {
            match isa {
                Isa::Portable => check(Portable::assume(), 8),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => check_avx2(),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => check_avx512(),
                #[cfg(not(target_arch = "x86_64"))]
                _ => {}
            }
        }
    }
}

#[test]
fn names_round_trip() {
    for isa in Isa::ALL {
        assert_eq!(Isa::from_name(isa.name()), Some(isa));
    }
    assert!(Isa::Portable.available());
}
