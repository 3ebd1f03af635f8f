//! `oxrt doctor`

use crate::ui;
use oxrt::Result;
use oxrt::cuda::Gpu;
use std::process::ExitCode;

/// Shows what this machine offers: processor, caches, threads, measured ceilings
#[derive(clap::Args)]
#[command(after_help = "Example:\n  oxrt doctor --json")]
pub struct Args {
    /// Machine-readable report
    #[arg(long)]
    json: bool,
}

pub fn run(a: Args) -> Result<ExitCode> {
    let progress = ui::Progress::new();
    progress.stage("measuring ceilings");
    let ceilings = oxrt::measure_ceilings(0);
    progress.finish();
    let cpu = cpu_model();
    let features = features();
    let caches = caches();
    let threads = oxrt::cpu::pool::default_threads();
    let tier = oxrt::best_target();
    let bf16 = oxrt::cpu::CpuBackend::bf16_unit();
    let gpu = oxrt::cuda::Cuda::open(0).map(|gpu| (gpu.name(), gpu.arch(), gpu.libraries()));
    if a.json {
        ui::print_json(&serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"), "cpu": cpu, "features": features, "caches": caches, "threads": threads,
            "tier": tier, "bf16_unit": bf16,
            "gflop_per_s": ceilings.gflops, "bf16_gflop_per_s": ceilings.bf16_gflops, "gb_per_s": ceilings.gb_per_s, "cuda": gpu.as_ref().ok().map(|(name, arch, libraries)| serde_json::json!({ "name": name, "arch": arch, "libraries": libraries })),
            "cuda_error": gpu.as_ref().err().map(ToString::to_string),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("oxrt {}", env!("CARGO_PKG_VERSION"));
    println!("  processor   {cpu}");
    println!("  features    {}", features.join(" "));
    println!("  caches      {}", caches.join(", "));
    println!("  threads     {threads} (affinity and cgroup quota)");
    println!("  kernel tier {tier}");
    match (bf16, ceilings.bf16_gflops) {
        (Some(unit), Some(peak)) => println!("  bfloat16    {unit}, {peak:.0} GFLOP/s (`--precision bf16`)"),
        _ => println!("  bfloat16    no unit: `--precision bf16` computes in fp32"),
    }
    println!(
        "  ceilings    {:.0} GFLOP/s fp32, {:.1} GB/s read (measured just now)",
        ceilings.gflops, ceilings.gb_per_s
    );
    match &gpu {
        Ok((name, arch, libraries)) => {
            println!("  CUDA        {name}, compute capability {}.{}", arch / 10, arch % 10);
            let found = if libraries.is_empty() { "none" } else { &libraries.join(", ") };
            println!("  libraries   {found} (of cuBLASLt and cuDNN 9, whose kernels compete with ours)");
        }
        Err(e) => println!("  CUDA        {e}"),
    }
    if tier == "portable" {
        println!("  missing     AVX2 and FMA: everything runs in the slow portable tier");
    }
    Ok(ExitCode::SUCCESS)
}

fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|l| l.starts_with("model name"));
    line.and_then(|l| l.split(':').nth(1)).map_or(std::env::consts::ARCH.to_string(), |s| s.trim().to_string())
}

fn features() -> Vec<String> {
    let wanted = [
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512_vnni",
        "avx512_bf16",
        "avx512_fp16",
        "amx_tile",
        "amx_bf16",
        "amx_int8",
    ];
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find(|l| l.starts_with("flags")).unwrap_or_default();
    let have: Vec<&str> = flags.split_whitespace().collect();
    wanted.iter().filter(|w| have.contains(w)).map(|s| s.to_string()).collect()
}

fn caches() -> Vec<String> {
    let read =
        |i: usize, f: &str| std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{i}/{f}")).ok();
    (0..8)
        .filter_map(|i| {
            let (level, kind, size) = (read(i, "level")?, read(i, "type")?, read(i, "size")?);
            Some(format!("L{} {} {}", level.trim(), kind.trim().to_lowercase(), size.trim()))
        })
        .collect()
}
